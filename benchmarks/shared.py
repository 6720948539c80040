"""`shared`: clients that share a quota and cannot see each other: rejections, and the time until all is done."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from random import Random
from typing import NamedTuple
from uuid import uuid4

from recall_async import Quota, RecallSession, RetryPolicy

from .charts import LIMIT, OTHERS, chart
from .charts import OURS as OUR_COLOUR
from .crowd import BURST, CLIENTS, DEMAND, OURS, PATTERNS, WINDOWS, Backoff, Crowd, Strategy, arrivals, arrive, simulate
from .peers import KEY, Peer, connections
from .report import Report, Table, Target
from .throttle import strict_server

FEWER = 0.973
TIMES = 1.25
PATIENCE = ((0.1, 10.0), (0.5, 30.0), (4.0, 64.0))
"""Base and cap of backoffs, in seconds, from eager to patient. Ours is held against the middle one, which is what our own
`RetryPolicy` does after other errors."""
USUAL = Backoff(*PATIENCE[1], honours=True)
STRATEGIES: dict[str, Strategy] = {
    OURS: None,
    **{
        f"backoff {base:g} s to {cap:g} s, {'honours' if honours else 'ignores'} `Retry-After`": Backoff(
            base, cap, honours
        )
        for honours in (True, False)
        for base, cap in PATIENCE
    },
}


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


async def _in_real_time(names: list[str], limit: int, per: float, windows: float) -> dict[str, Sum]:
    """Each strategy and pattern at the same time, each with a server of its own."""
    jobs = [(name, pattern) for name in names for pattern in PATTERNS]
    with ExitStack() as servers:
        urls = [servers.enter_context(strict_server(limit, per)) for _ in jobs]
        crowds = await asyncio.gather(
            *(_live(name, pattern, url, limit, per, windows) for (name, pattern), url in zip(jobs, urls, strict=True))
        )
    return {
        name: _sum([crowd for job, crowd in zip(jobs, crowds, strict=True) if job[0] == name], limit, per)
        for name in names
    }


def run(quick: bool) -> Report:
    """The report on sharing a quota unseen."""
    windows = 2 if quick else WINDOWS
    settings = ((12, 1.2, 2), (60, 6.0, 1)) if quick else ((60, 6.0, 10), (600, 60.0, 1))
    jobs = [
        (name, pattern, limit, per, seed)
        for limit, per, seeds in reversed(settings)  # the long ones first, so that both cores end together
        for name in STRATEGIES
        for pattern in PATTERNS
        for seed in range(seeds)
    ]
    with ProcessPoolExecutor() as pool:
        futures = [
            pool.submit(simulate, STRATEGIES[name], pattern, limit, per, windows, seed)
            for name, pattern, limit, per, seed in jobs
        ]
        crowds = list(zip(jobs, [future.result() for future in futures], strict=True))
    found = {
        (name, pattern, limit): _sum(
            [crowd for job, crowd in crowds if job[0] == name and job[1] in pattern and job[2] == limit], limit, per
        )
        for limit, per, _ in settings
        for name in STRATEGIES
        for pattern in (*((pattern,) for pattern in PATTERNS), PATTERNS)
    }
    names = [name for name, strategy in STRATEGIES.items() if strategy in (None, USUAL, USUAL._replace(honours=False))]
    limit, per, _ = settings[0]
    live = asyncio.run(_in_real_time(names, limit, per, windows))
    return _report(found, settings, live, windows)


def _report(
    found: dict[tuple[str, tuple[str, ...], int], Sum],
    settings: tuple[tuple[int, float, int], ...],
    live: dict[str, Sum],
    windows: int,
) -> Report:
    usual = next(name for name, strategy in STRATEGIES.items() if strategy == USUAL)
    figure, subplots = chart(1, len(settings), size=(10.0, 3.8), sharey=True)
    for axes, (limit, per, _) in zip(subplots, settings, strict=True):
        for pattern, marker in zip(PATTERNS, "os", strict=True):
            for place, honours in enumerate((True, False)):
                line = [
                    found[name, (pattern,), limit]
                    for name, strategy in STRATEGIES.items()
                    if strategy is not None and strategy.honours is honours
                ]
                axes.plot(
                    [point.stretch for point in line],
                    [point.per_accepted for point in line],
                    marker=marker,
                    linestyle="-" if pattern == PATTERNS[0] else "--",
                    color=OTHERS[place],
                    label=f"backoff {'honours' if honours else 'ignores'} Retry-After, {pattern}",
                )
            mine = found[OURS, (pattern,), limit]
            axes.plot(
                mine.stretch, mine.per_accepted, marker=marker, markersize=10, linestyle="", color=OUR_COLOUR,
                label=f"{OURS}, {pattern}",
            )  # fmt: skip
        bar = found[usual, PATTERNS, limit]
        axes.plot(
            bar.stretch * TIMES, bar.per_accepted * (1 - FEWER), marker="+", markersize=14, linestyle="", color=LIMIT
        )
        axes.annotate(
            "target ",
            (bar.stretch * TIMES, bar.per_accepted * (1 - FEWER)),
            color=LIMIT,
            xytext=(-8, 0),
            textcoords="offset points",
            horizontalalignment="right",
            verticalalignment="center",
        )
        axes.set(title=f"{limit} per {per:g} s", xlabel="time until all was done, over the ideal", yscale="log")
    subplots[0].set_ylabel("rejections per accepted request")
    subplots[-1].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))

    def rows(sums: dict[str, Sum]) -> list[tuple[str, ...]]:
        base = sums[usual]
        return [
            (
                f"**{name}**" if name == OURS else name,
                f"{each.rejected:,}",
                f"{each.per_accepted:.3f}",
                f"{1 - each.rejected / base.rejected:.1%}",
                f"{each.stretch:.2f}",
                f"{each.stretch / base.stretch:.2f}",
            )
            for name, each in sums.items()
        ]

    head = ("", "429s", "429s per accepted", "fewer", "time over ideal", "times the usual")
    tables, targets, losses = [], [], []
    for limit, per, seeds in settings:
        sums = {name: found[name, PATTERNS, limit] for name in STRATEGIES}
        mine, base = sums[OURS], sums[usual]
        fewer, times = 1 - mine.rejected / base.rejected, mine.stretch / base.stretch
        tables.append(
            Table(
                head, rows(sums), f"{limit} per {per:g} s in virtual time, {mine.requests:,} requests, {seeds} seed(s):"
            )
        )
        targets.append(
            Target(
                f"{limit} per {per:g} s: ≥ {FEWER:.1%} fewer rejections at ≤ {TIMES:g} × the time",
                f"{fewer:.1%} at {times:.2f} ×",
                fewer >= FEWER and times <= TIMES,
            )
        )
        quickest = min(sums, key=lambda name: sums[name].seconds)
        if quickest != OURS:
            losses.append(
                f"at {limit} per {per:g} s, the most eager backoff is done in {sums[quickest].stretch:.2f} times the ideal "
                f"time, ours in {mine.stretch:.2f}; it meets {sums[quickest].rejected / mine.rejected:.0f} times the 429s."
            )
    limit, per, _ = settings[0]
    tables.append(Table(head, rows(live), f"{limit} per {per:g} s in real time, {live[OURS].requests:,} requests:"))
    return Report(
        title="shared: a quota that others use unseen",
        method=f"{CLIENTS} clients that know nothing of each other share one quota and ask for {DEMAND:g} times what it "
        f"grants, for {windows} of its periods, each at random (Poisson) or in bursts of {BURST}; then they finish what is "
        'left. This is the set-up of ["Rethinking HTTP API Rate Limiting: A Client-Side Approach"]'
        "(https://arxiv.org/abs/2510.04516), whose best has "
        f"{FEWER:.1%} fewer rejections than backoff. Ours, where every client "
        "believes that it has the quota to itself until it meets a 429, against exponential backoff with full jitter, from "
        "eager to patient, that waits for `Retry-After` first or ignores it. Figures are for both patterns together; "
        f"*fewer* and *the usual* refer to {usual}. In virtual time behind a network with 0 to 200 ms of delay each way; "
        "then as a check in real time, against Django REST Framework with the same delays.",
        figure=figure,
        alt="Rejections per accepted request against the time until all was done, for our lanes and for backoffs",
        tables=tables,
        targets=targets,
        losses=losses,
        packages=("django", "djangorestframework"),
    )
