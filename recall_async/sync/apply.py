"""Applying a plan: its requests as a bulk job, without those for events that changed since it was made."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import blake2b

from ..bulk.actions import Action, Outcome
from ..limits.quota import Priority
from ..resources.calendar_events import CalendarEvents
from .decide import Decision
from .plan import Plan, watermark_of


async def due(plan: Plan, events: CalendarEvents, recheck: float | None) -> AsyncIterator[Action | Outcome]:
    """The requests of a plan, soonest event first; an event that changed since the plan was made has a skipped outcome.

    Changes are looked for at the start and every `recheck` seconds; with `None`, never. The outcome's `reason` says what
    changed, and the next plan decides anew.
    """
    changes = Changes(events, plan)
    clock = asyncio.get_running_loop().time
    looked = -math.inf
    for decision in plan:
        if recheck is not None and clock() - looked >= recheck:
            looked = clock()
            await changes.look()
        action = decision.action
        assert action is not None
        reason = changes.why_outdated(decision)
        yield action if reason is None else Outcome(action, None, None, 0, 0.0, reason)


def id_of(plan: Plan) -> str:
    """What tells one plan from another; an equal plan has the same."""
    return blake2b(plan.to_json().encode(), digest_size=8).hexdigest()


class Changes:
    """What became of a plan's events since it was made, for one listing now and then instead of a request for each."""

    def __init__(self, events: CalendarEvents, plan: Plan) -> None:
        self._events = events
        self._calendars: list[str | None] = [None]
        if plan.calendars is not None:
            self._calendars = [*sorted({decision.calendar_id for decision in plan})]
        self._since = plan.watermark or plan.made_at
        self._seen: dict[str, tuple[datetime, bool]] = {}

    async def look(self) -> None:
        """List what changed since the last look."""
        began, newest = datetime.now(UTC), self._since
        for calendar_id in self._calendars:
            listed = self._events.list(calendar_id=calendar_id, updated_at__gte=self._since, priority=Priority.BULK)
            async for event in listed:
                self._seen[event.id] = event.updated_at, event.is_deleted
                newest = max(newest, event.updated_at)
        self._since = max(self._since, watermark_of(newest, began))

    def why_outdated(self, decision: Decision) -> str | None:
        """Why a decision is out of date; `None` if it is not, as far as was seen."""
        updated_at, is_deleted = self._seen.get(decision.event_id, (decision.updated_at, False))
        if updated_at <= decision.updated_at:
            return None
        change = "was deleted" if is_deleted else "changed"
        return f"the event {change} at {updated_at.isoformat()}, after the plan was made: plan anew"
