"""Handle Ctrl-C and SIGTERM: the first stops the work gently, the second at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T], *, gently: Callable[[], None] | None = None) -> T:
    """Run `work` in an event loop of its own, and return its result.

    The first Ctrl-C or SIGTERM calls `gently` in that loop; without it, and at the second, the work is cancelled. A third
    ends the process on the spot. Raises `KeyboardInterrupt` for work that was cancelled.
    """

    async def interruptible() -> T:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()
        patient = gently is not None

        # Not loop.add_signal_handler, which Windows lacks.
        def on_signal(number: int, frame: FrameType | None) -> None:
            nonlocal patient
            if patient and gently is not None:
                patient = False
                loop.call_soon_threadsafe(gently)
            else:
                signal.signal(number, signal.SIG_DFL)
                loop.call_soon_threadsafe(task.cancel)

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            return await work
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
