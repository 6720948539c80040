"""A worker's lease of a chunk: renew it, and report finished actions to Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..limits.loops import lease_time
from ..stopping import Stopped, StopSignal, wait_at_most
from .contract import JobError
from .store import Chunk, Ending, JobStore, Report

BATCH_DELAY = 0.1
"""Seconds for which outcomes are collected before they are written."""
MAX_BATCH = 500
"""The most outcomes in one write."""
LOOK_AFTER = 2.0
"""Seconds after which a worker without outcomes asks whether the job was cancelled."""
FIRST_LOOK = 0.25
"""The same for a new chunk, so that a worker that dies in an outage has reported the outage."""


class Lease(StopSignal):
    """A worker's right to perform the actions of a chunk. Losing the lease sets the signal, which stops all requests.

    A request is sent only while the lease certainly holds: after a suspension, the worker asks Redis first.

    `is_outage` returns whether the API is unavailable: a worker that dies then does not count against the chunk.
    """

    def __init__(self, store: JobStore, chunk: Chunk, follows: StopSignal, *, is_outage: Callable[[], bool]) -> None:
        super().__init__(follows)
        self._is_outage = is_outage
        self.chunk = chunk
        self.over: bool = False
        """True after the lease was lost: another worker may hold the chunk, or the job was cancelled."""
        self.remaining: set[int] = set(chunk.actions)
        """Numbers of the actions without an outcome."""
        self._store = store
        self._reports: list[Report] = []
        self._changed = asyncio.Event()
        self._ending = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._sure_until = chunk.asked_at + store.lease

    def may_send(self) -> bool:
        """Return whether the lease certainly holds."""
        return super().may_send() and lease_time() < self._sure_until

    async def confirm(self) -> None:
        """Wait until the lease certainly holds. Raises `Stopped` if it is lost, `JobError` without Redis."""
        await super().confirm()
        if lease_time() >= self._sure_until:
            await self._report("renew")
        if self.is_set:
            raise Stopped

    def finished(self, report: Report) -> None:
        """Record a finished action, to be written with the next report."""
        self.remaining.discard(report.number)
        self._reports.append(report)
        self._changed.set()

    async def keep(self) -> None:
        """Renew the lease and write outcomes until `end`. Raises `JobError` if Redis does not respond for too long."""
        look_after = FIRST_LOOK
        try:
            while not self._ending.is_set():
                await wait_at_most(self._changed, min(self._store.lease / 3, look_after))
                look_after = LOOK_AFTER
                await wait_at_most(self._ending, min(self._store.lease / 3, BATCH_DELAY))
                self._changed.clear()
                if not self._ending.is_set():
                    await self._report("renew")
        except Exception:
            self._lose()
            raise

    def end(self) -> None:
        """Make `keep` return."""
        self._ending.set()
        self._changed.set()

    async def close(self, *, patience: float | None = None) -> bool:
        """Settle the chunk if all its actions are finished, otherwise release it. Return whether it was settled."""
        while len(self._reports) > MAX_BATCH:
            await self._report("renew", patience=patience)
        return await self._report("release" if self.remaining else "settle", patience=patience) and not self.remaining

    async def _report(self, what: Ending, *, patience: float | None = None) -> bool:
        async with self._one_at_a_time:
            reports, at = self._reports[:MAX_BATCH], lease_time()
            standing = await self._store.report(self.chunk, reports, what, excused=self._is_outage(), patience=patience)
            del self._reports[: len(reports)]
        if standing == "held":
            self._sure_until = at + self._store.lease
            return True
        self._lose()
        if standing == "gone":
            raise JobError(f"Redis has lost the job {self.chunk.job!r} and its results: submit it again")
        return False

    def _lose(self) -> None:
        self.over = True
        self.set()
