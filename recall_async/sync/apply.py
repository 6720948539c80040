"""Applying a plan: its requests as a bulk job, without those for events that changed since it was made."""

from __future__ import annotations

import asyncio
import math
import os
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime

from ..bulk.actions import Action, Outcome
from ..bulk.journal import Journal
from ..bulk.progress import Progress
from ..bulk.run import BulkRun
from ..caller import Caller
from ..errors import ConfigurationError
from ..limits.quota import Priority
from ..resources.calendar_events import CalendarEvents
from .decide import Decision
from .plan import Plan, watermark_of


class ApplyRun(BulkRun):
    """The outcomes of a plan, one for each request, as each is finished.

    An event that changed since it was looked at is skipped: its outcome's `reason` says so, and the next plan decides anew.
    """

    def __init__(
        self,
        caller: Caller,
        plan: Plan,
        *,
        concurrency: int | None = None,
        journal: Journal | str | os.PathLike[str] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        recheck: float | None,
    ) -> None:
        if not isinstance(plan, Plan):
            raise ConfigurationError(f"plan is a {type(plan).__name__}: it is what RecallSession.plan made")
        if recheck is not None and not recheck > 0:
            raise ConfigurationError(f"recheck is {recheck!r}: it is a number of seconds above 0, or None")
        self._outdated: deque[Outcome] = deque()
        requests = _Requests(caller, plan, recheck, self._outdated)
        super().__init__(caller, requests, concurrency=concurrency, journal=journal, on_progress=on_progress)

    async def __anext__(self) -> Outcome:
        if self._outdated:
            return self._handed_out(self._outdated.popleft())
        try:
            return await super().__anext__()
        except StopAsyncIteration:
            if self._outdated:
                return self._handed_out(self._outdated.popleft())
            raise

    def _handed_out(self, outcome: Outcome) -> Outcome:
        self._tally.count(outcome, self._now())
        if self._on_progress is not None:
            self._on_progress(self.progress)
        return outcome


class _Requests:
    """The actions of a plan, soonest event first; those that are out of date become outcomes instead."""

    def __init__(self, caller: Caller, plan: Plan, recheck: float | None, outdated: deque[Outcome]) -> None:
        self._changes = Changes(CalendarEvents(caller), plan)
        self._decisions = list(plan)
        self._recheck = recheck
        self._outdated = outdated

    def __len__(self) -> int:
        return len(self._decisions)

    async def __aiter__(self) -> AsyncIterator[Action]:
        clock = asyncio.get_running_loop().time
        looked = -math.inf
        for decision in self._decisions:
            if self._recheck is not None and clock() - looked >= self._recheck:
                looked = clock()
                await self._changes.look()
            action = decision.action
            assert action is not None
            if (reason := self._changes.since(decision)) is None:
                yield action
            else:
                self._outdated.append(Outcome(action, None, None, 0, 0.0, reason))


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

    def since(self, decision: Decision) -> str | None:
        """Why a decision is out of date; `None` if it is not, as far as was seen."""
        updated_at, is_deleted = self._seen.get(decision.event_id, (decision.updated_at, False))
        if updated_at <= decision.updated_at:
            return None
        change = "was deleted" if is_deleted else "changed"
        return f"the event {change} at {updated_at.isoformat()}, after the plan was made: plan anew"
