"""Open a session for a command that sends a few requests, and close it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from ..operations import OPERATIONS
from .interrupt import UNCHANGED, run
from .streams import forgive_output

if TYPE_CHECKING:
    from ..session import RecallSession

T = TypeVar("T")


def ask(session: RecallSession, question: Callable[[RecallSession], Awaitable[T]]) -> T:
    """Return the answer to `question`, a coroutine function that takes the open session."""

    async def asked() -> T:
        async with session:
            return await question(session)

    return run(asked())


def change(session: RecallSession, request: Callable[[RecallSession], Awaitable[T]], then: str) -> T:
    """Do as `ask`, for a request that changes something. Afterwards, output that cannot be written is no error.

    If it is interrupted, the `KeyboardInterrupt` says whether the request may have taken effect, and `then` what to do.
    """
    try:
        changed = ask(session, request)
    except KeyboardInterrupt:
        lanes = session.statistics()
        sent = any(lanes[name].admitted for name, operation in OPERATIONS.items() if operation.method != "GET")
        raise KeyboardInterrupt(f"The request may have taken effect: {then}." if sent else UNCHANGED) from None
    forgive_output()
    return changed
