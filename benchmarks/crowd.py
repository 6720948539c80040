"""Clients, by default ten, that know nothing of each other, on one quota, at one and a half times what it grants.

The set-up of "Rethinking HTTP API Rate Limiting: A Client-Side Approach", https://arxiv.org/abs/2510.04516.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from typing import NamedTuple

from recall_async import Quota
from recall_async.limits.local.lane import LocalLane
from tests.simulation import Server, call
from tests.virtual_time import run as in_virtual_time

from .oracle import Oracle, Queue, Told

CLIENTS = 10
DEMAND = 1.5
WINDOWS = 10
"""For how many of the quota's periods requests come in."""
BURST = 20
"""Requests that come at once, where they come in bursts."""
PATTERNS = ("Poisson", "bursts")
OURS = "recall_async"


class Backoff(NamedTuple):
    """Exponential backoff with full jitter, in seconds; what `Retry-After` says is waited first, or ignored."""

    base: float
    cap: float
    honours: bool

    def delay(self, attempt: int, retry_after: float, random: Random) -> float:
        """Seconds to wait after the attempt with this number, from 1."""
        jitter = random.uniform(0.0, min(self.cap, self.base * 2.0 ** min(attempt - 1, 64)))
        return jitter + retry_after if self.honours else jitter


Strategy = Backoff | Oracle | None
"""How a client copes; `None` is our lane."""


class Crowd(NamedTuple):
    """What became of everybody's requests."""

    requests: int
    rejected: int
    seconds: float
    """Until the last one was accepted."""


def arrivals(
    pattern: str, limit: int, per: float, windows: float, seed: int, members: int = CLIENTS
) -> list[list[float]]:
    """For each client, the seconds at which its requests come."""
    random = Random(seed)
    size = BURST if pattern == "bursts" else 1
    rate = DEMAND * limit / per / members / size
    clients = []
    for _ in range(members):
        times, now = list[float](), random.expovariate(rate)
        while now < windows * per:
            times += [now] * size
            now += random.expovariate(rate)
        clients.append(times)
    return clients


async def arrive(times: list[list[float]], clients: list[Callable[[], Awaitable[object]]]) -> float:
    """Seconds until each client has made a call at each of its times, and all have ended."""
    now = asyncio.get_running_loop().time
    began = now()

    async def one(at: float, make: Callable[[], Awaitable[object]]) -> None:
        await asyncio.sleep(began + at - now())
        await make()

    async with asyncio.TaskGroup() as tasks:
        for mine, make in zip(times, clients, strict=True):
            for at in mine:
                tasks.create_task(one(at, make))
    return now() - began


async def _simulated(
    strategy: Strategy, pattern: str, limit: int, per: float, windows: float, seed: int, members: int, delay: float
) -> Crowd:
    random = Random(seed)
    server = Server(limit, per, random, delay)
    left = round(strategy.left * limit) if isinstance(strategy, Oracle) else 0
    queue = Queue(server, left, asyncio.get_running_loop().time() + windows * per)

    def client() -> Callable[[], Awaitable[object]]:
        if strategy is None:
            lane = LocalLane("calendar_events.schedule_bot", Quota(limit, per), jitter=random.random)
            return lambda: call(lane, server)
        if isinstance(strategy, Oracle):
            return Told(queue, server, limit, per).call
        return lambda: backing_off(strategy)

    async def backing_off(backoff: Backoff) -> None:
        attempt = 1
        while not (reply := await server.request()).accepted:
            await asyncio.sleep(backoff.delay(attempt, reply.retry_after, random))
            attempt += 1

    times = arrivals(pattern, limit, per, windows, seed, members)
    seconds = await arrive(times, [client() for _ in range(members)])
    return Crowd(sum(map(len, times)), len(server.rejected), seconds)


def simulate(
    strategy: Strategy,
    pattern: str,
    limit: int,
    per: float,
    windows: float,
    seed: int,
    members: int = CLIENTS,
    delay: float = 0.2,
) -> Crowd:
    """The same in virtual time, behind a network with up to `delay` seconds each way; it follows from the seed."""
    return in_virtual_time(_simulated(strategy, pattern, limit, per, windows, seed, members, delay))
