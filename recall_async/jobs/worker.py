"""A worker: takes chunks, performs their actions, and reports the results."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from ..bulk.actions import Outcome, Status
from ..bulk.doubts import Doubts
from ..bulk.records import result_of, write_action, write_result
from ..bulk.run import BulkRun
from ..errors import RecallError
from ..session import RecallSession
from ..stopping import StopSignal, end_tasks, is_being_cancelled, wait_at_most
from .contract import JobError, WorkSummary
from .lease import Lease
from .store import Chunk, JobStore, Report

POLL = 1.0
"""The most seconds between polls while there is no work; the average is three quarters of it."""
LEAVE_FOR = 1.5 * POLL
"""Seconds for which a worker without a success leaves a failed chunk to others: long enough for them to poll."""
GIVE_BACK_TIMEOUT = 2.0
"""Seconds to wait for Redis when a cancelled worker gives its chunk back."""

logger: logging.Logger = logging.getLogger("recall_async")


def _hopeless(error: RecallError) -> JobError:
    return JobError(
        f"all requests of this worker failed: {error} Check that its key belongs to the job's workspace and region, and "
        "that it can reach the API. Other workers can take its chunks."
    )


class Worker:
    """Performs chunks of one workspace; see `JobQueue.work`."""

    def __init__(
        self,
        store: JobStore,
        recall: RecallSession,
        *,
        concurrency: int | None,
        forever: bool,
        max_chunks: int | None,
        max_outage: float,
        on_outcome: Callable[[Outcome], object] | None,
        stop: StopSignal | None,
    ) -> None:
        self._store = store
        self._recall = recall
        self._concurrency = concurrency
        self._forever = forever
        self._allowed = math.inf if max_chunks is None else max_chunks
        self._max_outage = max_outage
        self._on_outcome = on_outcome
        self._statuses: Counter[Status] = Counter()
        self._chunks = 0
        self._found_jobs = False
        self._doubts = Doubts(_hopeless)
        self._doubted: dict[str, float] = {}
        """Chunks that failed here while nothing had ever succeeded, by id, and when: other workers may do better."""
        self._left = Counter[str]()
        """Chunks that this worker began and left to others, by job."""
        self._consumers: set[str] = set()
        self._stop = StopSignal(stop)
        self._runs: set[BulkRun] = set()
        self._error: BaseException | None = None

    def stop(self, timeout: float | None = None) -> None:
        """Finish the requests in flight, give back the other actions, and begin nothing more."""
        self._stop.set()
        for run in self._runs:
            run.stop(timeout)

    async def work(self, at_once: int) -> WorkSummary:
        """Perform `at_once` chunks at a time, so that one begins while another ends."""
        await self._store.sweep()
        try:
            async with asyncio.TaskGroup() as lines:
                for _ in range(at_once):
                    lines.create_task(self._line())
        finally:
            self._stop.detach()
            if self._stop.is_set and self._left:
                chunks = ", ".join(f"{number} of job {name}" for name, number in sorted(self._left.items()))
                logger.info("the worker was stopped. Other workers go on with the chunks that it left: %s", chunks)
        if self._error is not None:
            raise self._error
        if self._doubts.on_trial and self._doubted and (last := self._doubts.last) is not None:
            raise _hopeless(last)
        counts = self._statuses
        return WorkSummary(counts["done"], counts["failed"], counts["skipped"], self._chunks)

    async def _line(self) -> None:
        consumer = str(uuid4())
        self._consumers.add(consumer)
        try:
            while not self._stop.is_set and self._allowed:
                self._allowed -= 1  # before `take`, because the other lines also look for a chunk
                new_first = self._doubts.on_trial and bool(self._doubted)
                found = await self._take(consumer, new_first=new_first)
                if isinstance(found, Chunk):
                    self._found_jobs = True
                    finished = await self._try(found)
                    self._chunks += finished
                    self._allowed += not finished
                    if found.id in self._doubted:
                        # Random, so that two workers do not poll in step.
                        await self._rest(LEAVE_FOR * random.uniform(1.0, 1.5))
                    continue
                self._allowed += 1
                if found < 0 and self._found_jobs:
                    raise JobError("Redis has lost all jobs and their results: submit them again")
                self._found_jobs |= found >= 0
                if found <= 0 and not self._forever:
                    return
                await self._rest()
        except (Exception, asyncio.CancelledError) as error:  # raised after the other lines have ended
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            self._error = self._error or error
            self.stop()

    async def _take(self, consumer: str, *, new_first: bool) -> Chunk | int:
        """Take a chunk. A cancelled worker waits for the reply, and gives back the chunk that is in it."""
        taking = asyncio.create_task(self._store.take(consumer, new_first=new_first))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            with suppress(JobError, TimeoutError):  # another worker gets the chunk when the lease expires
                async with asyncio.timeout(GIVE_BACK_TIMEOUT):
                    found = await taking
                    if isinstance(found, Chunk):
                        await self._store.report(found, (), "release")
            raise
        finally:
            await end_tasks({taking})

    async def _rest(self, seconds: float | None = None) -> None:
        if seconds is None:
            seconds = min(POLL, self._store.lease / 3) * random.uniform(0.5, 1.0)
        await wait_at_most(self._stop, seconds)

    async def _try(self, chunk: Chunk) -> bool:
        """Perform a chunk, or leave it to other workers if it failed here and nothing has succeeded here yet. Return
        whether this worker finished it."""
        doubted = self._doubted.get(chunk.id)
        if doubted is None or not self._doubts.on_trial:
            self._doubted.pop(chunk.id, None)
            return await self._work_on(chunk)
        total, others = await self._store.others_at_work(self._consumers)
        if others or time.monotonic() < doubted + LEAVE_FOR:
            await self._store.report(chunk, (), "release")
            return False
        if total > len(self._doubted):
            return await self._work_on(chunk)
        self._doubts.accept(True)  # there is no other chunk to try and no other worker
        try:
            return await self._work_on(chunk)
        finally:
            self._doubts.accept(False)

    async def _work_on(self, chunk: Chunk) -> bool:
        """Perform a chunk. Return whether this worker finished it."""
        lease = Lease(self._store, chunk, self._stop, is_outage=lambda: self._recall.outage() is not None)
        run = self._recall.bulk(
            iter(chunk.actions.values()),
            concurrency=self._concurrency,
            stop=lease,
            max_outage=self._max_outage,
            doubts=self._doubts,
        )
        self._runs.add(run)
        keeper = asyncio.create_task(lease.keep())
        try:
            await self._perform(run, lease)
        except (RecallError, asyncio.CancelledError) as error:
            await self._give_back(lease, keeper, wait=not isinstance(error, asyncio.CancelledError))
            raise
        else:
            lease.end()
            await keeper
            if lease.remaining and self._doubts.withholds and not (lease.is_set or self._stop.is_set):
                self._doubted[chunk.id] = time.monotonic()
            settled = await lease.close()
            if settled:
                self._doubted.pop(chunk.id, None)
            elif not lease.over:
                self._left[chunk.job] += 1
            if lease.over:
                logger.warning("lost a chunk of job %s: the job was cancelled, or the lease expired", chunk.job)
            return settled
        finally:
            # After another error the chunk is not given back: its content may be the cause, so the delivery must count.
            self._runs.discard(run)
            lease.detach()
            await end_tasks({keeper})

    async def _perform(self, run: BulkRun, lease: Lease) -> None:
        numbers = {id(action): number for number, action in lease.chunk.actions.items()}
        async with run:
            async for outcome in run:
                action = write_action(outcome.action) if outcome.status == "failed" else b""
                line = write_result(result_of(outcome))
                lease.finished(Report(numbers[id(outcome.action)], outcome.status, line, action))
                self._statuses[outcome.status] += 1
                if self._on_outcome is not None:
                    self._on_outcome(outcome)

    async def _give_back(self, lease: Lease, keeper: asyncio.Task[None], *, wait: bool) -> None:
        with suppress(JobError):  # another worker gets the chunk when the lease expires
            if wait:  # a cancelled renewal could arrive after the release
                lease.end()
                await keeper
            else:
                await end_tasks({keeper})
            await lease.close(patience=None if wait else GIVE_BACK_TIMEOUT)
