"""A policy for a `CalendarSyncer`: an exception for one event does not end the sync of the others."""

from __future__ import annotations

import asyncio
from typing import Any

from ..models import Calendar, CalendarEvent
from ..stopping import is_being_cancelled
from .policy import UNDECIDED, BotSpec, Policy, Undecided, ask


class GuardedPolicy:
    """Asks a policy. If it raises for an event, the exception goes into `failures`, and the event is undecided."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.lead_time: Any = getattr(policy, "lead_time", 0.0)
        self.deduplication: Any = getattr(policy, "deduplication", None)
        self.failures: dict[str, Exception] = {}

    async def __call__(self, event: CalendarEvent, calendar: Calendar) -> BotSpec | Undecided | None:
        try:
            spec = await ask(self._policy, event, calendar)
        except Exception as error:  # noqa: BLE001  # a policy may raise anything: the syncer logs it
            self.failures[event.id] = error
            return UNDECIDED
        except asyncio.CancelledError as error:
            if is_being_cancelled():
                raise
            self.failures[event.id] = failure = RuntimeError("the policy raised CancelledError")
            failure.__cause__ = error
            return UNDECIDED
        self.failures.pop(event.id, None)
        return spec
