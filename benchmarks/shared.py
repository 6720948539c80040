"""`shared`: clients that share a quota and cannot see each other: rejections, and the time until all is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from random import Random
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

from recall_async import Quota, RecallSession, RetryPolicy

from .charts import LIMIT, OTHERS, chart
from .charts import OURS as OUR_COLOUR
from .crowd import BURST, CLIENTS, DEMAND, OURS, PATTERNS, WINDOWS, Backoff, Crowd, Strategy, arrivals, arrive, simulate
from .oracle import Oracle
from .peers import KEY, Peer, connections
from .report import Report, Table, Target
from .throttle import strict_server

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWER = 0.973
PATIENCE = ((0.1, 10.0), (0.5, 30.0), (4.0, 64.0))
"""Base and cap of backoffs, in seconds, from eager to patient."""


def _name(backoff: Backoff) -> str:
    honours = "honours" if backoff.honours else "ignores"
    return f"backoff {backoff.base:g} s to {backoff.cap:g} s, {honours} `Retry-After`"


BACKOFFS = [Backoff(base, cap, honours) for honours in (True, False) for base, cap in PATIENCE]
ORACLE = "oracle from the first 429 on"
ORACLES = {f"{ORACLE}, {left:.0%} left": Oracle(left) for left in (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)}
"""What no client can do, and with the fewest 429s: see `oracle.py`."""
STRATEGIES: dict[str, Strategy] = {OURS: None, **{_name(backoff): backoff for backoff in BACKOFFS}}
EAGER = _name(BACKOFFS[0])
"""Ours is held against this one."""
USUAL = _name(BACKOFFS[1])
"""What our own `RetryPolicy` does after other errors."""


class Setting(NamedTuple):
    """One crowd and its quota."""

    windows: float
    times: float
    """The target: our time over that of the eager backoff."""
    delay: float
    """Of the network each way, in seconds, at most."""
    members: int
    limit: int
    per: float
    seeds: int

    @property
    def name(self) -> str:
        """What identifies it in tables."""
        return f"{self.windows:g} periods, {self.members} clients, {self.limit} per {self.per:g} s"

    @property
    def runs(self) -> tuple[tuple[str, str], ...]:
        """The strategies and patterns that are measured. Of a hundred clients, few would have any burst."""
        if self.members == CLIENTS:
            return tuple((name, pattern) for name in (*STRATEGIES, *ORACLES) for pattern in PATTERNS)
        return tuple((name, PATTERNS[0]) for name in (OURS, EAGER, USUAL, *ORACLES))


class Sum(NamedTuple):
    """Several crowds together."""

    requests: int
    rejected: int
    seconds: float
    ideal: float
    """Seconds that their requests take at the quota's rate."""

    @property
    def per_accepted(self) -> float:
        return self.rejected / self.requests

    @property
    def stretch(self) -> float:
        return self.seconds / self.ideal


Sums = dict[tuple[str, str], Sum]
"""By strategy and pattern."""


def _settings(quick: bool) -> list[Setting]:
    """The short run is one of about 36 requests for each of ten clients at 60 per 6 s."""
    if quick:
        return [Setting(4, 1.25, 0.1, CLIENTS, 12, 1.2, 3), Setting(4, 1.12, 0.2, 10 * CLIENTS, 60, 6.0, 1)]
    return [
        Setting(windows, times, delay, members, limit, per, seeds)
        for windows, times, delay in ((4, 1.25, 0.1), (WINDOWS, 1.12, 0.2))
        for members in (CLIENTS, 10 * CLIENTS)
        for limit, per, seeds in ((60, 6.0, 16 if windows == 4 else 8), (600, 60.0, 1))
    ]


def _sum(crowds: Iterable[Crowd], limit: int, per: float) -> Sum:
    requests, rejected, seconds = (sum(values) for values in zip(*crowds, strict=True))
    return Sum(int(requests), int(rejected), seconds, requests * per / limit)


class Live(Peer):
    """The same backoff over HTTP."""

    strategy: Backoff
    random: Random

    def backoff(self, attempt: int, retry_after: float) -> float:
        return self.strategy.delay(attempt, retry_after, self.random)


async def _at_once() -> None: ...


async def _live(name: str, pattern: str, url: str, limit: int, per: float, windows: float) -> Crowd:
    """One crowd in real time."""
    strategy, random = STRATEGIES[name], Random(3)
    times = arrivals(pattern, limit, per, windows, seed=3)
    async with AsyncExitStack() as stack:
        if strategy is None:
            sessions = [
                await stack.enter_async_context(
                    RecallSession(
                        KEY,
                        base_url=url,
                        workspace=f"{url} {number}",  # so that none knows of the others
                        quotas={"calendar_events.schedule_bot": Quota(limit, per)},
                        retry=RetryPolicy(attempts=1000),
                    )
                )
                for number in range(CLIENTS)
            ]
            seconds = await arrive(times, [_scheduling(session) for session in sessions])
            rejected = sum(session.statistics()["calendar_events.schedule_bot"].throttled for session in sessions)
        else:
            http = await stack.enter_async_context(connections())
            peers = [Live(http, url, _at_once) for _ in range(CLIENTS)]
            for peer in peers:
                peer.strategy, peer.random = strategy, random
            seconds = await arrive(times, [peer.call for peer in peers])
            rejected = sum(peer.rejected for peer in peers)
    return Crowd(sum(map(len, times)), rejected, seconds)


def _scheduling(session: RecallSession) -> Callable[[], Awaitable[object]]:
    def call() -> Awaitable[object]:
        event_id = uuid4()
        return session.calendar_events.schedule_bot(event_id, deduplication_key=f"key-{event_id}")

    return call


async def _in_real_time(limit: int, per: float, windows: float) -> Sums:
    """Each strategy and pattern at the same time, each with a server of its own."""
    jobs = [(name, pattern) for name in (OURS, EAGER, USUAL) for pattern in PATTERNS]
    with ExitStack() as servers:
        urls = [servers.enter_context(strict_server(limit, per)) for _ in jobs]
        crowds = await asyncio.gather(
            *(_live(name, pattern, url, limit, per, windows) for (name, pattern), url in zip(jobs, urls, strict=True))
        )
    return {job: _sum([crowd], limit, per) for job, crowd in zip(jobs, crowds, strict=True)}


def _simulate(setting: Setting, name: str, pattern: str, seed: int) -> Crowd:
    windows, _, delay, members, limit, per, _ = setting
    strategy = ORACLES[name] if name in ORACLES else STRATEGIES[name]
    return simulate(strategy, pattern, limit, per, windows, seed, members, delay)


def _with_best_oracle(sums: Sums) -> Sums:
    """Of the oracles, keep for each pattern the one with the fewest 429s, and of these the quickest; after ours."""
    kept = {job: each for job, each in sums.items() if job[0] not in ORACLES}
    for pattern in [pattern for name, pattern in kept if name == OURS]:
        kept[ORACLE, pattern] = min((sums[name, pattern] for name in ORACLES), key=lambda each: each[1:3])
    return dict(sorted(kept.items(), key=lambda item: [OURS, ORACLE, item[0][0]].index(item[0][0])))


def run(quick: bool) -> Report:
    """The report on sharing a quota unseen."""
    settings = _settings(quick)
    with ProcessPoolExecutor() as pool:
        futures = {
            (setting, job): [pool.submit(_simulate, setting, *job, seed) for seed in range(setting.seeds)]
            for setting in sorted(settings, key=lambda setting: -setting.limit)  # so that both cores end together
            for job in setting.runs
        }
        found: dict[Setting, Sums] = {
            setting: _with_best_oracle(
                {
                    job: _sum([future.result() for future in futures[setting, job]], setting.limit, setting.per)
                    for job in setting.runs
                }
            )
            for setting in settings
        }
    limit, per, windows = (60, 6.0, 2) if quick else (60, 6.0, WINDOWS)
    return _report(found, asyncio.run(_in_real_time(limit, per, windows)), f"{windows} periods, {limit} per {per:g} s")


def _table(sums: Sums, caption: str) -> Table:
    rows = []
    for (name, pattern), each in sums.items():
        base = sums[EAGER, pattern]
        rows.append(
            (
                f"**{name}**" if name == OURS else name,
                "at random" if pattern == "Poisson" else pattern,
                f"{each.rejected:,}",
                f"{each.per_accepted:.3f}",
                f"{1 - each.rejected / base.rejected:.1%}",
                f"{each.stretch:.2f}",
                f"{each.stretch / base.stretch:.2f}",
            )
        )
    head = ("", "arrivals", "429s", "429s per accepted", "fewer", "time over ideal", "times the eager")
    return Table(head, rows, caption, left=(0, 1))


def _figure(found: dict[Setting, Sums]) -> Figure:
    """The frontier of each setting in which all strategies took part."""
    drawn = [setting for setting in found if setting.members == CLIENTS]
    figure, subplots = chart(1, len(drawn), size=(3.2 * len(drawn) + 3.6, 3.8), sharey=True, squeeze=False)
    for axes, setting in zip(subplots[0], drawn, strict=True):
        sums = found[setting]
        for pattern, marker in zip(PATTERNS, "os", strict=True):
            for place, honours in enumerate((True, False)):
                line = [sums[_name(backoff), pattern] for backoff in BACKOFFS if backoff.honours is honours]
                axes.plot(
                    [point.stretch for point in line],
                    [point.per_accepted for point in line],
                    marker=marker,
                    linestyle="-" if pattern == PATTERNS[0] else "--",
                    color=OTHERS[place],
                    label=f"backoff {'honours' if honours else 'ignores'} Retry-After, {pattern}",
                )
            mine, base = sums[OURS, pattern], sums[EAGER, pattern]
            axes.plot(
                mine.stretch, mine.per_accepted, marker=marker, markersize=10, linestyle="", color=OUR_COLOUR,
                label=f"{OURS}, {pattern}",
            )  # fmt: skip
            axes.plot(
                base.stretch * setting.times, base.per_accepted * (1 - FEWER), marker=marker, markersize=10,
                markerfacecolor="none", linestyle="", color=LIMIT, label=f"target, {pattern}",
            )  # fmt: skip
        axes.set(title=setting.name.replace(", ", "\n", 1), xlabel="time over the ideal", yscale="log")
    subplots[0][0].set_ylabel("429s per accepted request")
    subplots[0][-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _target(setting: Setting, pattern: str, sums: Sums) -> Target:
    mine, base = sums[OURS, pattern], sums[EAGER, pattern]
    fewer, times = 1 - mine.rejected / base.rejected, mine.stretch / base.stretch
    least = sums[ORACLE, pattern]
    most = 1 - least.rejected / base.rejected
    return Target(
        f"{setting.name}, {'at random' if pattern == 'Poisson' else pattern}: ≥ {FEWER:.1%} fewer 429s than the eager "
        f"backoff at ≤ {setting.times:g} × its time",
        f"{fewer:.1%} at {times:.3f} ×",
        fewer >= FEWER and times <= setting.times,
        f"a run meets {mine.rejected / setting.seeds:,.0f} 429s and takes {mine.stretch:.2f} times the ideal time. The "
        f"oracle meets {least.rejected / setting.seeds:,.0f}, {most:.1%} fewer than the eager backoff"
        + (": the target is out of its reach, too." if most < FEWER else ", but it knows all the others."),
    )


def _report(found: dict[Setting, Sums], live: Sums, live_name: str) -> Report:
    tables = [
        _table(sums, f"{setting.name}, in virtual time, {sums[OURS, PATTERNS[0]].requests:,} requests at random:")
        for setting, sums in found.items()
    ]
    tables.append(_table(live, f"{live_name}, in real time, {live[OURS, PATTERNS[0]].requests:,} requests at random:"))
    losses = []
    for setting, sums in found.items():
        mine = sums[OURS, PATTERNS[0]]
        names = [name for name, pattern in sums if pattern == PATTERNS[0] and name != ORACLE]
        quickest = min(names, key=lambda name: sums[name, PATTERNS[0]].seconds)
        best = sums[quickest, PATTERNS[0]]
        if quickest != OURS and setting.members == CLIENTS:
            losses.append(
                f"{setting.name}: {quickest} is done in {best.stretch:.2f} times the ideal time, ours in "
                f"{mine.stretch:.2f}; it meets {best.rejected / mine.rejected:.0f} times the 429s."
            )
    return Report(
        title="shared: a quota that others use unseen",
        method=f"Clients that know nothing of each other share one quota and ask for {DEMAND:g} times what it grants, for 4 "
        f"or {WINDOWS} of its periods, each at random (Poisson) or in bursts of {BURST}; then they finish what is left. The "
        f"set-up of {WINDOWS} periods is that of "
        '["Rethinking HTTP API Rate Limiting: A Client-Side Approach"](https://arxiv.org/abs/2510.04516), '
        f"whose best has {FEWER:.1%} fewer rejections than backoff. The shorter run is about 36 requests for each of "
        f"{CLIENTS} clients at 60 per 6 s. Ours, where every client believes that it has the quota to itself until it meets "
        "a 429, against exponential backoff with full jitter, from eager to patient, that waits for `Retry-After` first or "
        "ignores it. What cannot be avoided is shown by an oracle: every client sends at once until its first 429, for it "
        "may be alone; from then on one who sees the server's window sends for all these clients, without a delay, and is "
        "never refused. It leaves a share of the quota to the clients that know nothing yet, as long as requests come in: "
        f"of {', '.join(f'{oracle.left:.0%}' for oracle in ORACLES.values())}, the one with the fewest 429s is shown. "
        f"*Fewer* and *the eager* refer to {EAGER}; {USUAL}, is what `RetryPolicy` does after other errors. In "
        "virtual time behind a network with a delay each way of 0 to 100 ms (the shorter runs) or 0 to 200 ms; then as a "
        f"check in real time, against Django REST Framework, {CLIENTS} clients with 0 to 200 ms.",
        figure=_figure(found),
        alt="429s per accepted request against the time until all was done, for our lanes and for backoffs",
        tables=tables,
        targets=[
            _target(setting, pattern, sums)
            for setting, sums in found.items()
            for pattern in PATTERNS
            if (OURS, pattern) in sums
        ],
        losses=losses,
        packages=("django", "djangorestframework"),
    )
