"""Event loops: a loop's clock, one value per loop, and how often admission passes from one loop to another.

And the clock for leases in Redis, which run on while this machine sleeps.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


def clock_of(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return a clock that agrees with the loop's and also advances within one iteration.

    The clock of uvloop stands still within an iteration, which would date a response too early; it has the same
    origin as the monotonic clock.
    """
    plain = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time  # which asks the monotonic clock
    return time.monotonic if plain or type(loop).__module__.startswith("uvloop") else loop.time


# Linux has it under this name; on macOS, the second one also goes on while the machine sleeps.
_LEASE_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def lease_time() -> float:
    """Return the time in seconds by which to judge a lease in Redis. `time.monotonic` may stop in a sleep."""
    return time.monotonic() if _LEASE_CLOCK is None else time.clock_gettime(_LEASE_CLOCK)


def current_loop() -> asyncio.AbstractEventLoop | None:
    """Return the running event loop; `None` outside of one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Turns:
    """Counts how often the admission of calls has passed from one event loop to another."""

    __slots__ = ("count", "last")

    def __init__(self) -> None:
        self.last: object = None
        """An object that identifies the loop that admitted the last call."""
        self.count: int = 0

    def take(self, owner: object) -> int:
        """Record that a loop admits calls now, and return the count."""
        if self.last is not owner:
            self.last = owner
            self.count += 1
        return self.count


class PerLoop(Generic[T]):
    """One `T` per event loop. Loops may run in different threads."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: dict[asyncio.AbstractEventLoop, T] = {}
        self._lock = Lock()

    def get(self) -> T:
        """Return the running loop's value."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._values:
                self._values[loop] = self._make()
            return self._values[loop]

    def values(self) -> list[T]:
        """Return the values of all loops."""
        with self._lock:
            return list(self._values.values())

    def others(self, *, running: bool | None = None) -> list[T]:
        """Return the values of other open loops: all, only running ones (`True`), or only stopped ones (`False`)."""
        ours = asyncio.get_running_loop()
        with self._lock:
            open_loops = [(loop, value) for loop, value in self._values.items() if loop is not ours]
        return [
            value
            for loop, value in open_loops
            if not loop.is_closed() and (running is None or loop.is_running() is running)
        ]

    def pop_closed(self) -> list[T]:
        """Remove and return the values of loops that were closed since the last call."""
        with self._lock:
            closed = [loop for loop in self._values if loop.is_closed()]
            return [self._values.pop(loop) for loop in closed]
