"""`Idempotency-Key`: the first answer for an hour, whatever the repeat's body says; 409 while there is no answer yet.

A key counts for one method and path: on another path it is another key.

Documentation: https://docs.recall.ai/reference/idempotency
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from .answers import Answer, Refusal

LIFETIME = 3600.0
"""Seconds for which an answer is kept."""
_NOT_KEPT = frozenset({401, 409, 429})


class Key(NamedTuple):
    """An idempotency key where it counts."""

    method: str
    path: str
    key: str


class AnswerCache:
    """The answers of one workspace by idempotency key; `clock` gives seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answers: dict[Key, tuple[float, Answer]] = {}
        self._in_progress: set[Key] = set()

    def begin(self, key: Key) -> Answer | None:
        """The kept answer; `None` if there is none and the caller must work it out, then call `finish`."""
        self._forget()
        if key in self._in_progress:
            raise Refusal(
                409, {"code": "idempotency_conflict", "detail": "A request with this idempotency key is in progress."}
            )
        if kept := self._answers.get(key):
            return replace(kept[1], headers={**kept[1].headers, "Idempotent-Replayed": "true"})
        self._in_progress.add(key)
        return None

    def keep(self, key: Key, answer: Answer) -> None:
        """Answers `key` like this from now on: what the application said, a 507 too, but no overload (5xx)."""
        if answer.status not in _NOT_KEPT and (answer.status < 500 or answer.status == 507):
            self._answers[key] = (self._clock(), answer)

    def finish(self, key: Key) -> None:
        """The request with this key is no longer in progress."""
        self._in_progress.discard(key)

    def _forget(self) -> None:
        expired = self._clock() - LIFETIME
        while self._answers:
            oldest = next(iter(self._answers))
            if self._answers[oldest][0] > expired:
                return
            del self._answers[oldest]
