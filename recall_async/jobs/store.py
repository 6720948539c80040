"""The commands to Redis about jobs. Each script is atomic."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import (
    ClusterError,
    ConnectionError,
    NoScriptError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TimeoutError,
)

from ..bulk.actions import Action, Status
from ..checks import Backoff
from ..limits.loops import lease_time
from ..limits.redis.failures import advice, refuses, unsettled
from .chunks import Group, read_actions
from .contract import JobError, JobStatus, JobStoreUnavailableError, MissingJobError

GROUP = "workers"
JOB_TTL = 30 * 24 * 3600
"""Seconds for which Redis keeps a job after its last change."""
PAGE = 1000
BACKOFF = Backoff(0.05, 1.0)
WARN_AFTER = 2.0
"""Seconds of an outage of Redis after which it is logged."""
SCRIPTS = ("begin", "add", "take", "report", "status", "again", "cancel", "sweep")

Ending: TypeAlias = Literal["renew", "settle", "release"]
Standing: TypeAlias = Literal["held", "lost", "cancelled", "gone"]

logger: logging.Logger = logging.getLogger("recall_async")


class Report(NamedTuple):
    """The result of one action."""

    number: int
    """The action's number in the job."""
    status: Status
    line: bytes
    action: bytes = b""
    """The action, if it failed: for `jobs retry`."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk that a worker took."""

    id: str
    job: str
    """The job's token in the names of its keys."""
    name: str
    consumer: str
    actions: dict[int, Action]
    """The unfinished actions, by number in the job."""
    asked_at: float
    """When the worker asked for it, by `lease_time()`. The lease began then, or later."""


class JobStore:
    """The jobs of one workspace; the parameters are those of `JobQueue`."""

    def __init__(
        self,
        client: Redis | RedisCluster,
        prefix: str,
        workspace: str,
        *,
        patience: float,
        lease: float,
        deliveries: int,
    ) -> None:
        self._workspace = workspace
        # The braces keep all keys of a workspace on one node of a cluster.
        self._stem = f"{prefix}:{{{quote(workspace, safe='')}/jobs}}:"
        self._stream = f"{self._stem}chunks"
        self._jobs = f"{self._stem}job:"
        # A key that never exists. With it, a cluster rejects scripts while the slot is moved to another node, when some of
        # the keys are on each node.
        self._never = f"{self._stem}never"
        self._client: Any = client
        self._patience = patience
        self.lease: float = lease
        """Seconds for which a worker holds a chunk, unless it renews its lease."""
        self._deliveries = deliveries
        self._warned = False  # once per outage
        texts = {name: f"{_lua('order')}\n{_lua(name)}" for name in SCRIPTS}
        self._scripts = {name: (text, hashlib.sha1(text.encode()).hexdigest()) for name, text in texts.items()}

    async def begin(self, name: str, digest: str, total: int, size: int) -> tuple[int, int]:
        """Begin or continue a job. Return its chunk size and the number of actions written so far."""
        arguments = (self._stem, GROUP, quote(name, safe=""), name, digest, total, size, JOB_TTL)
        size, written = await self._run("begin", (self._job(name), self._stream), arguments, name=name)
        return size, written

    async def add(self, name: str, first: int, chunk: Group) -> None:
        """Write a chunk, unless it exists. `first` is the number of the job's actions in earlier chunks."""
        actions, tokens = b"\n".join(chunk.texts), b" ".join(chunk.tokens)
        arguments = (self._stem, quote(name, safe=""), first, len(chunk.numbers), actions, tokens, JOB_TTL)
        await self._run("add", (self._job(name), self._stream), arguments, name=name)

    async def failed(self, name: str) -> list[tuple[int, bytes | str]]:
        """Return the failed and abandoned actions, with their numbers."""
        found = await self._patiently(lambda: self._client.hgetall(f"{self._job(name)}:failed"))
        return sorted((int(number), action) for number, action in found.items())

    async def again(self, name: str, numbers: Iterable[int], tokens: Iterable[bytes]) -> None:
        """Write a chunk of failed actions, without those that were written again already."""
        arguments = (self._stem, quote(name, safe=""), " ".join(map(str, numbers)), b" ".join(tokens), JOB_TTL)
        await self._run("again", (self._job(name), self._stream), arguments, name=name)

    async def take(self, consumer: str, *, new_first: bool = False) -> Chunk | int:
        """Take a chunk. If none is free, return how many chunks other workers hold, or -1 if Redis has no jobs.

        `new_first`: prefer chunks that no worker had before.
        """
        arguments = (self._stem, GROUP, consumer, int(self.lease * 1000), self._deliveries, JOB_TTL, int(new_first))
        asked_at = lease_time()
        reply = await self._run("take", (self._stream,), arguments)
        if isinstance(reply, int):
            return reply
        id_, job, name, numbers, actions, done = reply
        all_of_it = zip(map(int, _text(numbers).split()), read_actions(actions), strict=True)
        left = {number: action for number, action in all_of_it if number not in set(done)}
        return Chunk(_text(id_), _text(job), _text(name), consumer, left, asked_at)

    async def report(
        self,
        chunk: Chunk,
        told: Sequence[Report],
        what: Ending,
        *,
        excused: bool = False,
        patience: float | None = None,
    ) -> Standing:
        """Write the results of finished actions, and renew, release or settle the chunk.

        `excused`: the API is unavailable, so this delivery does not count as one without progress.
        """
        facts = (self._stem, GROUP, chunk.consumer, chunk.id, chunk.name, what, JOB_TTL, int(excused))
        arguments = [*facts, *(part for report in told for part in report)]
        keys = (self._stream, f"{self._jobs}{chunk.job}")
        standing: Standing = _text(await self._run("report", keys, arguments, patience=patience))  # type: ignore[assignment]
        return standing

    async def status(self, name: str) -> JobStatus:
        """Return the job's status."""
        reply = await self._run("status", (self._job(name), self._stream), (GROUP,))
        if reply is None:
            raise self._missing(name)
        return JobStatus(name, *reply[:7], *map(bool, reply[7:]))

    def _missing(self, name: str) -> MissingJobError:
        return MissingJobError(f"there is no job {name!r} in workspace {self._workspace!r}")

    async def names(self) -> list[str]:
        """Return the names of all jobs, the earliest first."""
        found = await self._patiently(lambda: self._client.zrange(f"{self._stem}names", 0, -1))
        return [unquote(_text(name)) for name in found]

    async def forget(self, name: str) -> None:
        """Remove the name of an expired job from the list."""
        await self._patiently(lambda: self._client.zrem(f"{self._stem}names", quote(name, safe="")))

    async def cancel(self, name: str) -> None:
        """Drop the job's unfinished actions."""
        if not await self._run("cancel", (self._job(name), self._stream), (self._stem, GROUP, JOB_TTL)):
            raise self._missing(name)

    async def others_at_work(self, mine: Container[str]) -> tuple[int, int]:
        """Return how many chunks are free or held, and how many of them are held by other consumers than `mine`."""
        client = self._client

        async def look() -> tuple[int, int]:
            held, start = 0, "-"
            while True:
                page = await client.xpending_range(self._stream, GROUP, start, "+", PAGE)
                held += sum(
                    pending["time_since_delivered"] < self.lease * 1000 and _text(pending["consumer"]) not in mine
                    for pending in page
                )
                if len(page) < PAGE:
                    return int(await client.xlen(self._stream)), held
                start = f"({_text(page[-1]['message_id'])}"

        total, others = await self._patiently(look)
        return total, others

    async def sweep(self) -> None:
        """Remove workers that no longer run."""
        await self._run("sweep", (self._stream,), (GROUP, int(self.lease * 1000)))

    async def outcomes(self, name: str, first: int, count: int) -> list[bytes | str]:
        """Return the result lines of the finished ones among `count` actions from `first` on."""
        numbers = [str(number) for number in range(first, first + count)]
        lines = await self._patiently(lambda: self._client.hmget(f"{self._job(name)}:outcomes", numbers))
        return [line for line in lines if line is not None]

    def _job(self, name: str) -> str:
        return f"{self._jobs}{quote(name, safe='')}"

    async def _run(
        self,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[str | int | bytes],
        *,
        name: str = "",
        patience: float | None = None,
    ) -> Any:
        lua, sha = self._scripts[script]
        words = len(keys) + 1, *keys, self._never, *arguments

        async def run() -> Any:
            try:
                return await self._client.evalsha(sha, *words)
            except NoScriptError:  # redis-py's own scripts would be loaded on all nodes of a cluster
                return await self._client.eval(lua, *words)

        try:
            return await self._patiently(run, patience)
        except RedisError as error:
            text = str(error)
            if "RECALLOTHER" in text:
                raise JobError(f"the job {name!r} exists with other actions: use another name") from None
            if "RECALLCANCELLED" in text:
                raise JobError(f"the job {name!r} was cancelled: submit it under another name") from None
            if "RECALLGONE" in text:
                raise JobError(f"Redis has lost the job {name!r} while it was being written: submit it again") from None
            raise JobError(f"Redis rejected a command of the jobs: {advice(error)}") from error

    async def _patiently(self, run: Callable[[], Awaitable[Any]], patience: float | None = None) -> Any:
        """Return what `run` returns. Repeats it during an outage of Redis."""
        patience = self._patience if patience is None else patience
        began, failures = time.monotonic(), 0
        while True:
            try:
                reply = await run()
                self._warned = False
                return reply
            except (
                ConnectionError,
                TimeoutError,
                OSError,
                RedisClusterException,
                ClusterError,
                ResponseError,
            ) as error:
                if isinstance(error, ResponseError) and not unsettled(error):
                    raise
                if (refusal := _refusal(error)) is not None:
                    raise JobError(f"Redis rejected the connection: {advice(refusal)}") from error
                failures += 1
                delay, waited = BACKOFF.delay(failures, random.random()), time.monotonic() - began
                if waited + delay > patience:
                    raise JobStoreUnavailableError(
                        f"the Redis of the jobs has not responded for {patience:g} s: {advice(error)}"
                    ) from error
                if not self._warned and waited >= WARN_AFTER:
                    self._warned = True
                    logger.warning(
                        "the Redis of the jobs does not respond; waiting for up to %g s: %s",
                        patience,
                        advice(error),
                    )
            await asyncio.sleep(delay)


def _lua(name: str) -> str:
    return files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")


def _refusal(error: Exception) -> Exception | None:
    """Return why Redis refuses this client. For a cluster, redis-py reports that as if no node could be reached."""
    cause = error.__cause__ if isinstance(error, RedisClusterException) else error
    if isinstance(cause, RedisClusterException):  # "Cluster mode is not enabled", whatever the reply to CLUSTER SLOTS
        cause = cause.__context__
    return cause if isinstance(cause, Exception) and refuses(cause) else None


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
