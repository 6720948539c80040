"""Serve the calls of one lane from the local reserve while Redis is away."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from ..contract import Ending, Slot
from ..waiting import WaitingCalls
from .reserve import LocalReserve
from .scripts import GRANT_MAX_AGE, Terms


class Lender:
    """Lends slots of a store's reserve to the calls of one lane. Times are seconds of the loop's clock."""

    def __init__(self, reserve: LocalReserve, quota: str, clock: Callable[[], float]) -> None:
        self._reserve = reserve
        self._quota = quota
        self._now = clock
        self.in_flight: int = 0
        """The number of slots whose requests have not ended."""

    @property
    def has_slots(self) -> bool:
        """True if the store has a reserve."""
        return self._reserve.size > 0

    def serve(
        self,
        calls: WaitingCalls,
        terms: Terms,
        closed_until: float,
        on_end: Callable[[Slot, Ending, float], None],
    ) -> float:
        """Give the waiting calls slots of the reserve. Return when to try again.

        `on_end` is called when the request of a slot has ended.
        """
        while calls.queue.size:
            now = self._now()
            if closed_until > now:
                return closed_until
            name, at = self._reserve.take(self._quota, now, terms)
            if not name:
                return at
            self.in_flight += 1
            slot = Slot(partial(self._ended, name, on_end), 0.0, usable_until=now + GRANT_MAX_AGE)
            if not calls.serve(slot):
                slot.unused()
        return math.inf

    def _ended(
        self, name: str, on_end: Callable[[Slot, Ending, float], None], slot: Slot, ending: Ending, seconds: float
    ) -> None:
        now = self._now()
        self.in_flight -= 1
        ended = {Ending.UNUSED: -math.inf, Ending.LOST: now + seconds}.get(ending, now)
        self._reserve.give_back(self._quota, name, ended)
        on_end(slot, ending, seconds)
