"""One workspace of the sandbox: its data, its quotas, and its counters since the start or the last reset."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from recall_async.operations import OPERATIONS

from .faults import Faults
from .idempotency import Key, ReplyCache
from .quota import SlidingWindow
from .replies import Reply, coded_error
from .settings import Settings
from .state import State

_ROOM = timedelta(days=400)
"""Time between the latest allowed time of the clock and the last possible date."""


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
        self.state: State = State(settings)
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
