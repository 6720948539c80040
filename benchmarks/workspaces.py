"""`workspaces`: how many workspaces one process on one core drives at their full quota."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import msgspec
import uvloop

from recall_async import Quota, RecallSession

from .charts import LIMIT, OTHERS, OURS, chart
from .processes import measured, serving, statistics_of
from .report import Report, Table, Target

QUOTA = Quota(600, 60.0, burst=5)
AIM = 600
FULL = 0.99
"""The share of the quota that counts as all of it."""
WORKERS = 2
"""Callers per workspace: one waits for its slot while the other's request is on its way."""
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Probe(msgspec.Struct):
    """So many workspaces for some seconds."""

    workspaces: int
    rate: float
    """Accepted requests per second."""
    cpu: float
    """CPU seconds per second of the process that drives them."""
    rejected: int = 0

    @property
    def share(self) -> float:
        """Of the quotas of all workspaces."""
        return self.rate / (self.workspaces * QUOTA.rate)

    @property
    def sustained(self) -> bool:
        return self.share >= FULL and not self.rejected


async def _drive(url: str, workspaces: int, seconds: float) -> Probe:
    """Every workspace asked for as much as it grants: the rate of the last `seconds`, after as long again to start up."""
    numbers, accepted = itertools.count(), 0

    async def worker(recall: RecallSession) -> None:
        nonlocal accepted
        schedule = recall.calendar_events.schedule_bot
        while True:
            number = next(numbers)
            await schedule(
                f"00000000-0000-4000-8000-{number:012x}",
                deduplication_key=f"key-{number}",
                bot_config={"bot_name": "Notes"},
            )
            accepted += 1

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        sessions = [
            RecallSession(f"{number:040x}", base_url=url, http=http, quotas={"calendar_events.schedule_bot": QUOTA})
            for number in range(workspaces)
        ]
        workers = [asyncio.ensure_future(worker(session)) for session in sessions for _ in range(WORKERS)]
        await asyncio.sleep(seconds)
        began, cpu, before = time.perf_counter(), time.process_time(), accepted
        await asyncio.sleep(seconds)
        cpu, passed, after = time.process_time() - cpu, time.perf_counter() - began, accepted
        for task in workers:
            task.cancel()
        for outcome in await asyncio.gather(*workers, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        for session in sessions:
            await session.aclose()
    return Probe(workspaces, (after - before) / passed, cpu / passed)


async def _bare(url: str, seconds: float) -> Probe:
    """As many requests as aiohttp alone can make: what no client built on it can exceed."""
    from .calls import CONCURRENCY, bare

    numbers, done = itertools.count(), 0

    async def worker(call: Callable[[str], Awaitable[object]]) -> None:
        nonlocal done
        while True:
            await call(f"00000000-0000-4000-8000-{next(numbers):012x}")
            done += 1

    async with AsyncExitStack() as stack:
        call = await bare(url, stack)
        workers = [asyncio.ensure_future(worker(call)) for _ in range(CONCURRENCY)]
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds)
        cpu, passed = time.process_time() - cpu, time.perf_counter() - began
        for task in workers:
            task.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return Probe(0, done / passed, cpu / passed)


def _probe(loop: str, workspaces: int, seconds: float) -> Probe:
    """One measurement with processes of its own for the client and for the server, which holds every key to its quota.

    No workspaces at all stand for a bare client without a quota.
    """
    limit = QUOTA.limit if workspaces else 0
    with serving("benchmarks.server", "--limit", str(limit), "--per", str(QUOTA.per)) as url:
        found = msgspec.convert(measured("benchmarks.workspaces", url, loop, str(workspaces), str(seconds)), Probe)
        found.rejected = statistics_of(url)["rejected"]
    return found


def _most(loop: str, first: int, seconds: float, step: float) -> list[Probe]:
    """Probes from `first`, more workspaces than there can be, down to the most that are sustained, which is the last."""
    probes = [_probe(loop, first, seconds)]
    while not probes[-1].sustained:
        last = probes[-1]
        reached = int(last.rate / QUOTA.rate)
        most = min(reached, int(last.workspaces * (1 - step)))
        probes.append(_probe(loop, max(10, most // 10 * 10), seconds))
    return probes


def run(quick: bool) -> Report:
    """The report on driving many workspaces."""
    first, seconds, step = (20, 1.0, 0.5) if quick else (2 * AIM, 8.0, 0.03)
    probes = {loop: _most(loop, first, seconds, step) for loop in LOOPS}
    best = {loop: found[-1] for loop, found in probes.items()}
    most = best["asyncio"].workspaces
    bare = {loop: _probe(loop, 0, seconds) for loop in LOOPS}

    figure, axes = chart(size=(9.0, 3.2))
    for (loop, found), colour in zip(probes.items(), (OURS, OTHERS[0]), strict=True):
        ordered = sorted(found, key=lambda probe: probe.workspaces)
        axes.plot(
            [probe.workspaces for probe in ordered],
            [probe.share * 100 for probe in ordered],
            marker="o",
            color=colour,
            label=loop,
        )
    axes.axvline(AIM, color=LIMIT, linewidth=0.8, linestyle=":")
    axes.annotate(f" target: {AIM}", (AIM, 0), color=LIMIT, xytext=(0, 4), textcoords="offset points")
    axes.set(
        title="How much of their quotas workspaces get from one core",
        xlabel="workspaces",
        ylabel="% of the quota",
        xlim=(0, None),
        ylim=(0, 105),
    )
    axes.legend(loc="lower left")
    return Report(
        title="workspaces: many at full quota from one process",
        method=f"So many workspaces, each with a key, a session and {WORKERS} callers of its own, in one process and one "
        f"event loop, each asking for all of its {QUOTA.rate:g} requests a second ({QUOTA.limit} per {QUOTA.per:g} s); the "
        "connections are shared (`http=`). The server, in another process, holds each key to its quota in a strict sliding "
        f"window. Sustained means that over {seconds:g} s, after as long to start up, together they got "
        f"≥ {FULL:.0%} of their quotas and not one 429. Searched from above, in processes of its own for each number.",
        figure=figure,
        alt="Share of the quota that workspaces get, by how many there are, with asyncio and with uvloop",
        tables=[
            Table(
                ("event loop", "workspaces", "requests / s", "of the quota", "CPU", "429s", "sustained"),
                [
                    (
                        loop,
                        str(probe.workspaces),
                        f"{probe.rate:,.0f}",
                        f"{probe.share:.1%}",
                        f"{probe.cpu:.0%}",
                        str(probe.rejected),
                        "**yes**" if probe.sustained else "no",
                    )
                    for loop, found in probes.items()
                    for probe in found
                ]
                + [
                    (f"{loop}, aiohttp alone", "-", f"{probe.rate:,.0f}", "-", f"{probe.cpu:.0%}", "-", "-")
                    for loop, probe in bare.items()
                ],
            )
        ],
        targets=[
            Target(
                f"≥ {AIM} workspaces at full quota per core, no rejection",
                f"{most}; {best['uvloop'].workspaces} with uvloop",
                most >= AIM and not best["asyncio"].rejected,
                f"aiohttp alone, which knows no quota, makes {bare['asyncio'].rate:,.0f} requests a second on this core "
                f"({bare['uvloop'].rate:,.0f} with uvloop), as many as {bare['asyncio'].rate / QUOTA.rate:.0f} workspaces "
                "may make.",
            )
        ],
        packages=("uvloop",),
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("loop", choices=LOOPS)
    parser.add_argument("workspaces", type=int)
    parser.add_argument("seconds", type=float)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=LOOPS[options.loop]) as runner:
        found: Any = runner.run(
            _drive(options.url, options.workspaces, options.seconds)
            if options.workspaces
            else _bare(options.url, options.seconds)
        )
    sys.stdout.write(json.dumps(msgspec.to_builtins(found)))


if __name__ == "__main__":
    main()
