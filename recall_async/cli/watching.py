"""Jobs in Redis as a terminal shows them: a worker's own progress, and the pace of a job on all its workers."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from .drawing import Display
from .failures import Failures
from .text import duration

if TYPE_CHECKING:
    from ..bulk.actions import Outcome
    from ..bulk.progress import Tally
    from ..jobs import JobStatus
    from ..session import RecallSession

RECENT = 30.0
"""Seconds over which the pace of a job is measured."""


class WatchedWork:
    """Show what a worker does while it works. Use it with `async with`."""

    def __init__(self, session: RecallSession, shown: Display) -> None:
        self.failures: Failures = Failures()
        self._session = session
        self._display = shown
        self._tally: Tally | None = None
        self._watch: asyncio.Task[None] | None = None

    def add(self, outcome: Outcome) -> None:
        """Count a finished action."""
        if self._tally is not None:
            self._tally.count(outcome, asyncio.get_running_loop().time())
        if outcome.status == "failed" and outcome.error is not None:
            self.failures.add(str(outcome.action.event_id), outcome.error)

    async def __aenter__(self) -> Self:
        from ..bulk.progress import Tally

        self._tally = Tally(None)
        self._watch = asyncio.create_task(self._look_again())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(self._display.interval)
            if self._tally is not None:
                statistics = self._session.statistics()
                now = asyncio.get_running_loop().time()
                self._display.update(self._tally.progress(now, statistics.__getitem__, outage=self._session.outage()))


class Pace:
    """The pace of a job, measured from its status now and then."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, status: JobStatus, now: float) -> None:
        """Record the status of the job at `now`, in seconds of a monotonic clock."""
        self._seen.append((now, status.done + status.failed + status.skipped))
        while len(self._seen) > 2 and now - self._seen[0][0] > RECENT:
            self._seen.popleft()

    def text(self, status: JobStatus) -> str:
        """Return the rate and the time left at this rate as text, empty while they are unknown."""
        (before, then), (now, here) = self._seen[0], self._seen[-1]
        if status.finished or now <= before or here <= then:
            return ""
        rate = (here - then) / (now - before)
        return f", {rate:.1f}/s, {duration((status.total - here) / rate)} left"
