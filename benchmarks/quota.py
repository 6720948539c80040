"""`quota`: limiters against a server that counts strictly, behind a network that does not keep time."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from concurrent.futures import ThreadPoolExecutor

import msgspec

from .charts import LIMIT, OTHERS, OURS, chart
from .limiters import AUTO, GREEDY, NAMES
from .limiters import OURS as MODES
from .processes import measured, told
from .report import Report, Table, Target
from .throttle import DELAY, strict_server

SETTINGS = ((60, 6.0, 300, 1.08), (600, 60.0, 1800, 1.015))
"""Limit, seconds, calls, and how many times the ideal time a greedy lane may take."""
UNBOUND = "limits, moving window"
QUICK = ((12, 2.0, 30, 1.08),)


class Outcome(msgspec.Struct):
    """One limiter's calls."""

    seconds: float
    rejected: int
    seen: list[float]
    """When requests came to the server, accepted or not, in seconds from the first."""

    def trailing(self, per: float, step: float) -> tuple[list[float], list[int]]:
        """Points in time, and the requests of the `per` seconds before each."""
        moments = [number * step for number in range(math.ceil((self.seen[-1] + per / 2) / step))]
        return moments, [bisect_right(self.seen, now) - bisect_right(self.seen, now - per) for now in moments]

    def peak(self, per: float) -> int:
        """The most requests of any `per` seconds."""
        return max(place + 1 - bisect_right(self.seen, now - per) for place, now in enumerate(self.seen))


def ideal(limit: int, per: float, calls: int) -> float:
    """Seconds that the server's window alone makes the calls take."""
    return (math.ceil(calls / limit) - 1) * per


def _one(name: str, limit: int, per: float, calls: int, wait: float) -> Outcome:
    """A limiter's calls in a process of their own, to a server of their own, begun after `wait` seconds."""
    with strict_server(limit, per) as url:
        time.sleep(wait)
        seconds, rejected = measured("benchmarks.limiters", url, name, str(calls), str(limit), f"{per:g}")
        found = told(url, "requests")
    seen = sorted([*found["accepted"], *found["rejected"]])
    return Outcome(seconds, rejected, [moment - seen[0] for moment in seen])


def run(quick: bool) -> Report:
    """The report on keeping to a quota."""
    found: dict[tuple[str, int], Outcome] = {}
    settings = QUICK if quick else SETTINGS
    for limit, per, calls, _ in settings:
        with ThreadPoolExecutor(len(NAMES)) as pool:
            # All at the same time, but so that the moments at which each may send much do not fall together.
            runs = {
                name: pool.submit(_one, name, limit, per, calls, place * per / len(NAMES))
                for place, name in enumerate(NAMES)
            }
            found |= {(name, limit): future.result() for name, future in runs.items()}
    return _report(found, settings)


def _report(found: dict[tuple[str, int], Outcome], settings: tuple[tuple[int, float, int, float], ...]) -> Report:
    size = (14.0, 2.6 * len(settings))
    figure, subplots = chart(len(settings), len(NAMES), size=size, squeeze=False, sharex="row", sharey="row")
    tables, targets, losses = [], [], []
    for row, (limit, per, calls, times) in zip(subplots, settings, strict=True):
        outcomes = {name: found[name, limit] for name in NAMES}
        least = ideal(limit, per, calls)
        for axes, (name, outcome) in zip(row, outcomes.items(), strict=True):
            moments, seen = outcome.trailing(per, per / 100)
            colour = OURS if name in MODES else OTHERS[0]
            axes.plot(moments, seen, color=colour)
            axes.fill_between(moments, seen, limit, where=[count > limit for count in seen], color=colour, alpha=0.3)
            axes.axhline(limit, color=LIMIT, linewidth=1.0)
            axes.set_title(f"{name}\n{outcome.rejected} rejected", fontsize="x-small")
            axes.set_xlabel("seconds")
        row[0].set_ylabel(f"requests in the\nlast {per:g} s")
        row[0].set_ylim(0, 1.1 * max(outcome.peak(per) for outcome in outcomes.values()))
        row[0].annotate(f"quota: {limit}", (0, limit), color=LIMIT, xytext=(2, 4), textcoords="offset points")
        tables.append(
            Table(
                ("", "429s", "time", "over ideal", f"most in {per:g} s"),
                [
                    (
                        f"**{name}**" if name in MODES else name,
                        str(outcome.rejected),
                        f"{outcome.seconds:.1f} s",
                        f"{outcome.seconds / least:.3f}",
                        str(outcome.peak(per)),
                    )
                    for name, outcome in outcomes.items()
                ],
                f"{calls:,} calls at {limit} per {per:g} s (ideal: {least:g} s):",
            )
        )
        auto, greedy = outcomes[AUTO], outcomes[GREEDY]
        refused = [outcomes[name].rejected for name in MODES]
        targets += [
            Target(
                f"{limit} per {per:g} s: no rejection, by default, smooth and greedy",
                ", ".join(map(str, refused)),
                not any(refused),
            ),
            Target(
                f"{limit} per {per:g} s: greedy takes ≤ {times:g} × the ideal time",
                f"{greedy.seconds / least:.3f} ×",
                greedy.seconds <= times * least,
                f"its first {limit} requests took {greedy.seen[limit - 1]:.1f} s to come to the server, and those "
                f"of {UNBOUND} {outcomes[UNBOUND].seen[limit - 1]:.1f} s; a slot comes back `per` seconds after its answer.",
            ),
        ]
        faster = [
            f"{name} in {outcome.seconds:.1f} s (with {outcome.rejected} rejections)"
            for name, outcome in outcomes.items()
            if name != AUTO and outcome.seconds < auto.seconds
        ]
        if faster:
            losses.append(
                f"automatic pacing, the default, takes {auto.seconds:.1f} s for {calls:,} calls at {limit} per {per:g} s "
                f"with which nobody competes; quicker: {', '.join(faster)}."
            )
    return Report(
        title="quota: a strict server behind a network with delays",
        method="Calls that are all asked for at once, against Django REST Framework's throttle, which counts requests in a "
        f"sliding window, behind 0 to {DELAY * 1e3:.0f} ms of random delay each way. Each limiter is used as its "
        "documentation shows, over aiohttp with as many connections as it takes, with a server of its own; a request that "
        "is rejected waits for its `Retry-After` and asks its limiter again, so that all do the same work. The ideal time "
        "is what the window alone imposes. Ours are bulk calls by default, with `burst=limit // 10` (smooth) and with "
        "`burst=limit, reserve=0` (greedy), which has as many connections as the others: without `max_connections`, the "
        "first two share 100.",
        figure=figure,
        alt="Requests in the trailing window over time, for each limiter, with the quota as a line",
        tables=tables,
        targets=targets,
        losses=losses,
        packages=("django", "djangorestframework", "limits", "pyrate-limiter", "throttled-py"),
    )
