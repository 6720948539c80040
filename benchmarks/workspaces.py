"""`workspaces`: how many workspaces one process on one core drives at their full quota."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import msgspec

from tests.redis.server import RedisProcess

from .charts import LIMIT, OTHERS, OURS, chart
from .processes import measured, serving, told
from .report import Report, Table, Target, judged
from .rounds import Figure, figure
from .workspace_load import BARE, BURST, FULL, LOOPS, OURSELVES, QUOTA, WORKERS, Probe

BOTH = 100
"""Workspaces whose quotas both clients use up without effort: what a request costs is compared there."""
TOO_MANY = 1200
ROUNDS, ROUNDS_BOTH = 3, 9
"""Of what is compared: each client has a turn in each round, in processes of its own. What a request costs a process that
sleeps most of the time differs more from one round to the next."""
RARE = 50_000
"""A threshold of the garbage collector with which it hardly runs."""


def _probe(client: str, loop: str, workspaces: int, seconds: float, *flags: str) -> Probe:
    """One measurement with processes of its own for the client and for the server.

    The server holds our keys to their quotas; the other client guarantees nothing, and is not held to anything.
    """
    limit = QUOTA.limit if client == OURSELVES else 0
    with serving("benchmarks.server", "--limit", str(limit), "--per", str(QUOTA.per)) as url:
        found = measured("benchmarks.workspace_load", client, url, loop, str(workspaces), str(seconds), *flags)
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
                both = list(pool.map(lambda _: measured("benchmarks.workspace_load", *arguments), range(2)))
            rejected = told(url, "statistics")["rejected"]
    finally:
        redis.close()
    probes = [msgspec.convert(found, Probe) for found in both]
    return Probe(
        workspaces=workspaces,
        rate=sum(probe.rate for probe in probes),
        cpu=sum(probe.cpu for probe in probes),
        rejected=rejected,
    )


def run(quick: bool) -> Report:
    """The report on driving many workspaces."""
    first, both, seconds = (20, 10, 1.0) if quick else (TOO_MANY, BOTH, 8.0)
    rounds, rounds_both = (1, 1) if quick else (ROUNDS, ROUNDS_BOTH)
    probes, others, same, same_bare, costs, shares = {}, {}, {}, {}, {}, {}
    for loop in LOOPS:
        same[loop], same_bare[loop], costs[loop] = _compared(loop, both, seconds / 2, rounds_both)
        overload, others[loop], more = _compared(loop, first, seconds / 2, rounds)
        shares[loop] = Figure(1 / more.value, 1 / more.high, 1 / more.low)
        probes[loop] = _most(loop, overload, seconds)
    counted = {
        (client, loop, count): _probe(client, loop, count, seconds / 2, "--count")
        for count in (both, first)
        for loop in LOOPS
        for client in (OURSELVES, BARE)
    }
    busy = {OURSELVES: probes["asyncio"][0], BARE: others["asyncio"]}
    rare = {
        client: _probe(client, "asyncio", first, seconds / 2, "--threshold", str(RARE)) for client in (OURSELVES, BARE)
    }
    lane = counted[OURSELVES, "asyncio", first]
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
        f"medians of {rounds_both} and {rounds} rounds in which each client runs once for {seconds / 2:g} s, after as long "
        f"to start up. Sustained means that over {seconds:g} s, after as long to start up, together the workspaces got "
        f"≥ {FULL:.0%} of their quotas and not one 429: searched from above and then from below. Each measurement has "
        "processes of its own. The last row is two processes that share the quotas in one Redis.",
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
                ("client", "event loop", "workspaces", "looks per request", "timers per request"),
                [
                    (client, loop, f"{count:,}", f"{probe.looks:.2f}", f"{probe.timers:.2f}")
                    for (client, loop, count), probe in counted.items()
                ],
                caption="How often the lane or the limiter looks for a free slot, and sets a timer to look again:",
            ),
            Table(
                ("client", "collector", "requests / s", "CPU per request", "of which garbage collection"),
                [
                    (client, collector, f"{probe.rate:,.0f}", _micro(probe.cost), _micro(probe.collecting / probe.rate))
                    for collector, found in (("as it is", busy), (f"`gc.set_threshold({RARE:_})`", rare))
                    for client, probe in found.items()
                ],
                caption=f"Garbage collection under asyncio when {first:,} workspaces ask. It looks through what is "
                "allocated again and again, and requests in flight are not garbage. The lower rows are single runs:",
            ),
        ],
        targets=[
            judged(
                f"≤ 1.05 × the CPU of a bare request at {both} workspaces, {' and '.join(LOOPS)}",
                list(costs.values()),
                at_most=1.05,
                reason=f"{_cost_of(same, same_bare)} uvloop's timers have whole milliseconds: there the limiter "
                f"wakes too early and looks {counted[BARE, 'uvloop', both].looks:.1f} times for each request.",
            ),
            judged(
                f"≥ 0.9 × the requests of bare aiohttp for the same CPU when {first:,} workspaces ask, "
                f"{' and '.join(LOOPS)}",
                list(shares.values()),
                at_least=0.9,
                reason=f"{_cost_of({loop: found[0] for loop, found in probes.items()}, others)} Under asyncio, "
                f"{_micro(busy[OURSELVES].collecting / busy[OURSELVES].rate)} and "
                f"{_micro(busy[BARE].collecting / busy[BARE].rate)} of it are garbage collection, which can be rare: "
                f"with `gc.set_threshold({RARE:_})` they take {_micro(rare[OURSELVES].cost)} and "
                f"{_micro(rare[BARE].cost)}. The lane looks {lane.looks:.2f} times for a slot and sets {lane.timers:.2f} "
                "timers; the remaining difference is the rest of "
                "the call ([`calls`](#calls)).",
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


def _micro(seconds: float) -> str:
    return f"{seconds * 1e6:.0f} µs"


def _cost_of(ours: dict[str, Probe], bare: dict[str, Probe]) -> str:
    each = " and ".join(
        f"{_micro(probe.cost)} of CPU under {loop} where a bare one takes {_micro(bare[loop].cost)}"
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
