"""Handle Ctrl-C, SIGTERM and a terminal that is closed: the first stops the work gently, the second at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
FINISHING = "Finishing the requests in flight. Press Ctrl-C again to stop at once."
"""What a command prints when it stops gently."""
UNCHANGED = "Nothing was changed."
HANGUP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""The signal of a terminal that is closed; Windows has none."""


def interrupting() -> list[signal.Signals]:
    """Return the signals that interrupt a command. After `nohup`, a closed terminal is not one of them."""
    found = [signal.SIGINT, signal.SIGTERM]
    if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
        found.append(HANGUP)
    return found


def run(work: Coroutine[Any, Any, T], *, gently: Callable[[], None] | None = None) -> T:
    """Run `work` in an event loop of its own, and return its result.

    The first signal calls `gently` in that loop; without it, and at the second, the work is cancelled. A third ends the
    process on the spot. A terminal that is closed is one signal, although its shell may repeat it. Raises
    `KeyboardInterrupt` for work that was cancelled.
    """

    import asyncio  # a third of the time that `--help` would take

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
            elif number != HANGUP or gently is None:
                signal.signal(number, signal.SIG_IGN if number == HANGUP else signal.SIG_DFL)
                loop.call_soon_threadsafe(task.cancel)

        before = {number: signal.signal(number, on_signal) for number in interrupting()}
        try:
            return await work
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    try:
        return asyncio.run(interruptible())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextmanager
def interrupted_with(remark: str) -> Iterator[None]:
    """Say `remark` if the block is interrupted: what may have been done, and how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(remark) from None
