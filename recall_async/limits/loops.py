"""What belongs to an event loop: its clock, and a value for each loop that is used, until the loop is closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """The loop's clock, as it runs on within one iteration.

    The clock of uvloop stands still there, which would date a response back; it shares its zero with the monotonic clock.
    """
    return time.monotonic if type(loop).__module__.startswith("uvloop") else loop.time


class PerLoop(Generic[T]):
    """One `T` for each event loop. Loops may run in different threads."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[asyncio.AbstractEventLoop, T] = {}
        self._lock = Lock()

    def get(self) -> T:
        """The running loop's value."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._values:
                self._values[loop] = self._make()
            return self._values[loop]

    def others(self, *, running: bool | None = None) -> list[T]:
        """The values of other loops that are open: of all, or those that run at this moment, or those that do not."""
        ours = asyncio.get_running_loop()
        with self._lock:
            open_loops = [(loop, value) for loop, value in self._values.items() if loop is not ours]
        return [
            value
            for loop, value in open_loops
            if not loop.is_closed() and (running is None or loop.is_running() is running)
        ]

    def bequeathed(self) -> list[T]:
        """The values of loops that were closed since this was last asked; they are forgotten."""
        with self._lock:
            closed = [loop for loop in self._values if loop.is_closed()]
            return [self._values.pop(loop) for loop in closed]
