"""`JobQueue`: jobs for any number of workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

try:
    from redis.asyncio import Redis, RedisCluster
except ImportError as _error:  # pragma: no cover
    raise ImportError("JobQueue needs the extra redis: pip install 'recall-async[redis]'") from _error

from .. import checks
from ..bulk.actions import Action, Outcome
from ..bulk.records import Result, read_result
from ..errors import ConfigurationError
from ..limits.redis.connect import cluster_connect, is_cluster, redis_connect
from ..outage import MAX_OUTAGE
from ..session import RecallSession
from ..stopping import StopSignal
from .chunks import chunks_of, digest_of, groups_of, read_actions
from .contract import JobStatus, MissingJobError, WorkSummary, check_name
from .store import JobStore
from .worker import Worker

CHUNK_SIZE = 200
LEASE = 30.0
MAX_DELIVERIES = 5
PAGE = 500


class JobQueue:
    """The jobs of one workspace in Redis, for one event loop. Any machine can submit and perform jobs.

    - `client`: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster`, which the caller closes; `from_url` creates and
      closes one. A client of `redis.asyncio.sentinel.Sentinel.master_for` follows the master.
    - `prefix`: the prefix of all keys.
    - `workspace`: the workspace's name, as in `RecallSession(workspace=...)`.
    - `lease`: seconds after which another worker gets the chunk of a dead one; the same for all workers.
    - `deliveries`: a chunk is abandoned if this number of workers in a row die while they hold it, without finishing
      an action.
    - `patience`: seconds to wait during an outage of Redis.

    Raises `ConfigurationError` for invalid arguments; its methods raise `JobError`. docs/jobs.md
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        prefix: str = "recall",
        workspace: str = "default",
        lease: float = LEASE,
        deliveries: int = MAX_DELIVERIES,
        patience: float = 60.0,
    ) -> None:
        if not isinstance(client, Redis | RedisCluster):
            raise checks.invalid("client", "a redis.asyncio.Redis or redis.asyncio.RedisCluster", client)
        if not isinstance(prefix, str) or "{" in prefix or "}" in prefix:
            raise checks.invalid("prefix", "a string without braces, which select the cluster node of a key", prefix)
        checks.text("workspace", workspace)
        checks.number("lease", lease, at_least=0.1)
        checks.seconds("patience", patience, zero=True)
        checks.whole("deliveries", deliveries, at_least=1)
        self.workspace = workspace
        self._client = client
        self._owned = False
        self._store = JobStore(client, prefix, workspace, patience=patience, lease=lease, deliveries=deliveries)
        self._workers: set[Worker] = set()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "recall",
        workspace: str = "default",
        lease: float = LEASE,
        deliveries: int = MAX_DELIVERIES,
        patience: float = 60.0,
        **options: Any,
    ) -> JobQueue:
        """Create a queue with its own connection.

        `url` is `redis://`, `rediss://` or `unix://`, or that of a Redis Cluster or of Sentinels; see
        `RedisQuotaStore.from_url`. `options` are redis-py's.
        """
        connect = cluster_connect if is_cluster(url) else redis_connect
        client = connect(url, **{"socket_timeout": 5.0, "socket_connect_timeout": 5.0, **options})
        queue = cls(client, prefix=prefix, workspace=workspace, lease=lease, deliveries=deliveries, patience=patience)
        queue._owned = True
        return queue

    async def submit(
        self, name: str, actions: Iterable[Action] | AsyncIterable[Action], *, chunk_size: int = CHUNK_SIZE
    ) -> JobStatus:
        """Submit a job, soonest event first, in chunks of about `chunk_size` actions, and return its status.

        Submitting the same actions again does nothing, or writes the rest if the first call was interrupted. Raises
        `JobError` if a job of this name has other actions, and `ConfigurationError` for invalid actions, before
        anything is written.
        """
        check_name(name)
        checks.whole("chunk_size", chunk_size, at_least=1)
        given = [action async for action in actions] if isinstance(actions, AsyncIterable) else list(actions)
        groups = await asyncio.to_thread(groups_of, given)
        size, written = await self._store.begin(name, digest_of(groups), len(given), chunk_size)
        first = 0
        for chunk in chunks_of(groups, size):
            if first >= written:
                await self._store.add(name, first, chunk)
            first += len(chunk.numbers)
        return await self._store.status(name)

    async def work(
        self,
        recall: RecallSession,
        *,
        concurrency: int | None = None,
        chunks: int = 2,
        forever: bool = False,
        max_chunks: int | None = None,
        max_outage: float = MAX_OUTAGE,
        on_outcome: Callable[[Outcome], object] | None = None,
        stop: StopSignal | None = None,
    ) -> WorkSummary:
        """Perform the workspace's jobs until all are finished, and return what this worker did.

        - `recall`: an open session of the same `workspace`, with a `RedisQuotaStore` that all workers share.
        - `concurrency`: the most actions of a chunk in progress at once, 64 by default.
        - `chunks`: the most chunks in progress at once.
        - `forever`: wait for further jobs.
        - `max_chunks`: return after this number of chunks.
        - `max_outage`: seconds to wait for a server that is unavailable.
        - `on_outcome`: called with the `Outcome` of each action.
        - `stop`: a `StopSignal` that ends the work gently, as the queue's `stop()` does.

        The worker ends, and leaves its work to others, after an error with `stops_jobs`, after five 402 or 403 in a
        row, or after ten failures without any success; fewer go back to other workers. A cancellation ends it at
        once, `stop` gently. Raises `JobError`, also if Redis has lost a job.
        """
        if recall.workspace != self.workspace:
            raise ConfigurationError(
                f"the session's workspace must be {self.workspace!r}, as the queue's, got {recall.workspace!r}"
            )
        checks.whole("chunks", chunks, at_least=1)
        if on_outcome is not None:
            checks.callback("on_outcome", on_outcome, "an Outcome")
        if max_chunks is not None:
            checks.whole("max_chunks", max_chunks, at_least=1)
        worker = Worker(
            self._store,
            recall,
            concurrency=concurrency,
            forever=forever,
            max_chunks=max_chunks,
            max_outage=max_outage,
            on_outcome=on_outcome,
            stop=stop,
        )
        self._workers.add(worker)
        try:
            return await worker.work(chunks)
        finally:
            self._workers.discard(worker)

    def stop(self, timeout: float | None = None) -> None:
        """Make `work` finish the requests in flight, give back its other actions, and return.

        It waits at most `timeout` seconds for the requests in flight.
        """
        for worker in self._workers:
            worker.stop(timeout)

    async def list(self) -> Sequence[JobStatus]:
        """Return the status of every job of the workspace, the earliest first."""
        found: list[JobStatus] = []
        for name in await self._store.names():
            try:
                found.append(await self._store.status(name))
            except MissingJobError:
                await self._store.forget(name)
        return found

    async def retry(self, name: str, *, chunk_size: int = CHUNK_SIZE) -> JobStatus:
        """Submit a job's failed and abandoned actions again, with their original configuration, and return its status.

        Finished actions are not repeated.
        """
        checks.whole("chunk_size", chunk_size, at_least=1)
        await self._store.status(check_name(name))
        failed = await self._store.failed(name)
        actions = [read_actions(text)[0] for _, text in failed]
        for chunk in chunks_of(await asyncio.to_thread(groups_of, actions), chunk_size):
            await self._store.again(name, [failed[place][0] for place in chunk.numbers], chunk.tokens)
        return await self._store.status(name)

    async def status(self, name: str) -> JobStatus:
        """Return the job's status."""
        return await self._store.status(check_name(name))

    async def results(self, name: str) -> AsyncIterator[Result]:
        """Yield the result of each finished action, soonest event first, as in a journal."""
        total = (await self.status(name)).total
        for first in range(0, total, PAGE):
            for line in await self._store.outcomes(name, first, min(PAGE, total - first)):
                yield read_result(line)

    async def cancel(self, name: str) -> None:
        """Cancel the job: workers begin no more of its actions."""
        await self._store.cancel(check_name(name))

    async def aclose(self) -> None:
        """Close the connection to Redis, if `from_url` opened it."""
        if self._owned:
            await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<JobQueue workspace={self.workspace!r}>"
