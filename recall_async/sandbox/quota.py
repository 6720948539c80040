"""The server's quota: a strict sliding window, as in Django REST Framework's throttles.

A request at time t is counted if fewer than `limit` were counted in (t - per, t]. A throttled request is not counted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable


class SlidingWindow:
    """Count the requests of one operation: at most `limit` in any `per` seconds of `clock`."""

    def __init__(self, limit: int, per: float, clock: Callable[[], float]) -> None:
        if limit < 1 or per <= 0:
            raise ValueError(f"a quota must have a limit of at least 1 and a period above 0 s, got {limit} in {per} s")
        self.limit = limit
        self.per = per
        self.peak: int = 0
        """The largest number of requests in any window."""
        self._clock = clock
        self._counted: deque[float] = deque()

    def count(self) -> int | None:
        """Count a request and return `None`, or return the whole seconds to wait (`Retry-After`)."""
        now, counted = self._clock(), self._counted
        while counted and counted[0] <= now - self.per:
            counted.popleft()
        if len(counted) >= self.limit:
            return max(1, math.ceil(counted[0] + self.per - now))
        counted.append(now)
        self.peak = max(self.peak, len(counted))
        return None
