"""`Idempotency-Key`: repeats within an hour get the first response, whatever their body; 409 while it is pending.

A key belongs to one method and path: the same text on another path is another key.

Documentation: https://docs.recall.ai/reference/idempotency
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from .replies import Reply, coded_error

LIFETIME = 3600.0
"""Seconds for which a response is stored."""
_NOT_KEPT = frozenset({401, 409, 429})


class Key(NamedTuple):
    """An idempotency key with its method and path."""

    method: str
    path: str
    key: str


class ReplyCache:
    """The responses of one workspace by idempotency key. `clock` returns seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._replies: dict[Key, tuple[float, Reply]] = {}
        self._in_progress: set[Key] = set()

    def begin(self, key: Key) -> Reply | None:
        """Return the stored response. If `None`, the caller must perform the request, then call `finish`."""
        self._forget()
        if key in self._in_progress:
            raise coded_error(409, "idempotency_conflict", "A request with this idempotency key is in progress.")
        if kept := self._replies.get(key):
            return replace(kept[1], headers={**kept[1].headers, "Idempotent-Replayed": "true"})
        self._in_progress.add(key)
        return None

    def keep(self, key: Key, reply: Reply) -> None:
        """Store the response for `key`, unless it is a 5xx other than 507."""
        if reply.status not in _NOT_KEPT and (reply.status < 500 or reply.status == 507):
            self._replies[key] = (self._clock(), reply)

    def finish(self, key: Key) -> None:
        """Mark the request with this key as no longer in progress."""
        self._in_progress.discard(key)

    def _forget(self) -> None:
        expired = self._clock() - LIFETIME
        while self._replies:
            oldest = next(iter(self._replies))
            if self._replies[oldest][0] > expired:
                return
            del self._replies[oldest]
