"""The token bucket: how many calls may go at once."""

from __future__ import annotations

from aiolimiter import AsyncLimiter

AGAIN = 1e-6
"""Seconds after which a bucket is asked again that should have a token and has none: clocks and rounding differ a little."""


class Tokens:
    """A bucket of `depth` tokens that is refilled at `rate` tokens per second.

    Calls do not wait in it, because they wait in the order of the lane: a token is taken if there is one, and else it is
    known when there will be.
    """

    __slots__ = ("_bucket", "_depth", "_full_at", "_kept", "_rate")

    def __init__(self, depth: int, rate: float) -> None:
        self._bucket = AsyncLimiter(depth, depth / rate)
        self._depth = depth
        self._rate = rate
        self._full_at = 0.0
        self._kept = 0  # tokens that were given back

    def take(self, now: float) -> float:
        """Take a token and return `now`, or return when to try again."""
        if self._kept:
            self._kept -= 1
        elif self._bucket.has_capacity():
            try:  # noqa: SIM105  # on the path of every call
                self._bucket.acquire().send(None)
            except StopIteration:
                pass  # it ends without waiting where there is capacity
        else:
            return max(self.earliest(now, 1), now + AGAIN)
        full_at = self._full_at
        self._full_at = (full_at if full_at > now else now) + 1 / self._rate
        return now

    def earliest(self, now: float, tokens: int) -> float:
        """When there will be so many tokens, if nobody else takes one."""
        return max(self._full_at, now) + (tokens - self._depth) / self._rate

    def give_back(self, now: float) -> None:
        """A call did not use its token."""
        self._kept = 0 if self._full_at <= now else min(self._kept + 1, self._depth)
        self._full_at -= 1 / self._rate
