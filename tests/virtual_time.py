"""An event loop whose clock jumps to the next timer instead of waiting for it: hours pass in milliseconds.

    result = run(main())

Nothing real is waited for: no sockets, no threads. A coroutine that waits for something that nobody has scheduled ends
with `RuntimeError("deadlock ...")`; so does an error in a callback, which asyncio would only log.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

TICK = 100e-9
"""Seconds that each turn of the loop takes: a clock that stands still would let a retry of "not yet" spin for ever."""


class _Jump(selectors.SelectSelector):
    """Where asyncio would sleep until the next timer, the clock jumps there."""

    loop: VirtualTimeLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        self.loop.jump(idle=timeout is None)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An asyncio event loop in virtual time, which begins at `start` seconds."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        selector = _Jump()
        selector.loop = self
        super().__init__(selector)
        self.failures: list[BaseException] = []
        """What callbacks and forgotten tasks raised."""
        self.set_exception_handler(self._failed)

    def time(self) -> float:
        return self._now

    def timers(self) -> int:
        """How many timers are set that nobody cancelled."""
        return sum(not timer.cancelled() for timer in self._scheduled)

    def jump(self, *, idle: bool) -> None:
        """Let the next moment come at which there is something to do."""
        if idle:
            raise RuntimeError(f"deadlock at {self._now:.6f} s: nothing is ready and nothing is scheduled")
        self._now += TICK
        if not self._ready and not self._stopping and self._scheduled:
            self._now = max(self._now, self._scheduled[0].when())

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(context.get("exception") or RuntimeError(context["message"]))


def run(main: Coroutine[Any, Any, T], *, start: float = 1000.0) -> T:
    """What `main` returns, in virtual time. Raises what it raises, or else the first error of a callback or lost task."""
    loop = VirtualTimeLoop(start)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        result = runner.run(main)
    if loop.failures:
        raise loop.failures[0]
    return result
