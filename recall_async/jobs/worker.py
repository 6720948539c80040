"""A worker: takes chunks, does what is in them, and tells what became of it."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter
from contextlib import suppress
from uuid import uuid4

import msgspec

from ..bulk.actions import Status
from ..bulk.records import result_of
from ..bulk.run import BulkRun
from ..errors import RecallError
from ..session import RecallSession
from .contract import JobError, WorkSummary
from .lease import Lease
from .store import Chunk, JobStore

POLL = 1.0
"""Seconds between looks for work while there is none, on average three quarters of it."""
PARTING = 2.0
"""Seconds for which Redis is waited for when a worker that was cancelled gives its chunk back."""

logger = logging.getLogger("recall_async")
_encode = msgspec.json.Encoder().encode


class Worker:
    """Works on chunks of one workspace; see `JobQueue.work`."""

    def __init__(
        self,
        store: JobStore,
        recall: RecallSession,
        *,
        lease: float,
        deliveries: int,
        concurrency: int | None,
        forever: bool,
        max_chunks: int | None,
    ) -> None:
        self._store = store
        self._recall = recall
        self._lease = lease
        self._deliveries = deliveries
        self._concurrency = concurrency
        self._forever = forever
        self._allowed = math.inf if max_chunks is None else max_chunks
        self._statuses: Counter[Status] = Counter()
        self._chunks = 0
        self._stopping = asyncio.Event()
        self._runs: set[BulkRun] = set()
        self._error: Exception | None = None

    def stop(self) -> None:
        """Finish what is on its way, give back what is not done, and begin nothing more."""
        self._stopping.set()
        for run in self._runs:
            run.stop()

    async def work(self, at_once: int) -> WorkSummary:
        """Work on `at_once` chunks at a time, so that one begins while another ends."""
        await self._store.sweep(self._lease)
        async with asyncio.TaskGroup() as lines:
            for _ in range(at_once):
                lines.create_task(self._line())
        if self._error is not None:
            raise self._error
        counts = self._statuses
        return WorkSummary(counts["done"], counts["failed"], counts["skipped"], self._chunks)

    async def _line(self) -> None:
        consumer = str(uuid4())
        try:
            while not self._stopping.is_set() and self._allowed:
                self._allowed -= 1  # before there is one, since the other lines look for one, too
                found = await self._store.take(consumer, self._lease, self._deliveries)
                if isinstance(found, Chunk):
                    finished = await self._work_on(found)
                    self._chunks += finished
                    self._allowed += not finished
                elif found or self._forever:
                    self._allowed += 1
                    await self._rest()
                else:
                    return
        except Exception as error:  # noqa: BLE001  # raised when the other lines have ended well
            self._error = self._error or error
            self.stop()

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(min(POLL, self._lease / 3) * random.uniform(0.5, 1.0)):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _work_on(self, chunk: Chunk) -> bool:
        """Whether it was finished here."""
        lease = Lease(self._store, chunk, self._lease, lambda: run.stop())
        actions = lease.actions()
        run = self._recall.bulk(actions, concurrency=self._concurrency)
        self._runs.add(run)
        if self._stopping.is_set():
            run.stop()
        keeper = asyncio.create_task(lease.keep())
        try:
            await self._perform(run, lease)
        except (RecallError, asyncio.CancelledError) as error:
            await self._give_back(lease, keeper, wait=not isinstance(error, asyncio.CancelledError))
            raise
        else:
            lease.end()
            await keeper
            settled = await lease.close()
            if lease.over:
                logger.warning("a chunk of job %s was taken away: the job was cancelled, or a lease ran out", chunk.job)
            return settled
        finally:
            # After an error of another kind the chunk is not given back: it may be what is in it, and that must count.
            self._runs.discard(run)
            keeper.cancel()
            await asyncio.wait({keeper})
            await actions.aclose()

    async def _perform(self, run: BulkRun, lease: Lease) -> None:
        numbers = {id(action): number for number, action in lease.chunk.actions.items()}
        async with run:
            async for outcome in run:
                lease.finished((numbers[id(outcome.action)], outcome.status, _encode(result_of(outcome))))
                self._statuses[outcome.status] += 1

    async def _give_back(self, lease: Lease, keeper: asyncio.Task[None], *, wait: bool) -> None:
        keeper.cancel()
        await asyncio.wait({keeper})
        with suppress(JobError):  # then the chunk is another's when its lease is over
            await lease.close(patience=None if wait else PARTING)
