"""The local reserve: slots that a process may use on its own while Redis is away.

They are taken off the shared limit for good, and never given back to it: who is cut off from Redis cannot know whether the
others are, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ..waiting import WaitingCalls
from ..window import Window


class LocalReserve:
    """A window of `size` slots in this process."""

    def __init__(self, size: int, per: float) -> None:
        self.size = size
        self.window = Window(per)

    def serve(self, calls: WaitingCalls, closed_until: float, again: Callable[[], None]) -> float:
        """Serve those who wait; when to do so again, which `again` does when a slot comes back for another reason."""
        while calls:
            now = time.monotonic()
            opens = max(closed_until, self.window.opens(now, self.size))
            if opens > now:
                return opens
            self.window.take()
            if not calls.serve(ReserveSlot(self.window, again)):
                self.window.unused()
        return math.inf


class ReserveSlot:
    """A slot of the local reserve."""

    __slots__ = ("_done", "_window")

    def __init__(self, window: Window, done: Callable[[], None]) -> None:
        self._window: Window | None = window
        self._done = done

    def answered(self, *, accepted: bool = True) -> None:
        if (window := self._close()) is not None:
            window.answered(time.monotonic())
            self._done()

    def lost(self, grace: float) -> None:
        if (window := self._close()) is not None:
            window.lost(time.monotonic(), grace)
            self._done()

    def unused(self) -> None:
        if (window := self._close()) is not None:
            window.unused()
            self._done()

    def _close(self) -> Window | None:
        window, self._window = self._window, None
        return window
