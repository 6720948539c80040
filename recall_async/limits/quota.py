"""`Quota`: how many requests an operation may send, and how they are spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from .. import checks
from ..operations import OPERATIONS, OTHER, OTHER_LIMIT, QUOTA_PERIOD

MAX_LIMIT = 10**9
"""The most requests in a window: beyond it, no server counts them, and the clock has no time between them."""
PROMISED_AT_MOST = 0.9
"""The largest share of the quota that bulk calls leave to interactive calls."""


class Priority(IntEnum):
    """The order of waiting calls: lower values first."""

    INTERACTIVE = 0
    """A person waits for the response. The default."""
    BULK = 1
    """One of many requests: waits behind interactive calls, and leaves `Quota.reserve` slots to them."""


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` requests in any `per` seconds, as the server counts them.

    Interactive calls may use every free slot. Bulk calls always leave `reserve` slots free for them: by default one
    in 300, but at least two if `limit` is 60 or more. `burst` is the number of requests that bulk calls may send at once, by
    default half of `limit`. They spread the rest of the window, so that slots for interactive calls are freed all the
    time. With `burst=limit` ("greedy") bulk calls send a whole window at once, for a job without interactive calls;
    with a small `burst` ("smooth") they spread all of it. An explicit `burst` also limits how many interactive calls
    are sent at once.

    Raises `ConfigurationError` for invalid values. The limits: https://docs.recall.ai/reference/rate-limits
    """

    limit: int
    per: float = QUOTA_PERIOD
    burst: int | None = None
    reserve: int | None = None

    def __post_init__(self) -> None:
        checks.whole("Quota.limit", self.limit, at_least=1, at_most=MAX_LIMIT)
        checks.seconds("Quota.per", self.per)
        if self.burst is not None:
            checks.whole("Quota.burst", self.burst, at_least=1, at_most=self.limit)
        if self.reserve is not None:
            checks.whole("Quota.reserve", self.reserve, at_least=0, at_most=self.limit - 1)

    @property
    def rate(self) -> float:
        """The average number of requests per second."""
        return self.limit / self.per

    @property
    def reserved(self) -> int:
        """The slots that bulk calls always leave free: `reserve`, or its default."""
        if self.reserve is not None:
            return self.reserve
        return min(max(math.ceil(self.limit / 300), min(2, self.limit // 30)), self.limit - 1)

    @property
    def promised(self) -> float:
        """The least slots per second that bulk calls leave to interactive calls, whatever their use; see `Promise`."""
        return min((self.limit - self.at_once(Priority.BULK)) / self.per, self.promised_at_most)

    @property
    def promised_at_most(self) -> float:
        """The most slots per second that bulk calls leave to interactive calls. It always allows one bulk call."""
        return min(PROMISED_AT_MOST * self.limit, self.limit - 1 - self.reserved) / self.per

    def at_once(self, priority: Priority) -> int:
        """Return how many requests of this priority may be sent at once: the depth of the token bucket."""
        if self.burst is not None:
            return self.burst
        return self.limit if priority is Priority.INTERACTIVE else max(1, self.limit // 2)

    def seconds_for(self, requests: int, priority: Priority = Priority.BULK) -> float:
        """Return the seconds until the last of `requests` can be sent, if no other client uses the quota."""
        if requests < 1:
            return 0.0
        share, rate = self.limit, 0.0
        if priority is Priority.BULK:
            share, rate = self.limit - self.reserved, self.promised
        windows, last = divmod(requests - 1, share)
        # The limits by the promise and by the token bucket within the last window.
        kept = (last + 1 - share) / rate + self.per if rate else 0.0
        refilled = (requests - self.at_once(priority)) / self.rate
        return max(windows * self.per + max(kept, 0.0), refilled)

    def scaled(self, factor: float) -> Quota:
        """Return this quota with `factor` times the requests, for workspaces whose limits the provider raised."""
        if not 0 < factor < math.inf:
            raise checks.invalid("factor", "a finite number above 0", factor)
        if factor > MAX_LIMIT / self.limit:
            raise checks.invalid("factor", f"at most {MAX_LIMIT / self.limit:g}", factor)

        def times(requests: int | None) -> int | None:
            return None if requests is None else max(1, math.floor(requests * factor))

        limit = max(1, math.floor(self.limit * factor))
        reserve = None if self.reserve is None else min(math.floor(self.reserve * factor), limit - 1)
        return Quota(limit, self.per, times(self.burst), reserve)


def base_quota(operation: str) -> Quota:
    """Return the API's base quota for an operation."""
    return Quota(OTHER_LIMIT if operation == OTHER else OPERATIONS[operation].limit, QUOTA_PERIOD)


def check_quotas(quotas: Mapping[str, Quota] | None) -> dict[str, Quota]:
    """Check and return a session's quotas, by operation. Raises `ConfigurationError` for invalid ones."""
    named = dict(quotas or {})
    for name, quota in named.items():
        if name not in OPERATIONS and name != OTHER:
            raise checks.invalid("an operation in quotas", f"one of {', '.join([*OPERATIONS, OTHER])}", name)
        if not isinstance(quota, Quota):
            raise checks.invalid(f"quotas[{name!r}]", "a Quota(limit, per)", quota)
    return named
