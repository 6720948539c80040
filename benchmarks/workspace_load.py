"""Workspaces that ask for their quotas in one process, and what that costs: the load of `workspaces`."""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import sys
import time
from collections.abc import Mapping
from contextlib import AsyncExitStack

import aiohttp
import msgspec
import uvloop
from aiolimiter import AsyncLimiter

from recall_async import Quota, RecallSession
from recall_async.limits.contract import QuotaStore
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.quota import Priority
from recall_async.limits.redis import RedisQuotaStore

from .peers import Call, posting, scheduling

BURST = 5
QUOTA = Quota(600, 60.0, burst=BURST)
FULL = 0.99
"""The share of the quota that counts as all of it."""
WORKERS = 2
"""Callers per workspace: one waits for its slot while the other's request is on its way."""
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Probe(msgspec.Struct, kw_only=True):
    """So many workspaces of one client for some seconds."""

    workspaces: int
    rate: float
    """Accepted requests per second."""
    cpu: float
    """CPU seconds per second of the process that drives them."""
    collecting: float = 0.0
    """Of these, seconds of garbage collection."""
    rejected: int = 0
    looks: float = 0.0
    """Looks at the lane or limiter for a free slot, per request; only if they are counted."""
    timers: float = 0.0
    """Timers that it set, per request."""

    @property
    def cost(self) -> float:
        """CPU seconds per request."""
        return self.cpu / self.rate

    @property
    def share(self) -> float:
        """Of the quotas of all workspaces."""
        return self.rate / (self.workspaces * QUOTA.rate)

    @property
    def sustained(self) -> bool:
        return self.share >= FULL and not self.rejected


def ours(
    url: str, key: str, http: aiohttp.ClientSession, stack: AsyncExitStack, store: QuotaStore | None = None
) -> Call:
    quotas = {"calendar_events.schedule_bot": QUOTA}
    recall = RecallSession(key, base_url=url, http=http, quotas=quotas, quota_store=store)
    stack.push_async_callback(recall.aclose)
    return scheduling(recall)


def bare(url: str, key: str, http: aiohttp.ClientSession, _: AsyncExitStack, store: QuotaStore | None = None) -> Call:
    post, limiter = posting(http, url, key), AsyncLimiter(BURST, BURST / QUOTA.rate)  # the bucket that our lane has

    async def call(event_id: str) -> object:
        async with limiter:
            return await post(event_id)

    return call


OURSELVES, BARE = "recall_async", "aiohttp + AsyncLimiter"
CLIENTS = {OURSELVES: ours, BARE: bare}


class Collecting:
    """Counts the seconds of garbage collection in this process."""

    def __init__(self) -> None:
        self.seconds = self._begun = 0.0
        gc.callbacks.append(self._on_phase)

    def _on_phase(self, phase: str, _: Mapping[str, int]) -> None:
        now = time.thread_time()
        if phase == "start":
            self._begun = now
        else:
            self.seconds += now - self._begun


class Counted:
    """Counts the looks and timers of lanes or limiters, for a probe whose CPU does not matter."""

    def __init__(self, client: str) -> None:
        self.looks = self.timers = 0
        take, wake_at, wake_next = LocalLane._take, LocalLane._wake_at, AsyncLimiter._wake_next

        def counted_take(lane: LocalLane, now: float, priority: Priority) -> float:
            self.looks += 1
            return take(lane, now, priority)

        def counted_wake_at(lane: LocalLane, when: float) -> None:
            before = lane._timer
            wake_at(lane, when)
            self.timers += lane._timer is not None and lane._timer is not before

        def counted_wake_next(limiter: AsyncLimiter, *ended: object) -> None:
            self.looks += 1
            before = limiter._waker_handle
            wake_next(limiter, *ended)
            self.timers += limiter._waker_handle is not None and limiter._waker_handle is not before

        if client == BARE:
            AsyncLimiter._wake_next = counted_wake_next  # type: ignore[method-assign]
        else:
            LocalLane._take = counted_take  # type: ignore[method-assign]
            LocalLane._wake_at = counted_wake_at  # type: ignore[method-assign]


async def _drive(
    client: str, url: str, workspaces: int, seconds: float, redis: str | None = None, counted: Counted | None = None
) -> Probe:
    """Every workspace asked for as much as it grants: the rate of the last `seconds`, after as long again to start up."""
    numbers, accepted, collecting = itertools.count(), 0, Collecting()

    async def worker(call: Call, first: float) -> None:
        nonlocal accepted
        await asyncio.sleep(first)
        while True:
            await call(f"00000000-0000-4000-8000-{next(numbers):012x}")
            accepted += 1

    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        store = RedisQuotaStore.from_url(redis) if redis else None
        if store is not None:
            stack.push_async_callback(store.aclose)
        calls = [CLIENTS[client](url, f"{number:040x}", http, stack, store) for number in range(workspaces)]
        apart = 1 / QUOTA.rate / workspaces
        workers = [
            asyncio.ensure_future(worker(call, number * apart))
            for number, call in enumerate(calls)
            for _ in range(WORKERS)
        ]
        await asyncio.sleep(seconds)
        began, cpu, before, collected = time.perf_counter(), time.process_time(), accepted, collecting.seconds
        looks, timers = (counted.looks, counted.timers) if counted else (0, 0)
        await asyncio.sleep(seconds)
        cpu, passed, after = time.process_time() - cpu, time.perf_counter() - began, accepted
        collected = collecting.seconds - collected
        if counted:
            looks, timers = counted.looks - looks, counted.timers - timers
        for task in workers:
            task.cancel()
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
    done = max(after - before, 1)
    return Probe(
        workspaces=workspaces,
        rate=done / passed,
        cpu=cpu / passed,
        collecting=collected / passed,
        looks=looks / done,
        timers=timers / done,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("url")
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("workspaces", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--redis")
    parser.add_argument("--count", action="store_true", help="count looks at the lanes or limiters")
    parser.add_argument("--threshold", type=int, help="for `gc.set_threshold`")
    options = parser.parse_args()
    if options.threshold:
        gc.set_threshold(options.threshold)
    counted = Counted(options.client) if options.count else None
    with asyncio.Runner(loop_factory=LOOPS[options.loop]) as runner:
        found = runner.run(
            _drive(options.client, options.url, options.workspaces, options.seconds, options.redis, counted)
        )
    sys.stdout.write(json.dumps(msgspec.to_builtins(found)))


if __name__ == "__main__":
    main()
