"""The slots that Redis grants."""

from __future__ import annotations

from collections.abc import Callable

from .scripts import Ending


class RedisSlot:
    """A slot that Redis granted."""

    __slots__ = ("_end", "asked_at", "granted_at", "number")

    def __init__(self, number: int, asked_at: float, granted_at: int, end: Callable[[RedisSlot, Ending | None], None]):
        self.number = number
        self.asked_at = asked_at
        """When it was asked for, in seconds of the loop's clock: its lease began after that."""
        self.granted_at = granted_at
        """When it was granted, in microseconds of Redis' clock."""
        self._end: Callable[[RedisSlot, Ending | None], None] | None = end

    def answered(self, *, accepted: bool = True) -> None:
        self._close(Ending.ANSWERED if accepted else Ending.REJECTED)

    def lost(self, grace: float) -> None:
        # Not reported: the lease is as long as a request can be on its way, `grace` included, and runs out by itself.
        self._close(None)

    def unused(self) -> None:
        self._close(Ending.UNUSED)

    def _close(self, ending: Ending | None) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(self, ending)
