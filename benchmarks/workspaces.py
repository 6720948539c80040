"""`workspaces`: how many workspaces one process on one core drives at their full quota."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
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
from tests.redis.server import RedisProcess

from .charts import LIMIT, OTHERS, OURS, chart
from .peers import Call, posting, scheduling
from .processes import measured, serving, told
from .report import Report, Table, Target, judged
from .rounds import Figure, figure

BURST = 5
QUOTA = Quota(600, 60.0, burst=BURST)
BOTH = 100
"""Workspaces whose quotas both clients use up without effort: what a request costs is compared there."""
TOO_MANY = 1200
ROUNDS = 3
"""Of what is compared: each client has a turn in each round, in processes of its own."""
FULL = 0.99
"""The share of the quota that counts as all of it."""
WORKERS = 2
"""Callers per workspace: one waits for its slot while the other's request is on its way."""
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Probe(msgspec.Struct):
    """So many workspaces of one client for some seconds."""

    workspaces: int
    rate: float
    """Accepted requests per second."""
    cpu: float
    """CPU seconds per second of the process that drives them."""
    rejected: int = 0
    looks: float = 0.0
    """Looks at the lane for a free slot, per request; only if they are counted."""
    timers: float = 0.0
    """Timers that the lane set, per request."""

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


class Counted:
    """Counts what the lanes of this process do, for a probe whose CPU does not matter."""

    def __init__(self) -> None:
        self.looks = self.timers = 0
        take, wake_at = LocalLane._take, LocalLane._wake_at

        def counted_take(lane: LocalLane, now: float, priority: Priority) -> float:
            self.looks += 1
            return take(lane, now, priority)

        def counted_wake_at(lane: LocalLane, when: float) -> None:
            before = lane._timer
            wake_at(lane, when)
            self.timers += lane._timer is not None and lane._timer is not before

        LocalLane._take = counted_take  # type: ignore[method-assign]
        LocalLane._wake_at = counted_wake_at  # type: ignore[method-assign]


async def _drive(
    client: str, url: str, workspaces: int, seconds: float, redis: str | None = None, counted: Counted | None = None
) -> Probe:
    """Every workspace asked for as much as it grants: the rate of the last `seconds`, after as long again to start up."""
    numbers, accepted = itertools.count(), 0

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
        began, cpu, before = time.perf_counter(), time.process_time(), accepted
        looks, timers = (counted.looks, counted.timers) if counted else (0, 0)
        await asyncio.sleep(seconds)
        cpu, passed, after = time.process_time() - cpu, time.perf_counter() - began, accepted
        if counted:
            looks, timers = counted.looks - looks, counted.timers - timers
        for task in workers:
            task.cancel()
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
    done = max(after - before, 1)
    return Probe(workspaces, done / passed, cpu / passed, looks=looks / done, timers=timers / done)


def _probe(client: str, loop: str, workspaces: int, seconds: float, *flags: str) -> Probe:
    """One measurement with processes of its own for the client and for the server.

    The server holds our keys to their quotas; the other client guarantees nothing, and is not held to anything.
    """
    limit = QUOTA.limit if client == OURSELVES else 0
    with serving("benchmarks.server", "--limit", str(limit), "--per", str(QUOTA.per)) as url:
        found = measured("benchmarks.workspaces", client, url, loop, str(workspaces), str(seconds), *flags)
        probe = msgspec.convert(found, Probe)
        probe.rejected = told(url, "statistics")["rejected"]
    return probe


def _compared(loop: str, workspaces: int, seconds: float, rounds: int) -> tuple[Probe, Probe, Figure]:
    """A typical probe of ours and of the bare client, and how many times as much CPU a request of ours takes."""
    found: dict[str, list[Probe]] = {OURSELVES: [], BARE: []}
    for number in range(rounds):
        # Each probe has processes of its own: none warms up the next.
        for client in (BARE, OURSELVES) if number % 2 else (OURSELVES, BARE):
            found[client].append(_probe(client, loop, workspaces, seconds))
    costs = {client: [probe.cost for probe in probes] for client, probes in found.items()}
    typical = {client: sorted(probes, key=lambda probe: probe.cost)[rounds // 2] for client, probes in found.items()}
    return (
        typical[OURSELVES],
        typical[BARE],
        figure(mine / other for mine, other in zip(costs[OURSELVES], costs[BARE], strict=True)),
    )


def _most(loop: str, overload: Probe, seconds: float) -> list[Probe]:
    """Probes from an overload, with more workspaces than there can be, down to a number that is sustained, and up again."""
    first, probes = overload.workspaces, [overload]
    while not probes[-1].sustained and probes[-1].workspaces > 10:
        # Who is asked for too much makes less than it could: the next number may be too small.
        reached = min(probes[-1].rate / QUOTA.rate, probes[-1].workspaces * 0.97)
        probes.append(_probe(OURSELVES, loop, max(10, int(reached) // 10 * 10), seconds))
    too_many = min((probe.workspaces for probe in probes if not probe.sustained), default=first + 1)
    while probes[-1].sustained:
        more = (int(probes[-1].workspaces * 1.1) // 10 + 1) * 10
        if more >= too_many:
            break
        probes.append(_probe(OURSELVES, loop, more, seconds))
    return probes


def _shared_by_two(workspaces: int, seconds: float) -> Probe | None:
    """Two processes of ours that share the quotas of the workspaces in one Redis; `None` where there is no Redis."""
    try:
        redis = RedisProcess()
    except RuntimeError:
        return None
    redis.start()
    try:
        with serving("benchmarks.server", "--limit", str(QUOTA.limit), "--per", str(QUOTA.per)) as url:
            arguments = (OURSELVES, url, "asyncio", str(workspaces), str(seconds), "--redis", redis.url)
            with ThreadPoolExecutor(2) as pool:
                both = list(pool.map(lambda _: measured("benchmarks.workspaces", *arguments), range(2)))
            rejected = told(url, "statistics")["rejected"]
    finally:
        redis.close()
    probes = [msgspec.convert(found, Probe) for found in both]
    return Probe(workspaces, sum(probe.rate for probe in probes), sum(probe.cpu for probe in probes), rejected)


def run(quick: bool) -> Report:
    """The report on driving many workspaces."""
    first, both, seconds, rounds = (20, 10, 1.0, 1) if quick else (TOO_MANY, BOTH, 8.0, ROUNDS)
    probes, others, same, same_bare, costs, shares = {}, {}, {}, {}, {}, {}
    for loop in LOOPS:
        same[loop], same_bare[loop], costs[loop] = _compared(loop, both, seconds / 2, rounds)
        overload, others[loop], more = _compared(loop, first, seconds / 2, rounds)
        shares[loop] = Figure(1 / more.value, 1 / more.high, 1 / more.low)
        probes[loop] = _most(loop, overload, seconds)
    counted = {count: _probe(OURSELVES, "asyncio", count, seconds / 2, "--count") for count in (both, first)}
    two = _shared_by_two(both, seconds)
    most = {
        loop: max((probe.workspaces for probe in found if probe.sustained), default=0) for loop, found in probes.items()
    }
    aim = max(most.values())

    drawing, axes = chart(size=(9.0, 3.2))
    for (loop, found), colour in zip(probes.items(), (OURS, OTHERS[0]), strict=True):
        ordered = sorted(found, key=lambda probe: probe.workspaces)
        axes.plot(
            [probe.workspaces for probe in ordered],
            [probe.rate for probe in ordered],
            marker="o",
            color=colour,
            label=loop,
        )
        axes.plot(
            others[loop].workspaces, others[loop].rate, marker="x", color=colour, label=f"{loop}, {BARE}", linestyle=""
        )
    axes.plot([0, aim], [0, aim * QUOTA.rate], color=LIMIT, linewidth=1.0)
    axes.annotate(
        "all of their quotas",
        (aim, aim * QUOTA.rate),
        color=LIMIT,
        xytext=(6, -6),
        textcoords="offset points",
    )
    axes.set(
        title="What workspaces get from one core",
        xlabel="workspaces",
        ylabel="requests / s",
        xlim=(0, None),
        ylim=(0, None),
    )
    axes.legend(loc="right")
    return Report(
        title="workspaces: many at full quota from one process",
        method=f"So many workspaces, each with a key, a session and {WORKERS} callers of its own, in one process and one "
        f"event loop, each asking for all of its {QUOTA.rate:g} requests a second ({QUOTA.limit} per {QUOTA.per:g} s); the "
        "connections are shared (`http=`). The server, in another process, holds each key to its quota in a strict sliding "
        "window. The other client is bare aiohttp and msgspec with one `AsyncLimiter` for each workspace, as deep as the "
        f"bucket of our lane ({BURST}), arranged in the same way, at a server that counts nothing: what single requests at "
        "their times cost without any guarantee. In both clients the workspaces begin one after the other, evenly spread "
        "over the time between two requests of a workspace: requests of workspaces that begin together share iterations of "
        "the event loop, and the client that begins faster would share more of them. What a "
        f"request costs is compared at {both} workspaces, which both clients sustain, and at {first:,}, which neither does: "
        f"medians of {rounds} rounds in which each client runs once for {seconds / 2:g} s, after as long to start up. "
        f"Sustained means that over {seconds:g} s, after as long to start up, together the workspaces got ≥ {FULL:.0%} of "
        "their quotas and not one 429: searched from above and then from below. Each measurement has processes of its own. "
        "The last row is two processes that share the quotas in one Redis.",
        figure=drawing,
        alt="Requests per second that workspaces make, by how many there are, with asyncio and with uvloop",
        tables=[
            Table(
                ("event loop", "workspaces", "requests / s", "of the quota", "CPU", "429s", "sustained"),
                [_row(loop, probe) for loop, found in probes.items() for probe in [same[loop], *found]]
                # Nobody holds the other client to anything.
                + [
                    (*_row(f"{loop}, {BARE}", other)[:-2], "-", "-")
                    for loop in LOOPS
                    for other in (same_bare[loop], others[loop])
                ]
                + ([_row("asyncio, two processes on one Redis", two)] if two is not None else []),
            ),
            Table(
                ("workspaces", "looks at the lane per request", "timers of the lane per request"),
                [(f"{count:,}", f"{probe.looks:.2f}", f"{probe.timers:.2f}") for count, probe in counted.items()],
                caption="What our requests ask of their lanes, when these have to wait for a slot and in overload:",
            ),
        ],
        targets=[
            judged(
                f"≤ 1.05 × the CPU of a bare request at {both} workspaces, {' and '.join(LOOPS)}",
                list(costs.values()),
                at_most=1.05,
                reason=_cost_of(same, same_bare),
            ),
            judged(
                f"≥ 0.9 × the requests of bare aiohttp for the same CPU when {first:,} workspaces ask, "
                f"{' and '.join(LOOPS)}",
                list(shares.values()),
                at_least=0.9,
                reason=f"{_cost_of({loop: found[0] for loop, found in probes.items()}, others)} In overload there is a free "
                f"slot for each call: it looks at its lane {counted[first].looks:.2f} times and sets "
                f"{counted[first].timers:.2f} timers, so what a request takes over the bare one is the rest of the call "
                "([`calls`](#calls)).",
            ),
            *(
                [
                    Target(
                        f"two processes on one Redis sustain {both} workspaces, no rejection",
                        f"{two.share:.1%}, {two.rejected} rejections",
                        two.sustained,
                    )
                ]
                if two is not None
                else []
            ),
        ],
        packages=("uvloop",),
    )


def _cost_of(ours: dict[str, Probe], bare: dict[str, Probe]) -> str:
    each = " and ".join(
        f"{probe.cost * 1e6:.0f} µs of CPU under {loop} where a bare one takes {bare[loop].cost * 1e6:.0f} µs"
        for loop, probe in ours.items()
    )
    return f"a request takes {each}."


def _row(name: str, probe: Probe) -> tuple[str, ...]:
    return (
        name,
        str(probe.workspaces),
        f"{probe.rate:,.0f}",
        f"{probe.share:.1%}",
        f"{probe.cpu:.0%}",
        str(probe.rejected),
        "**yes**" if probe.sustained else "no",
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("url")
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("workspaces", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("--redis")
    parser.add_argument("--count", action="store_true", help="count looks at the lanes; for one event loop")
    options = parser.parse_args()
    counted = Counted() if options.count else None
    with asyncio.Runner(loop_factory=LOOPS[options.loop]) as runner:
        found = runner.run(
            _drive(options.client, options.url, options.workspaces, options.seconds, options.redis, counted)
        )
    sys.stdout.write(json.dumps(msgspec.to_builtins(found)))


if __name__ == "__main__":
    main()
