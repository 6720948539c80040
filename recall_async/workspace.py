"""What the callers of one workspace share beside its quotas: deduplication keys, the retry budget, outages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .errors import ServerUnavailableError
from .limits.loops import PerLoop
from .outage import Breakers
from .retry import RetryBudget


class KeyLocks:
    """One holder at a time for each deduplication key; the others queue up in the order in which they came.

    The API answers 409 to parallel requests with one key, and a request refused is a request spent:
    https://docs.recall.ai/docs/calendar-v2-scheduling-guide
    """

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        # By key that is held; without a queue until somebody waits.
        self._queues: dict[str, deque[asyncio.Future[None]] | None] = {}

    def take(self, key: str) -> bool:
        """Hold the key, if nobody does."""
        if key in self._queues:
            return False
        self._queues[key] = None
        return True

    async def wait(self, key: str, check: Callable[[], object] | None = None, every: float = 1.0) -> None:
        """Wait until the key, which somebody holds, is ours. `check` is called every so many seconds; it may raise."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queues[key]
        if queue is None:
            queue = self._queues[key] = deque()
        queue.append(turn)
        try:
            while check is not None and not (await asyncio.wait({turn}, timeout=max(every, 0.1)))[0]:
                check()
            await turn
        except BaseException:
            if not turn.cancelled() and not turn.cancel():
                self.release(key)  # it was ours already
            raise

    def release(self, key: str) -> None:
        """Let the next one have the key."""
        queue = self._queues[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._queues[key]


MAX_RESTING = 256
"""Workspaces that no session uses and that are remembered."""


class Workspace:
    """The shared part of one workspace in one event loop."""

    __slots__ = ("breakers", "budget", "keys", "sessions")

    def __init__(self) -> None:
        self.breakers: Breakers = Breakers()
        self.keys: KeyLocks = KeyLocks()
        self.budget: RetryBudget = RetryBudget()
        self.sessions: int = 0

    def check_for_outage(self) -> None:
        """Raise `ServerUnavailableError` if bulk calls wait for the server: those that hold a key will for long."""
        outage = self.breakers.outage()
        if outage is not None:
            raise ServerUnavailableError(
                f"the server has been unavailable for {outage.seconds:.0f} s ({outage.cause}), and a bulk call with the "
                "same deduplication key waits for it. Nothing was sent for this one: try again when the server is back."
            )


class Workspaces:
    """The workspaces of one event loop, by name."""

    def __init__(self) -> None:
        self._known: dict[str, Workspace] = {}
        self._resting: dict[str, None] = {}  # those that no session uses, the one that rests longest first

    def join(self, name: str) -> Workspace:
        """Add a session to a workspace."""
        workspace = self._known.setdefault(name, Workspace())
        workspace.sessions += 1
        self._resting.pop(name, None)
        return workspace

    def leave(self, name: str) -> None:
        """Remove a session. Of the workspaces that no session uses, the `MAX_RESTING` last used ones are remembered."""
        workspace = self._known[name]
        workspace.sessions -= 1
        if not workspace.sessions:
            self._resting[name] = None
            if len(self._resting) > MAX_RESTING:
                oldest = next(iter(self._resting))
                del self._resting[oldest], self._known[oldest]


_workspaces: PerLoop[Workspaces] = PerLoop(Workspaces)


def workspaces() -> Workspaces:
    """The workspaces of the running event loop."""
    _workspaces.bequeathed()
    return _workspaces.get()
