"""What clients that know nothing of each other cannot do: the measure of what they can.

A client sends at once as long as it has met no `429`, for it may be alone. From its first `429` on, an *oracle* sends for
it: one queue for all such clients, which sees the window of the server, has no network between, and is never refused. It
leaves a share of the quota to the clients that still know nothing, as long as requests come in.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import NamedTuple

from tests.simulation import Server


class Oracle(NamedTuple):
    """The strategy: how large a share of the quota is left to clients that have met no `429`."""

    left: float


class Queue:
    """The requests of all clients that have met a `429`."""

    def __init__(self, server: Server, left: int, until: float) -> None:
        """Leave `left` requests of the window to the others until the time `until`."""
        self._server = server
        self._left = left
        self._until = until
        self._turn = asyncio.Lock()

    async def sent(self) -> None:
        """Return when the server has accepted the request."""
        now = asyncio.get_running_loop().time
        async with self._turn:
            while self._server.free() <= (self._left if now() < self._until else 0):
                ends = self._until if now() < self._until else math.inf
                await asyncio.sleep(min(self._server.next_free(), ends) - now())
            self._server.count()


class Told:
    """A client of which the oracle takes care from its first `429` on, or where its own requests fill the window."""

    def __init__(self, queue: Queue, server: Server, limit: int, per: float) -> None:
        self._queue = queue
        self._server = server
        self._per = per
        self._mine: deque[float] = deque([-math.inf] * limit, maxlen=limit)
        self._knows = False

    async def call(self) -> None:
        """One call, until the server accepts it."""
        now = asyncio.get_running_loop().time()
        if not self._knows and self._mine[0] <= now - self._per:
            self._mine.append(now)
            if (await self._server.request()).accepted:
                return
            self._knows = True
        await self._queue.sent()
