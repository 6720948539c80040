"""One workspace of the sandbox: its data, its quotas, and what it has counted since it started or was reset."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from recall_async.operations import OPERATIONS, QUOTA_PERIOD

from .answers import Answer, Refusal
from .faults import Fault, Faults
from .idempotency import AnswerCache
from .quota import SlidingWindow
from .state import State


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

    def __post_init__(self) -> None:
        if self.events < 0 or self.calendars < 1:
            raise ValueError("a sandbox needs at least one calendar and no negative number of events")
        if unknown := set(self.quotas) - set(OPERATIONS):
            raise ValueError(f"unknown operation in quotas: {', '.join(sorted(unknown))}")
        self.windows()

    def windows(self) -> dict[str, SlidingWindow]:
        """A fresh window for each operation: of its own quota, or of `quota_scale` times the documented one."""
        quotas = {name: (int(row.limit * self.quota_scale), QUOTA_PERIOD) for name, row in OPERATIONS.items()}
        return {name: SlidingWindow(*quota, self.clock) for name, quota in {**quotas, **self.quotas}.items()}


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
        self.state = State(seed=settings.seed, now=settings.now(), events=settings.events, calendars=settings.calendars)
        self.windows = settings.windows()
        self.tallies = {name: Tally() for name in OPERATIONS}
        self.answers = AnswerCache(settings.clock)
        self.faults = Faults([replace(fault) for fault in settings.faults], settings.seed)
        self._deduplication_keys: set[str] = set()

    def report(self) -> dict[str, Any]:
        """What the server saw: events, bots now scheduled, and the answers and busiest window of each operation."""
        return {
            "events": len(self.state.events),
            "bots": self.state.count_bots(self.settings.now()),
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
    def claim(self, idempotency_key: str | None, deduplication_key: str | None) -> Iterator[Answer | None]:
        """Holds both keys while a request is worked on, or 409; gives the answer kept from before."""
        if deduplication_key is not None and deduplication_key in self._deduplication_keys:
            raise Refusal(
                409,
                {
                    "code": "deduplication_conflict",
                    "detail": "Another request with this deduplication key is in progress.",
                },
            )
        kept = self.answers.begin(idempotency_key) if idempotency_key is not None else None
        if deduplication_key is not None:
            self._deduplication_keys.add(deduplication_key)
        try:
            yield kept
        finally:
            if deduplication_key is not None:
                self._deduplication_keys.discard(deduplication_key)
            if idempotency_key is not None and kept is None:
                self.answers.finish(idempotency_key)
