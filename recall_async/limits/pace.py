"""The slower pace after a `429` that the lane's own window cannot explain: another client uses the quota.

The lane continues at 70 % of the requests that it was granted in the last window, and then grows: by 8 % in the first
window without a `429`, by more in each further window, until it reaches the full quota. The requests are spread
evenly: a limit on slots alone would send them in bursts that collide with the other clients' bursts. For the same
reason, clients that got the same `429` resume at different times.

A lane that has just begun was granted few requests in the last window, but could have been granted more. It estimates
from `Retry-After`, which tells the age of the oldest request in the server's window, how many it would have got if it
had begun then. So a job that was interrupted and continues is not slowed down for long by its earlier requests.

This module reads no clock and does no I/O: times are parameters, in seconds, and never decrease.
"""

from __future__ import annotations

import logging
import math
from collections import deque

logger: logging.Logger = logging.getLogger("recall_async")

LONGEST_USUAL_PAUSE = 3600.0
"""A pause of more seconds is logged as an error."""
MODESTY = 0.7
"""The share of the recently granted requests with which the slower pace begins."""
FLOOR = 0.05
"""The slowest pace, as a share of the quota."""
GROWTH = 1.08
"""The factor by which the pace grows in the first window."""


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

    __slots__ = ("_accepted", "_base", "_began", "_full", "_last", "_per", "_since", "next")

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

    def rate(self, now: float) -> float:
        """Return the requests per second at `now`; `inf` if the pace is not reduced."""
        if self._base is math.inf:
            return math.inf
        windows = max(0.0, (now - self._since) / self._per)
        rate: float = self._base * GROWTH ** min(windows * (windows + 1) / 2, 200.0)
        if rate < self._full:
            return rate
        self._base = math.inf
        return math.inf

    def admitted(self, now: float) -> None:
        """Record a request that is sent at `now`."""
        if now >= self._last + self._per:
            self._began = now
        self._last = now
        if self._base is not math.inf:
            self.next = now + 1 / self.rate(now)

    def accepted(self, now: float) -> None:
        """Record that the server accepted a request at `now`."""
        self._accepted.append(now)

    def rejected(self, now: float, admitted: float, resume: float, jitter: float) -> None:
        """Record a `429` at `now` for a request admitted at `admitted`; the lane resumes at `resume`.

        `jitter` is a random number from 0 to 1.
        """
        if admitted < self._since:
            # The request was sent before the last slowdown, so it only extends the pause.
            self._since = max(self._since, resume)
            return
        while self._accepted and self._accepted[0] <= now - self._per:
            self._accepted.popleft()
        granted = max(len(self._accepted), 1) / self._per
        busy, oldest = now - self._began, self._per - (resume - now)
        if 0 < busy < oldest:
            granted *= oldest / busy
        self._base = max(min(granted, self.rate(now), self._full) * MODESTY, self._full * FLOOR)
        self._since = resume
        self.next = max(self.next, resume + jitter / self._base)
