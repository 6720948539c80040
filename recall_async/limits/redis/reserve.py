"""The local reserve: slots that a process may use on its own while Redis is away.

They are taken off the shared limit for good, and never given back to it: who is cut off from Redis cannot know whether the
others are, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from ..contract import Ending, Slot
from ..waiting import WaitingCalls
from ..window import Window


class LocalReserve:
    """A window of `size` slots in this process, by the clock `now`."""

    def __init__(self, size: int, per: float, now: Callable[[], float]) -> None:
        self.size = size
        self.window = Window(per)
        self._now = now

    def serve(self, calls: WaitingCalls, closed_until: float, on_end: Callable[[Slot, Ending, float], None]) -> float:
        """Serve waiting calls. Returns when to do so again. `on_end` is told when a slot ends, and calls `ended`."""
        while calls:
            now = self._now()
            opens = max(closed_until, self.window.opens(now, self.size))
            if opens > now:
                return opens
            self.window.take()
            if not calls.serve(Slot(on_end, 0.0)):
                self.window.unused()
        return math.inf

    def ended(self, ending: Ending, seconds: float) -> None:
        """One of its slots ended."""
        if ending is Ending.UNUSED:
            self.window.unused()
        elif ending is Ending.LOST:
            self.window.lost(self._now(), seconds)
        else:
            self.window.answered(self._now())
