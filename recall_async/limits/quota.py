"""`Quota`: how many requests an operation is granted, and how they are spread."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from ..errors import ConfigurationError
from ..operations import OPERATIONS, QUOTA_PERIOD


class Priority(IntEnum):
    """Who goes first when the quota is short: lower values first."""

    INTERACTIVE = 0
    """Somebody waits for the answer. The default."""
    BULK = 1
    """One of many: leaves `Quota.reserve` slots to interactive calls and goes behind them."""


@dataclass(frozen=True, slots=True)
class Quota:
    """At most `limit` requests in any `per` seconds, as the server counts them.

    `burst` is how many may go at once before the pace of `limit / per` takes over: by default a tenth of `limit`
    ("smooth", for a workspace that bulk jobs and people share); `burst=limit` is "greedy", for a job that is alone.
    By default bulk calls leave most of the burst to others; a `burst` that is named is theirs, too.
    `reserve` is how many slots bulk calls leave to interactive ones: by default one in 200, or two if `limit` is 60 or more.

    Raises `ConfigurationError` for values that make no quota. The limits: https://docs.recall.ai/reference/rate-limits
    """

    limit: int
    per: float = QUOTA_PERIOD
    burst: int | None = None
    reserve: int | None = None

    def __post_init__(self) -> None:
        if not _whole(self.limit) or self.limit < 1:
            raise ConfigurationError(f"Quota.limit is {self.limit!r}: it counts requests, at least 1")
        if isinstance(self.per, bool) or not isinstance(self.per, int | float) or not 0 < self.per < math.inf:
            raise ConfigurationError(f"Quota.per is {self.per!r}: it is a number of seconds above 0")
        if self.burst is not None and (not _whole(self.burst) or not 1 <= self.burst <= self.limit):
            raise ConfigurationError(f"Quota.burst is {self.burst!r}: it counts requests, from 1 to limit={self.limit}")
        if self.reserve is not None and (not _whole(self.reserve) or not 0 <= self.reserve < self.limit):
            raise ConfigurationError(
                f"Quota.reserve is {self.reserve!r}: it counts requests, from 0 to below limit={self.limit}"
            )

    @property
    def rate(self) -> float:
        """Requests per second in the long run."""
        return self.limit / self.per

    @property
    def depth(self) -> int:
        """Requests that may go at once: `burst`, or its default."""
        return self.burst if self.burst is not None else max(1, self.limit // 10)

    @property
    def held_back(self) -> int:
        """Slots that bulk calls leave free: `reserve`, or its default."""
        if self.reserve is not None:
            return self.reserve
        return min(max(math.ceil(self.limit / 200), min(2, self.limit // 30)), self.limit - 1)

    def spared(self, priority: Priority) -> int:
        """Tokens of the burst that a call of this priority leaves to others.

        By default bulk calls take no more than a sixth of the burst at once: a job that begins with all of it makes the
        window return its slots in clumps from then on, and people wait in the gaps between.
        """
        if priority is Priority.INTERACTIVE:
            return 0
        if self.burst is None:
            return max(0, self.depth - max(2, self.depth // 6))
        return min(self.held_back, self.depth - 1)

    def ceiling(self, priority: Priority) -> int:
        """How many slots may be taken when a call of this priority has been admitted."""
        return self.limit if priority is Priority.INTERACTIVE else self.limit - self.held_back

    def scaled(self, factor: float) -> Quota:
        """The same quota with `factor` times the requests, for workspaces whose limits the provider raised."""
        if not 0 < factor < math.inf:
            raise ConfigurationError(f"a quota cannot be scaled by {factor!r}")

        def times(requests: int | None) -> int | None:
            return None if requests is None else max(1, math.floor(requests * factor))

        limit = max(1, math.floor(self.limit * factor))
        reserve = None if self.reserve is None else min(math.floor(self.reserve * factor), limit - 1)
        return Quota(limit, self.per, times(self.burst), reserve)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def base_quota(operation: str) -> Quota:
    """What the API grants every workspace for an operation."""
    return Quota(OPERATIONS[operation].limit, QUOTA_PERIOD)


def check_quotas(quotas: Mapping[str, Quota] | None) -> dict[str, Quota]:
    """The quotas that a session names, by operation. Raises `ConfigurationError` for a name or value that is none."""
    named = dict(quotas or {})
    for name, quota in named.items():
        if name not in OPERATIONS:
            raise ConfigurationError(f"no operation is called {name!r}; there are {', '.join(OPERATIONS)}")
        if not isinstance(quota, Quota):
            raise ConfigurationError(f"quotas[{name!r}] is {quota!r}: write Quota(limit, per)")
    return named
