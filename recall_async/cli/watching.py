"""Jobs in Redis as a terminal shows them: a worker's own progress, and the pace of a job on all its workers."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from ..bulk.progress import Progress, Tally
from .failures import Failures
from .text import duration

if TYPE_CHECKING:
    from ..bulk.actions import Outcome
    from ..jobs import JobStatus
    from ..session import RecallSession

RECENT = 30.0
"""Seconds over which the pace of a job is measured."""


class Worker:
    """What this worker has done."""

    def __init__(self, session: RecallSession) -> None:
        self.failures: Failures = Failures()
        self._session = session
        self._tally = Tally(None)

    def add(self, outcome: Outcome) -> None:
        """Count a finished action."""
        self._tally.count(outcome, asyncio.get_running_loop().time())
        self.failures.note(outcome)

    def progress(self) -> Progress:
        """Return how far it is."""
        statistics, now = self._session.statistics(), asyncio.get_running_loop().time()
        return self._tally.progress(now, statistics.__getitem__, outage=self._session.outage())


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
