"""`JobQueue`: jobs that any number of workers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

try:
    from redis.asyncio import Redis
except ImportError as _error:  # pragma: no cover
    raise ImportError("JobQueue needs the extra redis: pip install 'recall-async[redis]'") from _error

import msgspec

from .. import checks
from ..bulk.actions import Action, Outcome
from ..bulk.records import Result
from ..errors import ConfigurationError
from ..limits.redis.connect import redis_connect
from ..session import MAX_OUTAGE, RecallSession
from ..stopping import StopSignal
from .chunks import chunks_of, digest_of, gathered, read_actions, soonest_first
from .contract import JobStatus, MissingJobError, WorkSummary, check_name
from .store import JobStore
from .worker import Worker

CHUNK_SIZE = 200
LEASE = 30.0
DELIVERIES = 5
PAGE = 500

_decode = msgspec.json.Decoder(Result).decode


class JobQueue:
    """The jobs of one workspace in Redis, for one event loop: submitted anywhere, worked on wherever a worker runs.

    - `client`: a `redis.asyncio.Redis`, which stays the caller's to close; `from_url` makes one of its own.
    - `prefix`: what the names of all keys begin with.
    - `workspace`: the workspace's name, as in `RecallSession(workspace=...)`.
    - `lease`: seconds after which the chunk of a worker that died is another's; the same for all workers.
    - `deliveries`: how many workers in a row may die over a chunk, with nothing of it done, before it is given up.
    - `patience`: seconds for which an outage of Redis is waited for.

    Raises `ConfigurationError` for what cannot be; its methods raise `JobError`. docs/jobs.md
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "recall",
        workspace: str = "default",
        lease: float = LEASE,
        deliveries: int = DELIVERIES,
        patience: float = 60.0,
    ) -> None:
        if not isinstance(client, Redis):
            raise checks.invalid("client", "a redis.asyncio.Redis", client)
        if not isinstance(prefix, str) or "{" in prefix or "}" in prefix:
            raise checks.invalid(
                "prefix", "a text without braces, which say which node of a cluster a key is on", prefix
            )
        checks.text("workspace", workspace)
        checks.number("lease", lease, at_least=0.1)
        checks.seconds("patience", patience, zero=True)
        checks.whole("deliveries", deliveries, at_least=1)
        self.workspace = workspace
        self._client = client
        self._owned = False
        self._lease = float(lease)
        self._deliveries = deliveries
        self._store = JobStore(client, prefix, workspace, patience)
        self._workers: set[Worker] = set()

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "recall",
        workspace: str = "default",
        lease: float = LEASE,
        deliveries: int = DELIVERIES,
        patience: float = 60.0,
        **options: Any,
    ) -> JobQueue:
        """A queue that connects to `redis://`, `rediss://` or `unix://` by itself; `options` are those of redis-py."""
        client = redis_connect(url, **{"socket_timeout": 5.0, "socket_connect_timeout": 5.0, **options})
        queue = cls(client, prefix=prefix, workspace=workspace, lease=lease, deliveries=deliveries, patience=patience)
        queue._owned = True
        return queue

    async def submit(
        self, name: str, actions: Iterable[Action] | AsyncIterable[Action], *, chunk_size: int = CHUNK_SIZE
    ) -> JobStatus:
        """Write a job, soonest event first, in chunks of about `chunk_size` actions; where it is then.

        Doing it again with the same actions does nothing, or writes the rest if the first time was cut short. Raises
        `JobError` if there is a job of this name with other actions, `ConfigurationError` for actions that cannot be
        written: then nothing was.
        """
        check_name(name)
        checks.whole("chunk_size", chunk_size, at_least=1)
        given = [action async for action in actions] if isinstance(actions, AsyncIterable) else list(actions)
        groups = await asyncio.to_thread(soonest_first, given)
        size, written = await self._store.begin(name, digest_of(groups), len(given), chunk_size)
        for chunk in chunks_of(groups, size):
            if chunk.first >= written:
                await self._store.add(name, chunk)
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
        """Work on the workspace's jobs until all of them are finished; what this worker did.

        - `recall`: an open session of the same `workspace`, with a `RedisQuotaStore` that all workers share.
        - `concurrency`: actions of a chunk at work at once, 64 by default.
        - `chunks`: chunks at work at once.
        - `forever`: wait for further jobs.
        - `max_chunks`: end after so many.
        - `max_outage`: seconds for which a server that is away is waited for.
        - `on_outcome`: is called with the `Outcome` of each action.
        - `stop`: a `StopSignal` that ends it gently, as the queue's `stop()` does.

        An error with `stops_jobs`, five 402 or 403 in a row, and ten failures of a worker on which nothing ever succeeded
        end it, and leave the work to others; so does cancelling it, at once, or `stop`, gently. Raises `JobError` also
        when Redis has lost a job.
        """
        if recall.workspace != self.workspace:
            raise ConfigurationError(
                f"the session must be of workspace {self.workspace!r}, which is the queue's, got {recall.workspace!r}"
            )
        checks.whole("chunks", chunks, at_least=1)
        if max_chunks is not None:
            checks.whole("max_chunks", max_chunks, at_least=1)
        worker = Worker(
            self._store,
            recall,
            lease=self._lease,
            deliveries=self._deliveries,
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
        """Let `work` finish what is in flight, give back what it has not done, and return.

        What is still in flight after `timeout` seconds is not waited for.
        """
        for worker in self._workers:
            worker.stop(timeout)

    async def list(self) -> Sequence[JobStatus]:
        """Every job of the workspace, the earliest first."""
        found: list[JobStatus] = []
        for name in await self._store.names():
            try:
                found.append(await self._store.status(name))
            except MissingJobError:
                await self._store.forget(name)
        return found

    async def retry(self, name: str, *, chunk_size: int = CHUNK_SIZE) -> JobStatus:
        """Submit what failed of a job, or was given up, again; where the job is then.

        It goes with its configuration as it was submitted. What is done stays done.
        """
        checks.whole("chunk_size", chunk_size, at_least=1)
        await self._store.status(check_name(name))
        failed = await self._store.failed(name)
        actions = [read_actions(text)[0] for _, text in failed]
        for groups in gathered(await asyncio.to_thread(soonest_first, actions), chunk_size):
            numbers = [failed[place][0] for group in groups for place in group.numbers]
            tokens = b" ".join(token for group in groups for token in group.tokens)
            await self._store.again(name, numbers, tokens)
        return await self._store.status(name)

    async def status(self, name: str) -> JobStatus:
        """Where the job is."""
        return await self._store.status(check_name(name))

    async def results(self, name: str) -> AsyncIterator[Result]:
        """What became of each action that is finished, soonest event first, as in a journal."""
        total = (await self.status(name)).total
        for first in range(0, total, PAGE):
            for line in await self._store.outcomes(name, first, min(PAGE, total - first)):
                yield _decode(line)

    async def cancel(self, name: str) -> None:
        """Drop what is left of the job: workers begin none of its actions any more."""
        await self._store.cancel(check_name(name))

    async def aclose(self) -> None:
        """Close the connection to Redis, if it is the queue's own."""
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
