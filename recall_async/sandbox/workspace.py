"""One workspace of the sandbox: its data, its quotas, and what it has counted since it started or was reset."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from recall_async.operations import OPERATIONS, QUOTA_PERIOD

from .answers import Answer, Refusal
from .faults import Fault, Faults
from .idempotency import AnswerCache, Key
from .quota import SlidingWindow
from .state import SharedBots, State

_ROOM = timedelta(days=400)
"""Between the latest time that the clock may be advanced to and the end of what a date can be."""


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Settings:
    """What a workspace starts from, each time it is reset."""

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

    def __post_init__(self) -> None:
        if self.events < 0 or self.calendars < 1:
            raise ValueError("a sandbox needs at least one calendar and no negative number of events")
        if not 0 <= self.connect_after < math.inf:
            raise ValueError(f"connect_after must be a number of seconds, got {self.connect_after!r}")
        if not 0 <= self.unusual <= 1:
            raise ValueError(f"unusual must be a share from 0 to 1, got {self.unusual!r}")
        if self.shared_bots not in ("detach", "update"):
            raise ValueError(f"shared_bots must be 'detach' or 'update', got {self.shared_bots!r}")
        if unknown := set(self.quotas) - set(OPERATIONS):
            raise ValueError(f"unknown operation in quotas: {', '.join(sorted(unknown))}")
        self.windows()

    def windows(self, clock: Callable[[], float] | None = None) -> dict[str, SlidingWindow]:
        """A fresh window for each operation: of its own quota, or of `quota_scale` times the documented one."""
        quotas = {name: (int(row.limit * self.quota_scale), QUOTA_PERIOD) for name, row in OPERATIONS.items()}
        clock = clock or self.clock
        return {name: SlidingWindow(*quota, clock) for name, quota in {**quotas, **self.quotas}.items()}


@dataclass(slots=True)
class Tally:
    """Answers of one operation."""

    accepted: int = 0
    throttled: int = 0
    conflicted: int = 0
    rejected: int = 0

    def add(self, status: int) -> None:
        """Counts one answer with this status."""
        if status < 400:
            self.accepted += 1
        elif status == 429:
            self.throttled += 1
        elif status == 409:
            self.conflicted += 1
        else:
            self.rejected += 1


class Workspace:
    """What the API keys of one workspace share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._advanced = 0.0
        """Seconds that the clocks were advanced by."""
        self.state = State(
            seed=settings.seed,
            now=settings.now(),
            events=settings.events,
            calendars=settings.calendars,
            url_objects=settings.url_objects,
            unusual=settings.unusual,
            shared_bots=settings.shared_bots,
        )
        self.windows = settings.windows(self.clock)
        self.tallies = {name: Tally() for name in OPERATIONS}
        self.answers = AnswerCache(self.clock)
        self.faults = Faults([replace(fault) for fault in settings.faults], settings.seed)
        self._deduplication_keys: set[str] = set()

    def clock(self) -> float:
        """The seconds that quotas and idempotency keys live by."""
        return self.settings.clock() + self._advanced

    def now(self) -> datetime:
        """The time that data and bots live by."""
        return self.settings.now() + timedelta(seconds=self._advanced)

    def advance(self, seconds: float) -> None:
        """Moves both clocks forward. Raises `ValueError` for what is no time in the future."""
        try:
            if not 0 <= seconds < math.inf:
                raise OverflowError
            self.now() + timedelta(seconds=seconds) + _ROOM
        except OverflowError:
            raise ValueError(f"seconds must be a number from 0 on that leads to a time, got {seconds!r}") from None
        self._advanced += seconds
        self.state.tick(self.now())

    def report(self) -> dict[str, Any]:
        """What the server saw: events, bots now scheduled, and the answers and busiest window of each operation."""
        return {
            "events": len(self.state.events),
            "bots": self.state.count_bots(self.now()),
            "operations": {
                name: {
                    "accepted": tally.accepted,
                    "throttled": tally.throttled,
                    "conflicted": tally.conflicted,
                    "rejected": tally.rejected,
                    "peak": self.windows[name].peak,
                }
                for name, tally in self.tallies.items()
            },
        }

    @contextmanager
    def claim(self, idempotency_key: Key | None, deduplication_keys: frozenset[str]) -> Iterator[Answer | None]:
        """Holds the keys while a request is worked on, or 409; gives the answer kept from before."""
        if not self._deduplication_keys.isdisjoint(deduplication_keys):
            raise Refusal(
                409,
                {
                    "code": "deduplication_conflict",
                    "detail": "Another request with this deduplication key is in progress.",
                },
            )
        kept = self.answers.begin(idempotency_key) if idempotency_key is not None else None
        self._deduplication_keys |= deduplication_keys
        try:
            yield kept
        finally:
            self._deduplication_keys -= deduplication_keys
            if idempotency_key is not None and kept is None:
                self.answers.finish(idempotency_key)
