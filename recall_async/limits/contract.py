"""The interface between calls and quota stores: in this process, or shared by several processes.

lane = store.open(workspace, operation, quota)     a session begins to use the lane
slot = await lane.admit(priority, start, until)    wait for the right to send one request
slot.answered() | rejected(...) | lost(...) | unused()
lane.leave(quota)                                  the session no longer uses the lane
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from .quota import Priority, Quota


@dataclass(frozen=True, slots=True)
class LaneStatistics:
    """A snapshot of one operation of one workspace. The counters begin with the lane's first use."""

    quota: Quota
    taken: int = 0
    """Slots in use: in flight, or answered less than `quota.per` seconds ago."""
    free: int = 0
    waiting_interactive: int = 0
    waiting_bulk: int = 0
    in_flight: int = 0
    admitted: int = 0
    throttled: int = 0
    """429 responses."""
    retries: int = 0
    paused: float = 0.0
    """Seconds for which a 429 still pauses all requests."""
    pace: float | None = None
    """Requests per second while other clients' requests slow the lane down; otherwise `None`."""
    store_silent: float = 0.0
    """Seconds for which the store of the quota has not answered, while calls wait for it; 0 while it answers."""

    @property
    def waiting(self) -> dict[Priority, int]:
        """The number of calls that wait for a slot, by priority."""
        return {Priority.INTERACTIVE: self.waiting_interactive, Priority.BULK: self.waiting_bulk}

    @property
    def paused_until(self) -> float | None:
        """Deprecated: use `paused`. The time of the event loop's clock until which a 429 pauses all requests."""
        warnings.warn("LaneStatistics.paused_until is deprecated: use paused", DeprecationWarning, stacklevel=2)
        return time.monotonic() + self.paused if self.paused else None


class Ending(StrEnum):
    """How the request of a slot ended."""

    ANSWERED = "answered"
    REJECTED = "rejected"
    LOST = "lost"
    UNUSED = "unused"


class Slot:
    """The right to send one request. The first call of an ending method counts; later calls do nothing."""

    __slots__ = ("_end", "granted_at", "number", "usable_until")

    def __init__(
        self,
        end: Callable[[Slot, Ending, float], None],
        granted_at: float,
        *,
        usable_until: float = math.inf,
        number: int = 0,
    ) -> None:
        self._end: Callable[[Slot, Ending, float], None] | None = end
        self.granted_at: float = granted_at
        """When the slot was granted, by the clock of the store that granted it."""
        self.usable_until: float = usable_until
        """The time of the loop's clock after which the request must not begin."""
        self.number: int = number
        """The slot's number in its lane."""

    def answered(self) -> None:
        """End the slot: a response arrived, so the server counted the request."""
        end, self._end = self._end, None  # as in `_close`, on the path of every call
        if end is not None:
            end(self, Ending.ANSWERED, 0.0)

    def rejected(self, retry_after: float) -> None:
        """End the slot with a 429: the lane sends no request for `retry_after` seconds."""
        self._close(Ending.REJECTED, retry_after)

    def lost(self, grace: float) -> None:
        """End the slot without a response. The server may count the request up to `grace` seconds from now."""
        self._close(Ending.LOST, grace)

    def unused(self) -> None:
        """End the slot: the request was never sent."""
        self._close(Ending.UNUSED, 0.0)

    def _close(self, ending: Ending, seconds: float) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(self, ending, seconds)


class QuotaLane(Protocol):
    """Admits the requests of one operation of one workspace."""

    @property
    def quota(self) -> Quota:
        """The quota in force."""

    async def admit(
        self,
        priority: Priority = Priority.INTERACTIVE,
        start: float = math.inf,
        until: float = math.inf,
        *,
        retry: bool = False,
    ) -> Slot:
        """Wait for a slot. Calls are admitted in the order of (priority, `start` of the event, arrival).

        `until` is the call's deadline, a time of the loop's clock; `retry` marks a repeated request, for the
        statistics. Raises `DeadlineExceededError` at once if no slot can be free by then, and at the deadline if
        earlier calls used the slots.
        """

    def statistics(self) -> LaneStatistics:
        """Return a snapshot of the lane. Cheap to call."""

    def leave(self, quota: Quota | None) -> None:
        """End a session's use of the lane; `quota` is what it passed to `open`. Never waits."""

    async def flush(self) -> None:
        """Report how the lane's slots ended, and close what no session needs. Call it after `leave`."""


class QuotaStore(Protocol):
    """Stores the state of quotas."""

    @property
    def longest_request(self) -> float:
        """The most seconds that a request may take; the `timeout` of a session must not be longer."""

    def open(self, workspace: str, operation: str, quota: Quota | None) -> QuotaLane:
        """Open a lane in the running event loop. All sessions of the same workspace share it.

        Without a `quota`, the lane uses the quota that another open session named, otherwise the API's base value.
        Each call counts as one session until `QuotaLane.leave`. Raises `ConfigurationError` if an open session named
        another quota.
        """

    async def aclose(self) -> None:
        """Close the store's connections."""
