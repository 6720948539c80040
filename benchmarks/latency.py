"""`latency`: what a person waits while a bulk job takes all the quota there is."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from random import Random
from uuid import uuid4

from aiolimiter import AsyncLimiter

from recall_async import Priority, Quota, RecallSession
from recall_async.limits.contract import Ending, QuotaLane, Slot
from recall_async.limits.local.lane import LocalLane
from tests.simulation import Saturation, Server, saturate
from tests.virtual_time import run as in_virtual_time

from .charts import LIMIT, OTHERS, OURS, chart
from .lanes import PlainLane
from .peers import KEY, Peer, connections
from .processes import serving, told
from .report import Report, Table, Target
from .rounds import quantile

MINE = "recall_async"
README = "AsyncLimiter(limit, per)"
EVEN = "AsyncLimiter(limit / per, 1)"
GREEDY = "recall_async, greedy"
DELAY = 0.2
CALLS_PER_SECOND = 0.5
WORKERS = 64
"""Calls that the bulk job keeps waiting."""
P99 = 0.12
"""Seconds, the target."""


class Fifo(PlainLane):
    """One `AsyncLimiter` for everybody, first come, first served; a 429 holds everybody back for its `Retry-After`."""

    def __init__(self, quota: Quota, limiter: AsyncLimiter) -> None:
        super().__init__(quota)
        self._limiter = limiter
        self._paused_until = -math.inf

    async def admit(
        self,
        priority: Priority = Priority.INTERACTIVE,
        start: float = math.inf,
        until: float = math.inf,
        *,
        retry: bool = False,
    ) -> Slot:
        await self._limiter.acquire()
        now = asyncio.get_running_loop().time
        while now() < self._paused_until:  # noqa: ASYNC110  (it may move while we wait)
            await asyncio.sleep(self._paused_until - now())
        return Slot(self._end, now())

    def _end(self, slot: Slot, ending: Ending, seconds: float) -> None:
        self._paused_until = max(self._paused_until, asyncio.get_running_loop().time() + seconds)


LANES: dict[str, Callable[[int, float], QuotaLane]] = {
    MINE: lambda limit, per: LocalLane("calendar_events.schedule_bot", Quota(limit, per)),
    GREEDY: lambda limit, per: LocalLane("calendar_events.schedule_bot", Quota(limit, per, burst=limit)),
    README: lambda limit, per: Fifo(Quota(limit, per), AsyncLimiter(limit, per)),
    EVEN: lambda limit, per: Fifo(Quota(limit, per), AsyncLimiter(limit / per, 1)),
}


async def _virtual(make: Callable[[int, float], QuotaLane], limit: int, per: float, duration: float) -> Saturation:
    random = Random(7)
    return await saturate(
        make(limit, per),
        Server(limit, per, random, DELAY),
        random,
        duration=duration,
        calls_per_second=CALLS_PER_SECOND,
        workers=WORKERS,
    )


Call = Callable[[Priority], Awaitable[object]]


async def _real(call: Call, duration: float, calls_per_second: float, workers: int) -> list[float]:
    """Seconds that interactive calls took while a bulk job never ended."""
    took, random = list[float](), Random(7)

    async def bulk_job() -> None:
        while True:
            await call(Priority.BULK)

    async def person() -> None:
        asked = time.perf_counter()
        await call(Priority.INTERACTIVE)
        took.append(time.perf_counter() - asked)

    async with asyncio.TaskGroup() as tasks:
        jobs = [tasks.create_task(bulk_job()) for _ in range(workers)]
        ends = time.perf_counter() + duration
        people = []
        while time.perf_counter() < ends:
            await asyncio.sleep(random.expovariate(calls_per_second))
            people.append(tasks.create_task(person()))
        await asyncio.wait(people)
        for job in jobs:
            job.cancel()
    return took


def _session(url: str, quota: Quota, stack: AsyncExitStack) -> Call:
    recall = RecallSession(KEY, base_url=url, quotas={"calendar_events.schedule_bot": quota})
    stack.push_async_callback(recall.aclose)

    async def call(priority: Priority) -> object:
        event_id = uuid4()
        return await recall.calendar_events.schedule_bot(
            event_id, deduplication_key=f"key-{event_id}", bot_config={"bot_name": "Notes"}, priority=priority
        )

    return call


def _peer(url: str, limiter: AsyncLimiter, stack: AsyncExitStack) -> Call:
    http = connections()
    stack.push_async_callback(http.close)
    peer = Peer(http, url, limiter.acquire)

    async def call(priority: Priority) -> None:
        await peer.call()

    return call


async def _in_real_time(limit: int, per: float, duration: float, workers: int) -> dict[str, tuple[list[float], int]]:
    """What interactive calls took, and rejections, of each: all at once, each with a server of its own."""
    async with AsyncExitStack() as stack:
        with ExitStack() as servers:
            urls = {
                name: servers.enter_context(serving("benchmarks.server", "--limit", str(limit), "--per", str(per)))
                for name in LANES
            }
            quota = Quota(limit, per)
            calls: dict[str, Call] = {
                MINE: _session(urls[MINE], quota, stack),
                GREEDY: _session(urls[GREEDY], Quota(limit, per, burst=limit), stack),
                README: _peer(urls[README], AsyncLimiter(limit, per), stack),
                EVEN: _peer(urls[EVEN], AsyncLimiter(quota.rate, 1), stack),
            }
            took = await asyncio.gather(
                *(_real(call, duration, 2 * CALLS_PER_SECOND, workers) for call in calls.values())
            )
            return {
                name: (sorted(seconds), told(urls[name], "statistics")["rejected"])
                for name, seconds in zip(calls, took, strict=True)
            }


def run(quick: bool) -> Report:
    """The report on waiting behind a bulk job."""
    limit, per = 600, 60.0
    hours = 0.05 if quick else 1.0
    simulated = {name: in_virtual_time(_virtual(make, limit, per, hours * 3600)) for name, make in LANES.items()}
    small, short, duration, workers = (12, 1.2, 2.0, 8) if quick else (60, 6.0, 60.0, WORKERS)
    real = asyncio.run(_in_real_time(small, short, duration, workers))
    mine = simulated[MINE]
    p99, live = mine.wait(0.99), quantile(real[MINE][0], 0.99)

    figure, axes = chart(size=(9.0, 3.6))
    for place, (name, found) in enumerate(simulated.items()):
        shares = [(number + 1) / len(found.waits) for number in range(len(found.waits))]
        line, colour = (
            ("-", OURS) if name == MINE else ("--", OURS) if name == GREEDY else ("-", OTHERS[(place - 2) * 2])
        )
        waits = [max(wait, 1e-3) for wait in found.waits]
        axes.step([1e-3, *waits], [0.0, *shares], where="post", label=name, linestyle=line, color=colour)
    axes.axvline(P99, color=LIMIT, linewidth=0.8, linestyle=":")
    axes.annotate(f" target: p99 ≤ {P99:g} s", (P99, 0.3), color=LIMIT)
    axes.set(
        title=f"Share of interactive calls that waited no longer, at {limit} per {per:g} s",
        xlabel="seconds (log; 0.001 is not at all)",
        xscale="log",
        ylim=(0, 1.02),
    )
    axes.legend(loc="center", bbox_to_anchor=(0.6, 0.6))

    def seconds(value: float) -> str:
        return f"{value:.2f} s"

    return Report(
        title="latency: interactive calls beside a bulk job",
        method=f"A bulk job that never ends keeps {WORKERS} calls waiting, and people call at random, {CALLS_PER_SECOND:g} "
        f"times a second: {hours:g} h of it in virtual time, at {limit} requests per {per:g} s, against a strict sliding "
        f"window behind a network with 0 to {DELAY * 1e3:.0f} ms of delay each way; the simulation is the one that the "
        "tests use. Ours as it is by default, ours with `burst=limit`, and one `AsyncLimiter` for all, first come, first "
        "served, where a 429 holds everybody back until its `Retry-After`. Then in real time, scaled down: "
        f"{duration:g} s at {small} per {short:g} s against a local server, all of them at once, each with a server of its "
        f"own, {2 * CALLS_PER_SECOND:g} interactive calls a second; here a call's time is its wait and the request itself.",
        figure=figure,
        alt="Share of interactive calls by the seconds they waited, for each limiter",
        tables=[
            Table(
                ("", "quota used", "429s", "p50", "p90", "p99", "longest"),
                [
                    (
                        f"**{name}**" if name == MINE else name,
                        f"{found.used:.1%}",
                        f"{found.rejected:,}",
                        *(seconds(found.wait(share)) for share in (0.5, 0.9, 0.99, 1.0)),
                    )
                    for name, found in simulated.items()
                ],
                f"In virtual time, {len(mine.waits):,} interactive calls:",
            ),
            Table(
                ("", "429s", "p50", "p90", "p99", "longest"),
                [
                    (
                        f"**{name}**" if name == MINE else name,
                        f"{rejected:,}",
                        *(seconds(quantile(took, share)) for share in (0.5, 0.9, 0.99, 1.0)),
                    )
                    for name, (took, rejected) in real.items()
                ],
                f"In real time, scaled down, {len(real[MINE][0]):,} interactive calls:",
            ),
        ],
        targets=[
            Target(f"p99 of the wait ≤ {P99:g} s", f"{p99:.3f} s", p99 <= P99),
            Target("with ≥ 99 % of the quota in use", f"{mine.used:.1%}", mine.used >= 0.99),
            Target("and no rejection", f"{mine.rejected}", mine.rejected == 0),
            Target(
                f"in real time, scaled down: p99 of the call ≤ {P99:g} s, no rejection",
                f"{live:.3f} s, {real[MINE][1]}",
                live <= P99 and real[MINE][1] == 0,
            ),
        ],
        losses=[
            f"greedy pacing uses {simulated[GREEDY].used:.1%} of the quota where the default uses {mine.used:.1%}, at the "
            f"price of waits of {simulated[GREEDY].wait(0.99):.0f} s (p99)."
        ]
        if simulated[GREEDY].used > mine.used
        else [],
    )
