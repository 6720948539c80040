"""The slower pace after a `429` that the lane's own window cannot explain: another client uses the quota.

*Where it begins.* The requests that the server accepted from the lane in the last window are the lane's share of the
quota, give or take their square root. The pace begins `DOUBT` square roots below it, but not below `FLOOR` at the first
`429`: only more of them prove that there is a crowd. The requests are spread evenly: a limit on slots alone would send
them in bursts that collide with the other clients' bursts. For the same reason, clients that got the same `429` resume
at different times.

*How it grows.* By `GROWTH` in the first window without a `429`. If none comes for `CAUTION` seconds more, others have
left: then it is multiplied by `RECOVERY` in each window, so that the last clients of a crowd do not crawl. At the full
quota it stays for another window before the lane sends freely again.

*A lane that has just begun* was granted few requests in the last window, but could have been granted more. It estimates
from `Retry-After`, which tells the age of the oldest request in the server's window, how many it would have got if it
had begun then. If it was granted none, and bulk calls wait, then most likely the window is full of requests of the same
job before a restart: it continues at the pace at which a full window is freed. Without bulk calls, a web backend was
restarted, or others are at work: it continues at `FRESH`.

This module reads no clock and does no I/O: times are parameters, in seconds, and never decrease.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable

logger: logging.Logger = logging.getLogger("recall_async")

LONGEST_USUAL_PAUSE = 3600.0
"""A pause of more seconds is logged as an error."""
DOUBT = 0.5
"""How far below the share the pace begins, in square roots of its requests per window."""
FLOOR = 0.02
"""The slowest pace after a first `429`, as a share of the quota: a lane that sent little must not wait for minutes."""
FRESH = 0.25
"""The share of the quota with which a lane continues that had just begun, and was granted nothing."""
LEAST = 0.5
"""The slowest pace of all, in requests per window: while the pace is reduced, a further `429` halves the floor, once in half
a window."""
GROWTH = 1.15
"""The factor by which the pace grows in the first window."""
CAUTION = 8.0
"""The seconds without a `429`, beyond a window, after which the pace grows by `RECOVERY`: in these, other clients may
still pause, for `Retry-After` is a whole number of seconds. For short windows, one and a half window instead."""
RECOVERY = 16.0
"""The factor by which the pace grows in each window after that."""


def report_pause(operation: str, seconds: float, left: float) -> None:
    """Log an unusually long pause once. The lane keeps it, and only an operator can end it.

    `left` is the remaining seconds of an earlier pause.
    """
    if seconds > LONGEST_USUAL_PAUSE >= left:
        logger.error(
            "%s was answered 429 with a Retry-After of %.0f s: nothing is sent for that long. If the server cannot mean it, "
            "end the pause: `await store.resume(workspace)`, or `recall-async quota --resume`",
            operation,
            seconds,
        )


class Pace:
    """When a lane may send its next request, considering other clients' use of the quota."""

    __slots__ = ("_accepted", "_base", "_began", "_full", "_last", "_per", "_since", "accepted", "next")

    def __init__(self, limit: int, per: float) -> None:
        self._accepted: deque[float] = deque()
        self.configure(limit, per)
        self._base = math.inf
        self._began = self._last = -math.inf
        self._since = -math.inf
        self.next: float = -math.inf
        """The time before which no request may be sent."""

    def configure(self, limit: int, per: float) -> None:
        """Grow towards another quota from now on. The estimate of other clients' use is kept."""
        self._per = per
        self._full = limit / per
        self._accepted = deque(self._accepted, maxlen=limit)
        self.accepted: Callable[[float], None] = self._accepted.append
        """Records that the server accepted a request at this time."""

    def rate(self, now: float) -> float:
        """Return the requests per second at `now`; `inf` if the pace is not reduced."""
        if self._base is math.inf:
            return math.inf
        windows = max(0.0, (now - self._since) / self._per)
        slowly = min(windows, 1.0 + CAUTION / self._per, 2.5)
        rate: float = self._base * GROWTH**slowly * RECOVERY ** min(windows - slowly, 50.0)
        if rate < self._full * RECOVERY:
            return min(rate, self._full)
        self._base = math.inf
        return math.inf

    def admitted(self, now: float) -> None:
        """Record a request that is sent at `now`."""
        if now >= self._last + self._per:
            self._began = now
        self._last = now
        if self._base is not math.inf:
            self.next = now + 1 / self.rate(now)

    def rejected(self, now: float, admitted: float, resume: float, jitter: float, *, bulk: bool = False) -> None:
        """Record a `429` at `now` for a request admitted at `admitted`; the lane resumes at `resume`.

        `jitter` is a random number from 0 to 1; `bulk` says whether bulk calls use the lane.
        """
        if admitted < self._since:
            # The request was sent before the last slowdown, so it only extends the pause.
            self._since = max(self._since, resume)
            return
        while self._accepted and self._accepted[0] <= now - self._per:
            self._accepted.popleft()
        accepted = len(self._accepted)
        granted = accepted / self._per
        busy, oldest = now - self._began, self._per - (resume - now)
        if 0 < busy < oldest:
            if accepted:
                granted *= oldest / busy
            elif bulk:
                granted = self._full
            elif self._base is math.inf:
                granted = FRESH * self._full
        current = self.rate(now)
        granted = min(granted, current, self._full)
        share = granted - DOUBT * math.sqrt(granted / self._per)
        # What a slower pace does is seen half a window later, not at once.
        floor = current / 2 if now >= self._since + self._per / 2 else current
        self._base = max(share, min(FLOOR * self._full, floor), LEAST / self._per)
        self._since = resume
        self.next = max(self.next, resume + jitter * min(1 / self._base, CAUTION))
