"""The settings of a workspace of the sandbox."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from recall_async.operations import OPERATIONS, QUOTA_PERIOD

from .faults import Fault
from .quota import SlidingWindow

SharedBots = Literal["detach", "update"]
"""The effect of another key for one of several events that share a bot: a separate bot, or a changed key for all."""


def utc_now() -> datetime:
    """Return the time of the wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a workspace, which it keeps after a reset."""

    events: int
    calendars: int
    seed: int
    quota_scale: float = 1.0
    quotas: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    faults: Sequence[Fault] = ()
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    connect_after: float = 1.0
    url_objects: bool = True
    unusual: float = 0.0
    shared_bots: SharedBots = "detach"
    documented: bool = False

    def __post_init__(self) -> None:
        if self.events < 0 or self.calendars < 1:
            raise ValueError(
                f"calendars must be at least 1 and events at least 0, got {self.calendars!r} and {self.events!r}"
            )
        if not 0 <= self.connect_after < math.inf:
            raise ValueError(f"connect_after must be a number of seconds, got {self.connect_after!r}")
        if not 0 <= self.unusual <= 1:
            raise ValueError(f"unusual must be a share from 0 to 1, got {self.unusual!r}")
        if self.documented and self.unusual:
            raise ValueError(f"unusual must be 0 with documented, got {self.unusual!r}")
        if self.shared_bots not in ("detach", "update"):
            raise ValueError(f"shared_bots must be 'detach' or 'update', got {self.shared_bots!r}")
        if unknown := set(self.quotas) - set(OPERATIONS):
            raise ValueError(f"quotas must be for {', '.join(OPERATIONS)}, got {', '.join(sorted(unknown))}")
        self.windows(self.clock)  # which checks the quotas

    def windows(self, clock: Callable[[], float]) -> dict[str, SlidingWindow]:
        """Return an empty window for each operation: with its own quota, or `quota_scale` times the documented one."""
        quotas = {name: (int(row.limit * self.quota_scale), QUOTA_PERIOD) for name, row in OPERATIONS.items()}
        return {name: SlidingWindow(*quota, clock) for name, quota in {**quotas, **self.quotas}.items()}
