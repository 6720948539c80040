"""`alone`: what pacing costs those who have the quota to themselves, and what it gives those who share it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TypeVar

from recall_async import Priority, Quota
from recall_async.limits.local.lane import LocalLane
from tests.simulation import Saturation, Server, alone, interrupt, saturate
from tests.virtual_time import run as in_virtual_time

from .charts import LIMIT, OTHERS, OURS, chart
from .limiters import AUTO, GREEDY, SMOOTH
from .limiters import OURS as MODES
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
FLOODS = (50, 150)


def _simulated(
    quota: Quota, what: Callable[[LocalLane, Server, Random], Coroutine[object, object, T]]
) -> tuple[T, int]:
    """What comes of it in virtual time, and how many requests were rejected."""
    random = Random(7)
    server = Server(quota.limit, quota.per, random, DELAY)

    async def main() -> T:
        return await what(LocalLane("calendar_events.schedule_bot", quota), server, random)

    return in_virtual_time(main()), len(server.rejected)


def _job(quota: Quota, calls: int, priority: Priority = Priority.BULK) -> tuple[float, int]:
    return _simulated(quota, lambda lane, server, random: alone(lane, server, calls, priority))


def _beside(quota: Quota, rate: float, duration: float) -> Saturation:
    def what(lane: LocalLane, server: Server, random: Random) -> Coroutine[object, object, Saturation]:
        return saturate(lane, server, random, duration=duration, calls_per_second=rate)

    return _simulated(quota, what)[0]


def _onset(quota: Quota, rate: float) -> list[float]:
    return _simulated(quota, lambda lane, server, random: interrupt(lane, server, random, calls_per_second=rate))[0]


def _flood(quota: Quota, calls: int) -> list[float]:
    return _simulated(quota, lambda lane, server, random: interrupt(lane, server, random, at_once=calls))[0]


def _real(name: str, limit: int, per: float, calls: int) -> tuple[float, int]:
    """A lone bulk job over HTTP, in a process of its own, against a server of its own."""
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
    onsets = {(name, rate): _onset(quota, rate) for name, quota in quotas.items() for rate in (2.0, 5.0)}
    floods = {(name, calls): _flood(quota, calls) for name, quota in quotas.items() for calls in FLOODS}
    small, short = (12, 2.0) if quick else (limit, per)
    sizes = [calls * small // limit for calls in JOBS]
    cells = [(name, calls) for name in ((AUTO,) if quick else MODES) for calls in sizes]
    with ThreadPoolExecutor(len(cells)) as pool:
        real = dict(zip(cells, pool.map(lambda cell: _real(cell[0], small, short, cell[1]), cells), strict=True))

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
    late = {rate: beside[AUTO, rate].wait(0.99) for rate in RATES}
    used = min(beside[AUTO, rate].used for rate in RATES)
    return Report(
        title="alone: what pacing costs those who do not share",
        method=f"In virtual time, at {limit} requests per {per:g} s against a strict sliding window behind a network with 0 "
        f"to {DELAY * 1e3:.0f} ms of delay each way, the simulation that the tests use: a bulk job that is alone; {AT_ONCE} "
        f"interactive calls at once on an idle lane; and a bulk job that never ends beside people who call at random, for "
        f"{duration / 60:g} minutes after three windows, who begin to call when it has been alone for five windows, or who "
        "call all at once then. Ours by default, with `burst=limit // 10` (smooth) and with `burst=limit, reserve=0` "
        f"(greedy). Then the lone jobs in real time, at {small} per {short:g} s, against Django REST Framework's throttle "
        "behind the same delays, each in a process of its own with a server of its own.",
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
                    for name in MODES
                    if (name, sizes[0]) in real
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
                    *(f"onset at {rate:g}/s, p99" for rate in (2.0, 5.0)),
                    *(f"{calls} at once, longest" for calls in FLOODS),
                ),
                [
                    row(
                        name,
                        [
                            *(f"{_p99(onsets[name, rate]):.2f} s" for rate in (2.0, 5.0)),
                            *(f"{floods[name, calls][-1]:.1f} s" for calls in FLOODS),
                        ],
                    )
                    for name in MODES
                ],
                "The same when people begin to call only after five windows:",
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
            Target("no rejection, in virtual time", str(most), most == 0),
            Target(
                "no rejection, in real time",
                str(sum(found[1] for found in real.values())),
                not any(found[1] for found in real.values()),
            ),
        ],
        losses=[
            f"automatic pacing takes {jobs[AUTO, 500][0]:.0f} s for a lone job of 500 actions where greedy takes "
            f"{jobs[GREEDY, 500][0]:.1f} s; beside it, interactive calls wait {beside[GREEDY, 2.0].wait(0.99):.0f} s (p99)."
        ],
        packages=("django", "djangorestframework"),
    )
