"""`shared-store`: what the shared quota costs Redis, and how far one server reaches."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import time
from functools import partial
from random import Random

from redis import Redis
from redis.asyncio import Redis as ClientOfAsyncio

from recall_async.limits.quota import Quota
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.wire import Wire, evalsha
from tests.redis.server import executable

from .charts import OURS, chart
from .redis_cluster import Demand, masters_needed, measured_shares, slots_of, spread
from .redis_load import Pipe, busy_server, packed, request
from .report import Report, Table, Target, Unavailable
from .rounds import quantile, turns

WORKSPACES = 3000
RATE = 10.0
"""Requests per second of each."""
ROUNDS = 6
Load = tuple[int, int]
"""Scripts in one message, as many as a process has lanes with something to say; and slots that each asks for."""
LOADS: tuple[Load, ...] = ((1, 1), (4, 1), (16, 1), (64, 1), (16, 2))
TYPICAL = (16, 1)
DEMANDS = (
    Demand("1 in 100 at full quota, the others 1 request a minute", 0.01, 1 / 60),
    Demand("1 in 10 at full quota, the others 6 a minute", 0.1, 0.1),
    Demand("all at full quota", 1.0, 1.0),
)
MOST = 0.6
"""The share of its core that a master is loaded with: the rest is for its neighbours' workspaces when they fail."""


def _capacity(workspaces: int, seconds: float) -> dict[Load, tuple[float, float]]:
    """By load: requests per second, and microseconds of Redis' CPU for each, in the fastest round."""
    rounds: dict[Load, list[tuple[float, float]]] = {load: [] for load in LOADS}
    number = 0
    with busy_server(workspaces) as (server, busy_ones):
        for load, counts in turns(LOADS, ROUNDS):
            together, slots = load
            pipe = Pipe(server.port)
            done, busy, began = 0, 0.0, server.cpu_seconds()
            while busy < seconds / ROUNDS:
                places = range(number, number + together)
                batch = [
                    packed(request(busy_ones[one % workspaces], 2 * one, 2 * (one - workspaces), slots))
                    for one in places
                ]
                busy += pipe.exchange(batch)
                number, done = number + together, done + together * slots
            if counts:
                rounds[load].append((done / busy, (server.cpu_seconds() - began) / done * 1e6))
            pipe.close()
    return {
        load: (max(rate for rate, _ in found), min(micros for _, micros in found)) for load, found in rounds.items()
    }


def _latency(workspaces: int, seconds: float) -> tuple[list[float], float, float]:
    """Milliseconds that messages of 16 requests took at the target's rate; the rate reached, and Redis' share of a core."""
    together, waits = 16, list[float]()
    rate = workspaces * RATE / together
    with busy_server(workspaces) as (server, busy_ones):
        numbers = range(0, int(rate * seconds) * together, together)
        batches = [
            [packed(request(busy_ones[one % workspaces], one, one - workspaces)) for one in range(n, n + together)]
            for n in numbers
        ]
        pipe = Pipe(server.port)
        began, cpu = time.perf_counter(), server.cpu_seconds()
        for batch in batches:
            due = began + len(waits) / rate - time.perf_counter()
            if due > 0:
                time.sleep(due)
            waits.append(pipe.exchange(batch) * 1e3)
        passed = time.perf_counter() - began
        pipe.close()
        return waits, len(batches) * together / passed, (server.cpu_seconds() - cpu) / passed


def _lanes(lanes: int, seconds: float) -> tuple[float, float, float, int]:
    """Through the library: microseconds of this process' CPU and of Redis' for each admission, admissions per second, and
    the bytes of a lane whose slots are taken.
    """
    with busy_server(1) as (server, busy_ones):

        async def work() -> tuple[float, int]:
            store = RedisQuotaStore.from_url(server.url)
            made = [
                store.open(f"w{number}", "calendar_events.schedule_bot", Quota(600, 60.0)) for number in range(lanes)
            ]
            admitted = 0
            end = time.perf_counter() + seconds

            async def use(number: int) -> None:
                nonlocal admitted
                await asyncio.sleep(number / lanes / RATE)
                while time.perf_counter() < end:
                    slot = await made[number].admit()
                    slot.answered()
                    admitted += 1
                    await asyncio.sleep(1 / RATE)

            began = time.process_time()
            await asyncio.gather(*(use(number) for number in range(lanes)))
            used = time.process_time() - began
            for lane in made:
                lane.leave(Quota(600, 60.0))
            await asyncio.gather(*(lane.flush() for lane in made))
            return used, admitted

        cpu = server.cpu_seconds()
        used, admitted = asyncio.run(work())
        redis_used = server.cpu_seconds() - cpu
        with Redis(port=server.port) as client:
            size = int(client.memory_usage(busy_ones[0].keys.slots, samples=0) or 0)
        return used / admitted * 1e6, redis_used / admitted * 1e6, admitted / seconds, size


def _messages(count: int) -> dict[str, float]:
    """Microseconds of this process' CPU for a message of one request: over the held connection, and by a pipeline."""
    with busy_server(1) as (server, busy_ones):
        commands = [request(busy_ones[0], 1, 0)]

        async def measure() -> dict[str, float]:
            found: dict[str, list[float]] = {"held connection": [], "pipeline": []}
            async with ClientOfAsyncio.from_url(server.url) as client:
                wire = await Wire.open(client)

                async def by_pipeline() -> None:
                    pipeline = client.pipeline(transaction=False)
                    for command in commands:
                        pipeline.execute_command(*evalsha(command))
                    await pipeline.execute()

                for _ in range(ROUNDS):
                    for way, send in (("held connection", partial(wire.exchange, commands)), ("pipeline", by_pipeline)):
                        began = time.process_time()
                        for _ in range(count):
                            await send()
                        found[way].append((time.process_time() - began) / count * 1e6)
                await wire.aclose()
            return {way: min(rounds) for way, rounds in found.items()}

        return asyncio.run(measure())


def _version() -> str:
    """The server's own version: what a script takes differs between them."""
    said = subprocess.run([executable(), "--version"], capture_output=True, text=True, check=True).stdout
    return next(word[2:] for word in said.split() if word.startswith("v="))


def run(quick: bool) -> Report:
    """The report on the shared quota."""
    try:
        executable()
    except RuntimeError as reason:
        raise Unavailable(str(reason)) from None
    seconds = 0.5 if quick else 6.0
    workspaces = 100 if quick else WORKSPACES
    capacity = _capacity(workspaces, seconds)
    waits, rate, share = _latency(workspaces, seconds)
    own, redis_own, through, size = _lanes(50 if quick else 200, seconds)
    ways = _messages(50 if quick else 1000)
    cost = capacity[TYPICAL][1] / 1e6
    reached = 1 / cost / RATE
    slots = slots_of(2000 if quick else 100_000)
    scale = 100_000 / len(slots)

    figure, axes = chart(size=(9.0, 3.2))
    for demand in DEMANDS:
        needed = masters_needed(slots, demand, cost * scale, MOST)
        sizes = sorted({max(1, needed // 4), max(1, needed // 2), needed, needed * 2})
        loads = [spread(slots, demand, masters, cost * scale, Random(1)) for masters in sizes]
        axes.plot(sizes, [load.busiest for load in loads], marker="o", label=demand.name, color=None)
    axes.axhline(MOST, color=OURS, linewidth=1)
    axes.set(
        title="100,000 workspaces: the busiest master", xlabel="masters", ylabel="share of its core", ylim=(0, 1.5)
    )
    axes.set_xscale("log")
    axes.legend()
    cluster = []
    for demand in DEMANDS:
        needed = masters_needed(slots, demand, cost * scale, MOST)
        load = spread(slots, demand, needed, cost * scale, Random(1))
        cluster.append((demand.name, str(needed), f"{load.mean:.2f}", f"{load.busiest:.2f}", f"{100 / needed:.1f} %"))
    shares = measured_shares(60 if quick else 200, 1.0 if quick else 8.0)
    return Report(
        title="shared-store: one quota in Redis",
        method=f"A server of its own ({_version()}) with {workspaces:,} workspaces of 600 requests a minute, each with 590 "
        "slots taken. A request is a script that takes a slot and reports how the request before it ended; a bulk job's "
        "takes two slots, and reports two ends. The load is packed beforehand and written to a socket, so that Redis is "
        "what is measured; its CPU is that of its process, in the "
        f"fastest of {ROUNDS} rounds. Then the same at a fixed rate of {workspaces * RATE:,.0f} requests a second, and "
        "through the library.",
        figure=figure,
        alt="Share of a core that the busiest master uses, by the number of masters, for three kinds of demand",
        tables=[
            Table(
                (
                    "scripts in one message",
                    "slots in each",
                    "requests per second",
                    "CPU of Redis each",
                    "workspaces per core",
                ),
                [
                    (str(together), str(slots), f"{per_second:,.0f}", f"{micros:.0f} µs", f"{1e6 / micros / RATE:,.0f}")
                    for (together, slots), (per_second, micros) in capacity.items()
                ],
                caption="As much as goes, over one connection that waits for each message's answer:",
            ),
            Table(
                ("", "value"),
                [
                    ("requests per second", f"{rate:,.0f}"),
                    ("a message of 16, median", f"{statistics.median(waits):.2f} ms"),
                    ("a message of 16, 99th percentile", f"{quantile(waits, 0.99):.2f} ms"),
                    ("share of a core that Redis used", f"{share:.0%}"),
                ],
                caption=f"At the rate of {workspaces:,} workspaces at full quota:",
            ),
            Table(
                ("", "value"),
                [
                    ("admissions per second, in one process", f"{through:,.0f}"),
                    *(
                        (f"CPU of the client for a message of one, by {way}", f"{micros:.0f} µs")
                        for way, micros in ways.items()
                    ),
                    ("CPU of the process for each", f"{own:.0f} µs"),
                    ("CPU of Redis for each", f"{redis_own:.0f} µs"),
                    ("memory of 590 slots in Redis", f"{size / 1024:.0f} KiB"),
                ],
                caption="Through the library, as many workspaces as ask for a slot ten times a second:",
            ),
            Table(
                ("demand of 100,000 workspaces", "masters", "mean load", "busiest", "held when one fails"),
                cluster,
                caption=f"Simulated from the cost above (16 to a message), no master busier than {MOST:.0%} of its core; "
                "workspaces are placed by the cluster's own hash of their keys:",
            ),
            Table(
                (
                    "master of a real cluster",
                    "its part of the workspaces",
                    "its part of the CPU",
                    "CPU for each request",
                ),
                [
                    (str(number), f"{share.predicted:.1%}", f"{share.measured:.1%}", f"{share.cost * 1e6:.0f} µs")
                    for number, share in enumerate(shares, 1)
                ],
                caption="The simulation's premise, that a master's load follows from its workspaces, held against three "
                f"masters on this machine: {60 if quick else 200} workspaces of ten requests a second, through the library:",
            ),
        ],
        targets=[
            Target(
                f"one Redis core coordinates ≥ {WORKSPACES:,} workspaces at {RATE:g} requests/s each",
                f"{reached:,.0f} derived from its CPU; {rate / RATE:,.0f} driven, on {share:.0%} of a core",
                reached >= WORKSPACES,
                f"a request costs {cost * 1e6:.1f} µs of Redis' CPU, and {1e6 / RATE / WORKSPACES:.1f} µs would do.",
            )
        ],
        notes=[
            f"Driven and derived are two figures. The client here shares the machine's {os.cpu_count()} cores with Redis "
            "and waits for each message's reply before it sends the next: it was to send "
            f"{workspaces * RATE:,.0f} requests a second and sent {rate:,.0f}. The derived figure divides a core by the CPU "
            "of a request. A workspace that sends fewer than ten requests a second makes each of them dearer: once a "
            "second, a request of the workspace also renews and removes data.",
        ],
        packages=("redis",),
    )
