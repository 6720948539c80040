"""How work ends early: a signal that says "begin nothing more", and tasks that are cancelled until they have ended."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from typing import Any

AGAIN_AFTER = 0.5
"""Seconds after which a task that was cancelled and goes on is cancelled again."""
AGAIN_CAP = 10.0


class Stopped(Exception):  # no error: it says that nothing more was sent
    """The work was told to stop before this request was sent."""


class StopSignal:
    """Tells work to begin nothing more. It is set once and for all, from the event loop's thread.

    Work is given the signal and asks `may_send()` immediately before each request. A signal can follow another one.
    """

    def __init__(self, follows: StopSignal | None = None) -> None:
        self._is_set = False
        self._callbacks: dict[Callable[[], object], None] = {}
        self._follows = follows
        if follows is not None:
            follows.on_set(self.set)

    @property
    def is_set(self) -> bool:
        """Whether the work was told to stop."""
        return self._is_set

    def set(self) -> None:
        """Tell the work to stop; again does nothing."""
        if not self._is_set:
            self._is_set = True
            callbacks, self._callbacks = list(self._callbacks), {}
            for callback in callbacks:
                callback()

    def on_set(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the signal is set, or now if it is."""
        if self._is_set:
            callback()
        else:
            self._callbacks[callback] = None

    def forget(self, callback: Callable[[], object]) -> None:
        """Do not call `callback` any more."""
        self._callbacks.pop(callback, None)

    def detach(self) -> None:
        """Follow no other signal any more."""
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
        """Whether a request may be sent now; if not, `confirm` says why, or finds out."""
        return not self._is_set and (self._follows is None or self._follows.may_send())

    async def confirm(self) -> None:
        """Return if requests may be sent after all. Raises `Stopped` if not."""
        if self._follows is not None:
            await self._follows.confirm()
        if self._is_set:
            raise Stopped


async def end_tasks(tasks: Iterable[asyncio.Task[Any]], limit: float = math.inf) -> set[asyncio.Task[Any]]:
    """Cancel tasks and wait at most `limit` seconds for their end. Return those that still run.

    A task that goes on is cancelled again, since libraries swallow a cancellation now and then. What the tasks raise is
    not raised here.
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
