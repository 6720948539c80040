"""One workspace of the sandbox: its data, its quotas, and its counters since the start or the last reset."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from recall_async.operations import OPERATIONS, QUOTA_PERIOD

from .faults import Fault, Faults
from .idempotency import Key, ReplyCache
from .quota import SlidingWindow
from .replies import Reply, coded_error
from .state import SharedBots, State

_ROOM = timedelta(days=400)
"""Time between the latest allowed time of the clock and the last possible date."""


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
        self.windows()

    def windows(self, clock: Callable[[], float] | None = None) -> dict[str, SlidingWindow]:
        """Return an empty window for each operation: with its own quota, or `quota_scale` times the documented one."""
        quotas = {name: (int(row.limit * self.quota_scale), QUOTA_PERIOD) for name, row in OPERATIONS.items()}
        clock = clock or self.clock
        return {name: SlidingWindow(*quota, clock) for name, quota in {**quotas, **self.quotas}.items()}


@dataclass(slots=True)
class Tally:
    """The number of responses of one operation."""

    accepted: int = 0
    throttled: int = 0
    conflicted: int = 0
    rejected: int = 0

    def add(self, status: int) -> None:
        """Count one response."""
        if status < 400:
            self.accepted += 1
        elif status == 429:
            self.throttled += 1
        elif status == 409:
            self.conflicted += 1
        else:
            self.rejected += 1


class Workspace:
    """The data, quotas and counters that all API keys share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._advanced = 0.0
        """Seconds by which the clocks were advanced."""
        self.state: State = State(
            seed=settings.seed,
            now=settings.now(),
            events=settings.events,
            calendars=settings.calendars,
            url_objects=settings.url_objects,
            unusual=settings.unusual,
            shared_bots=settings.shared_bots,
            documented=settings.documented,
        )
        self.windows: dict[str, SlidingWindow] = settings.windows(self.clock)
        self.tallies: dict[str, Tally] = {name: Tally() for name in OPERATIONS}
        self.replies: ReplyCache = ReplyCache(self.clock)
        self.faults: Faults = Faults([replace(fault) for fault in settings.faults], settings.seed)
        self._deduplication_keys: set[str] = set()

    def clock(self) -> float:
        """Return the seconds for quotas and idempotency keys."""
        return self.settings.clock() + self._advanced

    def now(self) -> datetime:
        """Return the time for data and bots."""
        return self.settings.now() + timedelta(seconds=self._advanced)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward, and perform what is due. Raises `ValueError` for an invalid number of seconds."""
        try:
            if not 0 <= seconds < math.inf:
                raise OverflowError
            self.now() + timedelta(seconds=seconds) + _ROOM
        except OverflowError:
            raise ValueError(f"seconds must be 0 or more, and lead to a possible date, got {seconds!r}") from None
        self._advanced += seconds
        self.state.tick(self.now())

    def report(self) -> dict[str, Any]:
        """Return the counters: events, scheduled bots, and the responses and busiest window of each operation."""
        return {
            "events": len(self.state.events),
            "bots": self.state.count_bots(self.now()),
            "operations": {
                name: {**asdict(tally), "peak": self.windows[name].peak} for name, tally in self.tallies.items()
            },
        }

    @contextmanager
    def claim(self, idempotency_key: Key | None, deduplication_keys: frozenset[str]) -> Iterator[Reply | None]:
        """Hold the keys of a request while it is performed, and yield the stored response. Raises a refusal: 409."""
        if not self._deduplication_keys.isdisjoint(deduplication_keys):
            message = "Another request with this deduplication key is in progress."
            raise coded_error(409, "deduplication_conflict", message)
        kept = self.replies.begin(idempotency_key) if idempotency_key is not None else None
        self._deduplication_keys |= deduplication_keys
        try:
            yield kept
        finally:
            self._deduplication_keys -= deduplication_keys
            if idempotency_key is not None and kept is None:
                self.replies.finish(idempotency_key)
