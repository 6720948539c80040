"""What is said to Redis about jobs; each script is one indivisible step."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, AuthorizationError, ConnectionError, RedisError, TimeoutError

from ..bulk.actions import Action, Status
from .contract import JobError, JobStatus
from .parcels import unpack

GROUP = "workers"
KEEP = 30 * 24 * 3600
"""Seconds for which a job is kept after its last sign of life."""
SCRIPTS = ("begin", "add", "take", "report", "status", "cancel", "sweep")

Ending: TypeAlias = Literal["renew", "settle", "release"]
Standing: TypeAlias = Literal["held", "lost", "cancelled"]
Told: TypeAlias = tuple[int, Status, bytes]
"""Number of an action in the job, and what became of it."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk that a worker has."""

    id: str
    job: str
    """The job's token in the names of its keys."""
    consumer: str
    actions: dict[int, Action]
    """What is left to do, by number in the job."""


class JobStore:
    """The jobs of one workspace. `patience`: seconds for which an outage of Redis is waited for."""

    def __init__(self, client: Redis, prefix: str, workspace: str, patience: float) -> None:
        # The braces keep all of a workspace on one node of a cluster.
        stem = f"{prefix}:{{{quote(workspace, safe='')}/jobs}}"
        self._stream = f"{stem}:chunks"
        self._jobs = f"{stem}:job:"
        self._client = client
        self._patience = patience
        self._scripts = {
            name: client.register_script(files(__package__).joinpath("lua", f"{name}.lua").read_text(encoding="utf-8"))
            for name in SCRIPTS
        }

    async def begin(self, name: str, digest: str, total: int, size: int) -> tuple[int, int]:
        """Begin a job, or go on with the same one: its chunk size, and how many actions are written."""
        arguments = (GROUP, name, digest, total, size, KEEP)
        size, written = await self._run("begin", (self._job(name), self._stream), arguments, name=name)
        return size, written

    async def add(self, name: str, first: int, count: int, actions: bytes) -> None:
        """Write a chunk, unless it is there."""
        job = self._job(name)
        arguments = (quote(name, safe=""), first, count, actions, KEEP)
        await self._run("add", (job, self._stream, f"{job}:chunks"), arguments, name=name)

    async def take(self, consumer: str, lease: float, deliveries: int) -> Chunk | int:
        """A chunk, or how many chunks others have."""
        arguments = (GROUP, consumer, int(lease * 1000), deliveries, self._jobs, KEEP)
        reply = await self._run("take", (self._stream,), arguments)
        if isinstance(reply, int):
            return reply
        id_, job, first, actions, done = reply
        left = {number: action for number, action in enumerate(unpack(actions), first) if number not in set(done)}
        return Chunk(_text(id_), _text(job), consumer, left)

    async def report(
        self, chunk: Chunk, told: Sequence[Told], what: Ending, *, patience: float | None = None
    ) -> Standing:
        """Tell of finished actions, and what becomes of the chunk."""
        job = f"{self._jobs}{chunk.job}"
        keys = (self._stream, job, f"{job}:outcomes", f"{job}:chunks")
        arguments = [GROUP, chunk.consumer, chunk.id, what, KEEP, *(part for outcome in told for part in outcome)]
        standing: Standing = _text(await self._run("report", keys, arguments, patience=patience))  # type: ignore[assignment]
        return standing

    async def status(self, name: str) -> JobStatus:
        """Where the job is."""
        job = self._job(name)
        reply = await self._run("status", (job, self._stream, f"{job}:chunks", f"{job}:dead"), (GROUP,))
        if reply is None:
            raise _missing(name)
        return JobStatus(name, *reply[:7], *map(bool, reply[7:]))

    async def cancel(self, name: str) -> None:
        """Drop what is left of the job."""
        job = self._job(name)
        if not await self._run("cancel", (job, self._stream, f"{job}:chunks"), (GROUP,)):
            raise _missing(name)

    async def sweep(self, lease: float) -> None:
        """Forget workers that are gone."""
        await self._run("sweep", (self._stream,), (GROUP, int(lease * 1000)))

    async def outcomes(self, name: str, first: int, count: int) -> list[bytes | str]:
        """The lines of those of `count` actions that are finished."""
        numbers = [str(number) for number in range(first, first + count)]
        client: Any = self._client
        lines = await self._patiently(lambda: client.hmget(f"{self._job(name)}:outcomes", numbers), self._patience)
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
        run = self._scripts[script]
        try:
            return await self._patiently(
                lambda: run(keys=keys, args=arguments), self._patience if patience is None else patience
            )
        except RedisError as error:
            text = str(error)
            if "RECALLOTHER" in text:
                raise JobError(
                    f"there is a job called {name!r} with other actions: give this one another name"
                ) from None
            if "RECALLCANCELLED" in text:
                raise JobError(f"the job {name!r} was cancelled: give this one another name") from None
            if "RECALLGONE" in text:
                raise JobError(f"Redis has lost the job {name!r} while it was being written: submit it again") from None
            raise JobError(f"Redis refuses what the jobs need: {error}") from error

    async def _patiently(self, run: Any, patience: float) -> Any:
        began, delay = time.monotonic(), 0.05
        while True:
            try:
                return await run()
            except (AuthenticationError, AuthorizationError) as error:
                raise JobError(f"Redis refuses the connection: {error}") from error
            except (ConnectionError, TimeoutError, OSError) as error:
                if time.monotonic() - began + delay > patience:
                    raise JobError(
                        f"Redis, where the jobs are, has not answered for {patience:g} s: {error}"
                    ) from error
            await asyncio.sleep(delay * random.uniform(0.5, 1.0))
            delay = min(1.0, delay * 2)


def _missing(name: str) -> JobError:
    return JobError(f"there is no job called {name!r} in this workspace")


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()
