"""Stop work early: a signal that tells work to start nothing more, and functions that wait for it and end tasks."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

AGAIN_AFTER = 0.5
"""Seconds until a task that was cancelled and still runs is cancelled again."""
AGAIN_CAP = 10.0


class Stopped(Exception):  # not an error: nothing more was sent
    """The work was told to stop before this request was sent."""


class StopSignal:
    """Tell work to start nothing more. It is set at most once, in the event loop's thread.

    Work calls `may_send()` immediately before each request. A signal that follows another one is set with it.
    """

    def __init__(self, follows: StopSignal | None = None) -> None:
        self._is_set = False
        self._callbacks: dict[Callable[[], object], None] = {}
        self._follows = follows
        if follows is not None:
            follows.on_set(self.set)

    @property
    def is_set(self) -> bool:
        """True if the work was told to stop."""
        return self._is_set

    def set(self) -> None:
        """Tell the work to stop. Further calls do nothing."""
        if not self._is_set:
            self._is_set = True
            callbacks, self._callbacks = list(self._callbacks), {}
            for callback in callbacks:
                callback()

    def on_set(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the signal is set, or now if it already is."""
        if self._is_set:
            callback()
        else:
            self._callbacks[callback] = None

    def forget(self, callback: Callable[[], object]) -> None:
        """Do not call `callback` any more."""
        self._callbacks.pop(callback, None)

    def detach(self) -> None:
        """Stop following the other signal."""
        if self._follows is not None:
            self._follows.forget(self.set)

    async def wait(self) -> None:
        """Return when the signal is set."""
        told = asyncio.Event()
        self.on_set(told.set)
        try:
            await told.wait()
        finally:
            self.forget(told.set)

    def may_send(self) -> bool:
        """Return whether a request may be sent now. If not, call `confirm` to find out why."""
        return not self._is_set and (self._follows is None or self._follows.may_send())

    async def confirm(self) -> None:
        """Return if a request may be sent after all. Raises `Stopped` otherwise."""
        if self._follows is not None:
            await self._follows.confirm()
        if self._is_set:
            raise Stopped


def is_being_cancelled() -> bool:
    """Return whether the running task is being cancelled. If not, a `CancelledError` comes from the code that it calls."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def wait_at_most(signal: StopSignal | asyncio.Event, seconds: float) -> None:
    """Return when the signal is set, or after `seconds`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await signal.wait()


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], limit: float = math.inf) -> set[asyncio.Task[Any]]:
    """Cancel tasks, wait at most `limit` seconds for them to end, and return those that still run.

    A task that still runs is cancelled again, because libraries sometimes swallow a cancellation. Exceptions of the tasks
    are not raised.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + limit
    pause = AGAIN_AFTER
    ending = set(tasks)
    left = {task for task in ending if not task.done()}
    while left and loop.time() < until:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=min(pause, until - loop.time()))
        pause = min(2 * pause, AGAIN_CAP)
    for task in ending - left:
        if not task.cancelled():
            task.exception()
    return left
