"""Rate limiters, each used as its documentation shows, in front of the same requests.

    python -m benchmarks.limiters URL NAME CALLS LIMIT PER

makes the calls, all of them asked for at once, and prints how long they took and how many the server refused.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from uuid import uuid4

from aiolimiter import AsyncLimiter

from recall_async import Priority, Quota, RecallSession

from .peers import KEY, Peer, connections

Acquire = Callable[[], Awaitable[object]]


def _aiolimiter(limit: int, per: float) -> Acquire:
    return AsyncLimiter(limit, per).acquire


def _aiolimiter_even(limit: int, per: float) -> Acquire:
    return AsyncLimiter(limit / per, 1).acquire


def _pyrate_limiter(limit: int, per: float) -> Acquire:
    from pyrate_limiter import BucketAsyncWrapper, InMemoryBucket, Limiter, Rate

    limiter = Limiter(BucketAsyncWrapper(InMemoryBucket([Rate(limit, round(per * 1000))])))
    return lambda: limiter.try_acquire_async("schedule_bot")


def _limits(limit: int, per: float) -> Acquire:
    from limits import RateLimitItemPerSecond
    from limits.aio.storage import MemoryStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    window = MovingWindowRateLimiter(MemoryStorage())
    item = RateLimitItemPerSecond(limit, round(per))

    async def acquire() -> None:
        while not await window.hit(item, "schedule_bot"):
            resets = (await window.get_window_stats(item, "schedule_bot")).reset_time
            await asyncio.sleep(max(resets - time.time(), 0.001))

    return acquire


def _throttled(limit: int, per: float) -> Acquire:
    from throttled.asyncio import Throttled, rate_limiter

    throttle = Throttled(
        key="schedule_bot", quota=rate_limiter.per_duration(timedelta(seconds=per), limit), timeout=3600
    )
    return throttle.limit


PEERS: dict[str, Callable[[int, float], Acquire]] = {
    "AsyncLimiter(limit, per)": _aiolimiter,
    "AsyncLimiter(limit / per, 1)": _aiolimiter_even,
    "pyrate-limiter": _pyrate_limiter,
    "limits, moving window": _limits,
    "throttled-py": _throttled,
}
AUTO, SMOOTH, GREEDY = "recall_async", "recall_async, smooth", "recall_async, greedy"
OURS: dict[str, Callable[[int, float], Quota]] = {
    AUTO: Quota,
    SMOOTH: lambda limit, per: Quota(limit, per, burst=max(1, limit // 10)),
    GREEDY: lambda limit, per: Quota(limit, per, burst=limit, reserve=0),
}
NAMES = (*OURS, *PEERS)
BARE = "aiohttp, no limiter"


async def _unlimited() -> None: ...


async def _ours(url: str, quota: Quota, calls: int, max_connections: int | None) -> int:
    quotas = {"calendar_events.schedule_bot": quota}
    async with RecallSession(KEY, base_url=url, quotas=quotas, max_connections=max_connections) as recall:
        schedule = recall.calendar_events.schedule_bot
        async with asyncio.TaskGroup() as tasks:
            for _ in range(calls):
                event_id = uuid4()
                tasks.create_task(
                    schedule(
                        event_id,
                        deduplication_key=f"key-{event_id}",
                        bot_config={"bot_name": "Notes"},
                        priority=Priority.BULK,
                    )
                )
        return recall.statistics()["calendar_events.schedule_bot"].throttled


async def _theirs(url: str, acquire: Acquire, calls: int) -> int:
    async with connections() as http:
        peer = Peer(http, url, acquire)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(calls):
                tasks.create_task(peer.call())
        return peer.rejected


async def drive(url: str, name: str, calls: int, limit: int, per: float) -> tuple[float, int]:
    """Seconds until all calls were accepted, and how many requests were refused on the way."""
    began = time.perf_counter()
    if name in OURS:
        unbound = 2 * limit if name == GREEDY else None
        rejected = await _ours(url, OURS[name](limit, per), calls, unbound)
    else:
        rejected = await _theirs(url, _unlimited if name == BARE else PEERS[name](limit, per), calls)
    return time.perf_counter() - began, rejected


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("name", choices=(*NAMES, BARE))
    parser.add_argument("calls", type=int)
    parser.add_argument("limit", type=int)
    parser.add_argument("per", type=float)
    options = parser.parse_args()
    sys.stdout.write(
        json.dumps(asyncio.run(drive(options.url, options.name, options.calls, options.limit, options.per)))
    )


if __name__ == "__main__":
    main()
