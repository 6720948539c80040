"""`alone`: what pacing costs those who have the quota to themselves, and what it gives those who share it."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from random import Random
from statistics import mean, median
from typing import NamedTuple, TypeVar

from recall_async import Priority, Quota
from recall_async.limits.contract import QuotaLane
from recall_async.limits.local.lane import LocalLane
from tests.simulation import Saturation, Server, alone, interrupt, saturate
from tests.virtual_time import run as in_virtual_time

from .charts import LIMIT, OTHERS, OURS, chart
from .limiters import AUTO, BARE, GREEDY, SMOOTH
from .limiters import OURS as MODES
from .literally import LiteralLane
from .processes import measured, told
from .report import Report, Table, Target
from .throttle import DELAY, strict_server

T = TypeVar("T")

JOBS = {100: 1.0, 300: 2.0, 500: 45.0, 900: 65.0}
"""Actions of a lone bulk job, and the seconds within which it is to be done at 600 per 60 s."""
RATES = {0.5: 0.0, 2.0: 0.0, 5.0: 0.1, 8.0: 1.1}
"""Interactive calls a second beside a bulk job, and the seconds that 99 % of them may wait at the most."""
ROUND_TRIP = 2 * DELAY
AT_ONCE = 120
ONSETS = (2.0, 5.0)
FLOODS = (50, 150)
LITERAL = "the promise, taken literally"
ALIKE = 0.2
"""Seconds by which the waits in our lane may exceed those of the promise taken literally: one slot at the promised rate."""


def _lane(quota: Quota) -> LocalLane:
    return LocalLane("calendar_events.schedule_bot", quota)


def _simulated(
    quota: Quota,
    what: Callable[[QuotaLane, Server, Random], Coroutine[object, object, T]],
    *,
    lane: Callable[[Quota], QuotaLane] = _lane,
    seed: int = 7,
) -> tuple[T, int]:
    """What comes of it in virtual time, and how many requests were rejected.

    People come at times that follow from the seed alone, whatever the lane.
    """
    server = Server(quota.limit, quota.per, Random(seed + 1000), DELAY)

    async def main() -> T:
        return await what(lane(quota), server, Random(seed))

    return in_virtual_time(main()), len(server.rejected)


def _job(quota: Quota, calls: int, priority: Priority = Priority.BULK) -> tuple[float, int]:
    return _simulated(quota, lambda lane, server, random: alone(lane, server, calls, priority))


def _beside(quota: Quota, rate: float, duration: float) -> Saturation:
    def what(lane: QuotaLane, server: Server, random: Random) -> Coroutine[object, object, Saturation]:
        return saturate(lane, server, random, duration=duration, calls_per_second=rate)

    return _simulated(quota, what)[0]


class _Sudden(NamedTuple):
    """The waits of people who begin to call when a bulk job has been alone, one for each seed."""

    onsets: dict[float, list[float]]
    """The 99th percentile, by calls per second."""
    floods: dict[int, list[float]]
    """The longest, by calls at once."""

    def cells(self) -> list[str]:
        return [
            *(f"{median(found):.2f} s ({min(found):.2f} to {max(found):.2f})" for found in self.onsets.values()),
            *(f"{median(found):.1f} s" for found in self.floods.values()),
        ]

    def means(self) -> list[float]:
        return [mean(found) for found in (*self.onsets.values(), *self.floods.values())]


def _sudden(quota: Quota, seeds: int, lane: Callable[[Quota], QuotaLane] = _lane) -> _Sudden:
    def waits(seed: int, rate: float = 0.0, at_once: int = 0) -> list[float]:
        def what(lane: QuotaLane, server: Server, random: Random) -> Coroutine[object, object, list[float]]:
            return interrupt(lane, server, random, calls_per_second=rate, at_once=at_once)

        return _simulated(quota, what, lane=lane, seed=seed)[0]

    return _Sudden(
        {rate: [_p99(waits(seed, rate)) for seed in range(1, seeds + 1)] for rate in ONSETS},
        {calls: [waits(seed, at_once=calls)[-1] for seed in range(1, seeds + 1)] for calls in FLOODS},
    )


def _real(name: str, limit: int, per: float, calls: int, wait: float) -> tuple[float, int]:
    """A lone bulk job over HTTP, in a process of its own, against a server of its own, begun after `wait` seconds."""
    time.sleep(wait)
    with strict_server(limit, per) as url:
        seconds, _ = measured("benchmarks.limiters", url, name, str(calls), str(limit), f"{per:g}")
        return seconds, len(told(url, "requests")["rejected"])


def _p99(waits: list[float]) -> float:
    return waits[min(int(0.99 * len(waits)), len(waits) - 1)]


def run(quick: bool) -> Report:
    """The report on pacing for those who are alone."""
    limit, per = 600, 60.0
    duration = 300.0 if quick else 3600.0
    quotas = {name: make(limit, per) for name, make in MODES.items()}
    jobs = {(name, calls): _job(quota, calls) for name, quota in quotas.items() for calls in JOBS}
    people, rejected = _job(quotas[AUTO], AT_ONCE, Priority.INTERACTIVE)
    beside = {(name, rate): _beside(quota, rate, duration) for name, quota in quotas.items() for rate in RATES}
    seeds = 2 if quick else 12
    sudden = {name: _sudden(quota, seeds) for name, quota in quotas.items()}
    sudden[LITERAL] = _sudden(quotas[AUTO], seeds, LiteralLane)
    ours, literal = sudden[AUTO].means(), sudden[LITERAL].means()
    small, short = (12, 2.0) if quick else (limit, per)
    sizes = [calls * small // limit for calls in JOBS]
    names = (AUTO, BARE) if quick else (*MODES, BARE)
    # When all begin at once, they measure how two cores are divided among two dozen processes. Most of a job's time it
    # waits for the quota, so the next one begins meanwhile, but not while another one sends a window's requests.
    cells = [(name, calls) for calls in reversed(sizes) for name in names]
    with ThreadPoolExecutor(len(cells)) as pool:
        runs = {
            (name, calls): pool.submit(_real, name, small, short, calls, place * short / len(cells))
            for place, (name, calls) in enumerate(cells)
        }
        real = {cell: found.result() for cell, found in runs.items()}

    figure, axes = chart(size=(9.0, 3.6))
    sizes_drawn = range(20, 1201, 20)
    for name, line, colour in ((AUTO, "-", OURS), (SMOOTH, "--", OTHERS[0]), (GREEDY, ":", LIMIT)):
        axes.plot(
            sizes_drawn, [quotas[name].seconds_for(calls) for calls in sizes_drawn], line, label=name, color=colour
        )
        axes.plot(list(JOBS), [jobs[name, calls][0] for calls in JOBS], "o", color=colour, markersize=4)
    axes.set(
        title=f"Seconds that a lone bulk job takes, at {limit} per {per:g} s",
        xlabel="actions (lines: as `Quota.seconds_for` foresees; dots: as simulated)",
        ylim=(0, None),
    )
    axes.legend(loc="upper left")

    def row(name: str, cells: list[str]) -> list[str]:
        return [f"**{name}**" if name == AUTO else name, *cells]

    worst = max((found[0] / JOBS[calls], calls) for (name, calls), found in jobs.items() if name == AUTO)
    most = sum(found[1] for found in jobs.values()) + rejected + sum(found.rejected for found in beside.values())
    refused = sum(found[1] for (name, _), found in real.items() if name != BARE)
    late = {rate: beside[AUTO, rate].wait(0.99) for rate in RATES}
    used = min(beside[AUTO, rate].used for rate in RATES)
    return Report(
        title="alone: what pacing costs those who do not share",
        method=f"In virtual time, at {limit} requests per {per:g} s against a strict sliding window behind a network with "
        f"0 to {DELAY * 1e3:.0f} ms of delay each way, the simulation that the tests use: a bulk job that is alone; "
        f"{AT_ONCE} interactive calls at once on an idle lane; and a bulk job that never ends beside people who call at "
        f"random, for {duration / 60:g} minutes after three windows, who begin to call when it has been alone for five "
        "windows, or who call all at once then. Ours by default, with `burst=limit // 10` (smooth) and with `burst=limit, "
        "reserve=0` (greedy), and a lane that evaluates the promise's inequality literally, with the same people at the "
        f"same times. Then the lone jobs in real time, at {small} per {short:g} s, against Django REST Framework's "
        "throttle behind the same delays, one begun after another, each in a process of its own with a server of its own, "
        "and bare aiohttp that sends all at once and waits for `Retry-After`: what it takes below the limit is the "
        "machine's and the server's share.",
        figure=figure,
        alt="Seconds that a lone bulk job takes over its number of actions, by default, smooth and greedy",
        tables=[
            Table(
                ("", *(f"{calls} actions" for calls in JOBS)),
                [row(name, [f"{jobs[name, calls][0]:.1f} s" for calls in JOBS]) for name in MODES],
                "A lone bulk job, in virtual time:",
            ),
            Table(
                ("", *(f"{calls} actions" for calls in sizes), "429s"),
                [
                    row(
                        name,
                        [
                            *(f"{real[name, calls][0]:.1f} s" for calls in sizes),
                            str(sum(real[name, calls][1] for calls in sizes)),
                        ],
                    )
                    for name in names
                ],
                f"A lone bulk job, in real time, at {small} per {short:g} s:",
            ),
            Table(
                ("", "quota used", *(f"p99 at {rate:g}/s" for rate in RATES)),
                [
                    row(
                        name,
                        [
                            f"{min(beside[name, rate].used for rate in RATES):.1%}",
                            *(f"{beside[name, rate].wait(0.99):.2f} s" for rate in RATES),
                        ],
                    )
                    for name in MODES
                ],
                "Waits of interactive calls beside a bulk job that never ends:",
            ),
            Table(
                (
                    "",
                    *(f"onset at {rate:g}/s, p99" for rate in ONSETS),
                    *(f"{calls} at once, longest" for calls in FLOODS),
                ),
                [row(name, found.cells()) for name, found in sudden.items()],
                f"The same when people begin to call only after five windows; medians of {seeds} runs, with the least and "
                "the most:",
            ),
        ],
        targets=[
            Target(
                "lone jobs: " + ", ".join(f"{calls} actions within {most:g} s" for calls, most in JOBS.items()),
                ", ".join(f"{jobs[AUTO, calls][0]:.1f}" for calls in JOBS) + " s",
                worst[0] <= 1,
            ),
            Target(
                f"{AT_ONCE} interactive calls at once on an idle lane in one round trip",
                f"{people:.2f} s",
                people <= ROUND_TRIP,
            ),
            Target(
                "p99 beside a bulk job: " + ", ".join(f"≤ {most:g} s at {rate:g}/s" for rate, most in RATES.items()),
                ", ".join(f"{wait:.2f}" for wait in late.values()) + " s",
                all(round(late[rate], 2) <= most for rate, most in RATES.items()),
            ),
            Target("with ≥ 99.0 % of the quota in use", f"{used:.1%}", used >= 0.99),
            Target(
                f"onsets and floods at most {ALIKE:g} s longer than with the promise taken literally, on average",
                ", ".join(f"{wait - other:+.2f}" for wait, other in zip(ours, literal, strict=True)) + " s",
                all(wait <= other + ALIKE for wait, other in zip(ours, literal, strict=True)),
            ),
            Target("no rejection, in virtual time", str(most), most == 0),
            Target(
                "no rejection of ours, in real time",
                str(refused),
                not refused,
            ),
        ],
        losses=[
            f"automatic pacing takes {jobs[AUTO, 500][0]:.0f} s for a lone job of 500 actions where greedy takes "
            f"{jobs[GREEDY, 500][0]:.1f} s; beside it, interactive calls wait {beside[GREEDY, 2.0].wait(0.99):.0f} s (p99)."
        ],
        notes=[
            f"People who suddenly call at the promised rate, {quotas[AUTO].promised:g} a second, or all at once, wait for "
            "slots that the bulk job took before they came. The promise taken literally makes them wait as long, so this is "
            "its price, and not the lane's. Runs differ by the moments at which people call at random.",
            f"Below the limit, automatic pacing takes {real[AUTO, sizes[1]][0]:.1f} s for {sizes[1]} actions in real time, "
            f"and bare aiohttp, which waits for nothing, {real[BARE, sizes[1]][0]:.1f} s.",
        ],
        packages=("django", "djangorestframework"),
    )
