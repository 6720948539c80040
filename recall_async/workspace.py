"""The state that the sessions of one workspace share, in addition to quotas: key locks, the retry budget, outages."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from .errors import ServerUnavailableError
from .limits.loops import PerLoop
from .outage import Breakers
from .retry import RetryBudget


class KeyLocks:
    """One holder at a time for each deduplication key. Further calls wait in the order of arrival.

    The API responds with 409 to parallel requests with one key, and a refused request also uses the quota:
    https://docs.recall.ai/docs/calendar-v2-scheduling-guide
    """

    __slots__ = ("_queues",)

    def __init__(self) -> None:
        # For each held key, the queue of waiting calls; `None` while no call waits.
        self._queues: dict[str, deque[asyncio.Future[None]] | None] = {}

    def take(self, key: str) -> bool:
        """Take the key if it is free. Return whether it was."""
        if key in self._queues:
            return False
        self._queues[key] = None
        return True

    async def wait(self, key: str, check: Callable[[], object] | None = None, every: float = 1.0) -> None:
        """Wait for a held key, and take it. `check` is called every `every` seconds and may raise."""
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
                self.release(key)  # the key had already been passed to this call
            raise

    def release(self, key: str) -> None:
        """Pass the key to the next waiting call, or free it."""
        queue = self._queues[key]
        while queue:
            turn = queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._queues[key]


MAX_RESTING = 256
"""The most unused workspaces whose state is kept."""


class Workspace:
    """The shared part of one workspace in one event loop."""

    __slots__ = ("breakers", "budget", "keys", "sessions")

    def __init__(self) -> None:
        self.breakers: Breakers = Breakers()
        self.keys: KeyLocks = KeyLocks()
        self.budget: RetryBudget = RetryBudget()
        self.sessions: int = 0

    def check_for_outage(self) -> None:
        """Raise `ServerUnavailableError` if bulk calls wait for the server, because they may hold keys for long."""
        outage = self.breakers.outage()
        if outage is not None:
            raise ServerUnavailableError(
                f"the server has been unavailable for {outage.seconds:.0f} s ({outage.cause}), and a bulk call with the "
                "same deduplication key waits for it. Nothing was sent: try again when the server is back."
            )


class Workspaces:
    """The workspaces of one event loop, by name."""

    def __init__(self) -> None:
        self._known: dict[str, Workspace] = {}
        self._resting: dict[str, None] = {}  # unused workspaces, the longest unused first

    def join(self, name: str) -> Workspace:
        """Add a session to a workspace."""
        workspace = self._known.setdefault(name, Workspace())
        workspace.sessions += 1
        self._resting.pop(name, None)
        return workspace

    def leave(self, name: str) -> None:
        """Remove a session. The `MAX_RESTING` last used workspaces without sessions are kept."""
        workspace = self._known[name]
        workspace.sessions -= 1
        if not workspace.sessions:
            self._resting[name] = None
            if len(self._resting) > MAX_RESTING:
                oldest = next(iter(self._resting))
                del self._resting[oldest], self._known[oldest]


_workspaces: PerLoop[Workspaces] = PerLoop(Workspaces)


def workspaces() -> Workspaces:
    """Return the workspaces of the running event loop."""
    _workspaces.pop_closed()
    return _workspaces.get()
