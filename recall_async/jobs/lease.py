"""A chunk in the hands of a worker: what it has done is written down as it goes, and its lease is renewed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

from ..bulk.actions import Action
from .store import Chunk, Ending, JobStore, Told

GATHER = 0.1
"""Seconds for which outcomes are gathered before they are written."""
MANY = 500
"""Outcomes that are written at once at the most."""
LOOK_AFTER = 2.0
"""Seconds after which a worker that has nothing to tell asks whether the job was cancelled."""


class Lease:
    """One chunk. `lost` is called once when it is no longer ours to work on."""

    def __init__(self, store: JobStore, chunk: Chunk, seconds: float, lost: Callable[[], None]) -> None:
        self.chunk = chunk
        self.over = False
        """Whether the chunk is another worker's now, or its job was cancelled."""
        self.left = set(chunk.actions)
        """Numbers of the actions of which the outcome is not known."""
        self._store = store
        self._seconds = seconds
        self._lost = lost
        self._told: list[Told] = []
        self._news = asyncio.Event()
        self._ending = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._sure_until = self._loop.time() + seconds

    async def actions(self) -> AsyncGenerator[Action, None]:
        """What is to be done, for as long as the chunk is ours."""
        for action in self.chunk.actions.values():
            if self._loop.time() >= self._sure_until and not self.over:
                await self._report("renew")  # this process was asleep, or Redis away
            if self.over:
                return
            yield action

    def finished(self, outcome: Told) -> None:
        """An action is finished."""
        self.left.discard(outcome[0])
        self._told.append(outcome)
        self._news.set()

    async def keep(self) -> None:
        """Renew and write, until `end`. Raises `JobError` when Redis has not answered for too long."""
        try:
            while not self._ending.is_set():
                await _wait(self._news, min(self._seconds / 3, LOOK_AFTER))
                await _wait(self._ending, min(self._seconds / 3, GATHER))
                self._news.clear()
                if not self._ending.is_set():
                    await self._report("renew")
        except Exception:
            self._lose()
            raise

    def end(self) -> None:
        """Let `keep` return."""
        self._ending.set()
        self._news.set()

    async def close(self, *, patience: float | None = None) -> bool:
        """Settle the chunk if all of it is done, and else release it to others; whether it was settled."""
        while len(self._told) > MANY:
            await self._report("renew", patience=patience)
        return await self._report("release" if self.left else "settle", patience=patience) and not self.left

    async def _report(self, what: Ending, *, patience: float | None = None) -> bool:
        async with self._one_at_a_time:
            told, at = self._told[:MANY], self._loop.time()
            if self.over and not told:
                return False
            standing = await self._store.report(self.chunk, told, what, patience=patience)
            del self._told[: len(told)]
        if standing == "held":
            self._sure_until = at + self._seconds
        else:
            self._lose()
        return standing == "held"

    def _lose(self) -> None:
        if not self.over:
            self.over = True
            self._lost()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, but not longer than so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
