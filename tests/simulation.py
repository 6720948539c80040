"""What a quota meets in the world, simulated in virtual time: a strict server behind a network with random delays, bulk
jobs that never end, people who call now and then, and clients that know nothing of each other.

Everything follows from the seed of the `Random` given.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from random import Random
from typing import NamedTuple

from recall_async.limits.contract import QuotaLane
from recall_async.limits.quota import Priority


class Reply(NamedTuple):
    """What the server said to one request."""

    accepted: bool
    retry_after: int = 0


class Server:
    """Counts accepted requests in a sliding window and refuses the rest, as Django REST Framework's throttle does.

    A request takes up to `delay` seconds to the moment at which it is counted, and its answer up to `delay` seconds back.
    """

    def __init__(self, limit: int, per: float, random: Random, delay: float = 0.2) -> None:
        self._limit = limit
        self._per = per
        self._random = random
        self._delay = delay
        self._window: deque[float] = deque()
        self.accepted: list[float] = []
        """When requests were accepted."""
        self.rejected: list[float] = []
        """When requests were refused."""

    async def request(self) -> Reply:
        """Send one request."""
        await asyncio.sleep(self._random.random() * self._delay)
        reply = self._count(asyncio.get_running_loop().time())
        await asyncio.sleep(self._random.random() * self._delay)
        return reply

    def _count(self, now: float) -> Reply:
        while self._window and self._window[0] <= now - self._per:
            self._window.popleft()
        if len(self._window) >= self._limit:
            self.rejected.append(now)
            return Reply(False, math.ceil(self._window[0] + self._per - now))
        self._window.append(now)
        self.accepted.append(now)
        return Reply(True)


async def call(lane: QuotaLane, server: Server, priority: Priority = Priority.INTERACTIVE) -> float:
    """One call through a lane, tried again until the server accepts it. Returns the seconds it waited for its slots."""
    now = asyncio.get_running_loop().time
    waited = 0.0
    while True:
        asked = now()
        slot = await lane.admit(priority)
        waited += now() - asked
        reply = await server.request()
        if not reply.accepted:
            lane.pause(slot, reply.retry_after)
        slot.answered(accepted=reply.accepted)
        if reply.accepted:
            return waited
