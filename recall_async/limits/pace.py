"""The pace after a `429` that our own window cannot explain: somebody else uses the quota, unseen.

The lane then goes on at seven tenths of what it was really granted in the last window, and grows back: by 8 % in the
first window without a `429`, by more in each further one, until the full quota is reached again. Spreading requests
evenly is what makes it work: a cap on slots alone would let them out in clumps, which the others' requests meet in
clumps. Nor do all who met the same `429` begin again at the same moment.

A lane that has only just begun was granted little in the last window, and could have been granted more. It goes by the
age of the oldest request in the server's window, which `Retry-After` tells: had it begun then, it would have got more in
proportion. So a job that was interrupted and carries on is not held up for long by what it sent before.

Nothing here reads a clock, waits or sends: times are parameters, in seconds, and never go back.
"""

from __future__ import annotations

import logging
import math
from collections import deque

logger: logging.Logger = logging.getLogger("recall_async")

LONGEST_USUAL_PAUSE = 3600.0
"""Seconds of a pause beyond which it is reported as an error."""
MODESTY = 0.7
"""The share of what was granted lately that is asked for at first."""
FLOOR = 0.05
"""The share of the quota that is asked for at the least."""
GROWTH = 1.08
"""By how much the pace grows in the first window."""


def report_pause(operation: str, seconds: float, left: float) -> None:
    """Log a pause that no sane server asks for, once: it is kept, and only an operator can end it.

    `left` is how many seconds of an earlier pause are left.
    """
    if seconds > LONGEST_USUAL_PAUSE >= left:
        logger.error(
            "%s was answered 429 with a Retry-After of %.0f s: nothing is sent for that long. If the server cannot mean it, "
            "end the pause: `await store.resume(workspace)`, or `recall-async quota --resume`",
            operation,
            seconds,
        )


class Pace:
    """When the next request of a lane may go, as far as others' use of the quota tells."""

    __slots__ = ("_accepted", "_base", "_began", "_full", "_last", "_next", "_per", "_since")

    def __init__(self, limit: int, per: float) -> None:
        self._accepted: deque[float] = deque()
        self.configure(limit, per)
        self._base = math.inf
        self._began = self._last = -math.inf
        self._since = -math.inf
        self._next = -math.inf

    def configure(self, limit: int, per: float) -> None:
        """Grow to another quota from now on. What others use is not forgotten."""
        self._per = per
        self._full = limit / per
        self._accepted = deque(self._accepted, maxlen=limit)

    @property
    def next(self) -> float:
        """The time before which no request may go."""
        return self._next

    def rate(self, now: float) -> float:
        """Requests per second at `now`; `inf` when nothing holds us back."""
        if self._base is math.inf:
            return math.inf
        windows = max(0.0, (now - self._since) / self._per)
        rate: float = self._base * GROWTH ** min(windows * (windows + 1) / 2, 200.0)
        if rate < self._full:
            return rate
        self._base = math.inf
        return math.inf

    def admitted(self, now: float) -> None:
        """A request goes at `now`."""
        if now >= self._last + self._per:
            self._began = now
        self._last = now
        if self._base is not math.inf:
            self._next = now + 1 / self.rate(now)

    def accepted(self, now: float) -> None:
        """The server accepted a request at `now`."""
        self._accepted.append(now)

    def rejected(self, now: float, admitted: float, resume: float, jitter: float) -> None:
        """A request that was admitted at `admitted` met a `429` at `now`; the lane goes on at `resume`.

        `jitter` is a random number from 0 to 1.
        """
        if admitted < self._since:
            # It left before the last slowdown could reach it, and tells nothing new but that the pause goes on.
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
        self._next = max(self._next, resume + jitter / self._base)
