"""What a call needs of a quota, wherever the quota is kept: in this process or in a store that several processes share.

lane = store.open(workspace, operation, quota)     one session more uses the lane
slot = await lane.admit(priority, start, until)    the right to send one request
slot.answered() | rejected(...) | lost(...) | unused()
lane.leave(quota)                                  that session no longer does
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
    """One operation of one workspace at one moment. Counters count from the lane's first use."""

    quota: Quota
    taken: int = 0
    """Slots that are taken: in flight, or answered less than `quota.per` seconds ago."""
    free: int = 0
    waiting_interactive: int = 0
    waiting_bulk: int = 0
    in_flight: int = 0
    admitted: int = 0
    throttled: int = 0
    """Answers 429."""
    retries: int = 0
    paused: float = 0.0
    """Seconds for which a 429 still holds back all requests."""
    pace: float | None = None
    """Requests per second while the lane goes slower than its quota, because others use it too; else `None`."""

    @property
    def waiting(self) -> dict[Priority, int]:
        """Calls that wait for a slot, by priority."""
        return {Priority.INTERACTIVE: self.waiting_interactive, Priority.BULK: self.waiting_bulk}

    @property
    def paused_until(self) -> float | None:
        """Deprecated: use `paused`. The time of the event loop's clock until which a 429 holds back all requests."""
        warnings.warn("LaneStatistics.paused_until is deprecated: use paused", DeprecationWarning, stacklevel=2)
        return time.monotonic() + self.paused if self.paused else None


class Ending(StrEnum):
    """What became of the request for which a slot was taken."""

    ANSWERED = "answered"
    REJECTED = "rejected"
    LOST = "lost"
    UNUSED = "unused"


class Slot:
    """The right to send one request. The first of the four endings counts; later ones do nothing."""

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
        """By the clock of whoever granted it."""
        self.usable_until: float = usable_until
        """The time of the loop's clock after which its request must not begin."""
        self.number: int = number
        """What the lane that granted it calls it."""

    def answered(self) -> None:
        """The response arrived, and the server counted the request."""
        self._close(Ending.ANSWERED, 0.0)

    def rejected(self, retry_after: float) -> None:
        """The response is a 429: no request of the lane is sent for `retry_after` seconds."""
        self._close(Ending.REJECTED, retry_after)

    def lost(self, grace: float) -> None:
        """No response came. The server may have counted the request, or may yet within `grace` seconds."""
        self._close(Ending.LOST, grace)

    def unused(self) -> None:
        """The request was never sent."""
        self._close(Ending.UNUSED, 0.0)

    def _close(self, ending: Ending, seconds: float) -> None:
        end, self._end = self._end, None
        if end is not None:
            end(self, ending, seconds)


class QuotaLane(Protocol):
    """The requests of one operation of one workspace."""

    @property
    def quota(self) -> Quota:
        """What the lane keeps to."""

    async def admit(
        self,
        priority: Priority = Priority.INTERACTIVE,
        start: float = math.inf,
        until: float = math.inf,
        *,
        retry: bool = False,
    ) -> Slot:
        """Wait for a slot: calls are admitted by (priority, `start` of the event, arrival).

        `until` is the call's deadline as a time of the loop's clock; `retry` marks a request that is sent again, for the
        statistics. Raises `DeadlineExceededError` at once when no slot can be there by then, and at the deadline when
        others were faster.
        """

    def statistics(self) -> LaneStatistics:
        """The lane at this moment; cheap."""

    def leave(self, quota: Quota | None) -> None:
        """A session that opened the lane with this quota no longer uses it. Never waits."""

    async def flush(self) -> None:
        """After `leave`: report how the lane's slots ended, and hold nothing open that no session needs."""


class QuotaStore(Protocol):
    """Where the state of quotas is kept."""

    @property
    def longest_request(self) -> float:
        """Seconds that a request may take; the `timeout` of a session must not be longer."""

    def open(self, workspace: str, operation: str, quota: Quota | None) -> QuotaLane:
        """Use a lane in the running event loop: all sessions that name the same workspace get the same one.

        Without a `quota` the lane keeps to what other open sessions named, or else to the API's base value. Each call is
        one session more until `QuotaLane.leave`. Raises `ConfigurationError` when an open session named another quota.
        """

    async def aclose(self) -> None:
        """Close what the store holds open."""
