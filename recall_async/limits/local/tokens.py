"""The token bucket: how many requests may be sent at once."""

from __future__ import annotations

import math

from aiolimiter import AsyncLimiter

AGAIN = 1e-6
"""Seconds until the next try if a bucket has no token when it should: clocks and rounding differ slightly."""


class Tokens:
    """A bucket of `depth` tokens that is refilled at `rate` tokens per second.

    Calls do not wait in the bucket, because they wait in the lane's order: `take` takes a token or returns when there
    will be one.
    """

    __slots__ = ("_behind", "_bucket", "_depth", "_full_at", "_kept", "_rate")

    def __init__(self, depth: int, rate: float) -> None:
        self._bucket = AsyncLimiter(depth, depth / rate)
        self._depth = depth
        self._rate = rate
        self._full_at = -math.inf
        self._kept = 0  # returned tokens
        self._behind = AGAIN

    def take(self, now: float) -> float:
        """Take a token and return `now`, or return when to try again."""
        if self._kept:
            self._kept -= 1
        elif (later := self.earliest(now, 1)) > now:
            return max(later, now + AGAIN)  # without asking the bucket, which would set a timer for a waiter
        else:
            taking = self._bucket.acquire()
            try:
                waiter = taking.send(None)
            except StopIteration:
                pass  # with capacity, `acquire` ends without waiting
            else:
                waiter.cancel()  # the bucket forgets cancelled waiters
                # A full bucket counts from when it was asked, which is a little later than `now`: follow it. Otherwise
                # the lane would look again and again for each token.
                self._full_at += self._behind
                self._behind *= 2
                return max(self.earliest(now, 1), now + AGAIN)
            self._behind = AGAIN
        full_at = self._full_at
        self._full_at = (full_at if full_at > now else now) + 1 / self._rate
        return now

    def earliest(self, now: float, tokens: int) -> float:
        """Return when there will be `tokens` tokens, if none is taken."""
        return max(self._full_at, now) + (tokens - self._depth) / self._rate

    def give_back(self) -> None:
        """Return an unused token."""
        self._kept = min(self._kept + 1, self._depth)
        self._full_at -= 1 / self._rate
