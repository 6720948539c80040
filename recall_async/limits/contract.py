"""What a caller needs of a quota, wherever its state is kept: in this process or in a store that several share."""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    paused_until: float | None = None
    """Until when a 429 holds everybody back, in seconds of the event loop's clock, `loop.time()`; `None` if it does not."""
    pace: float | None = None
    """Requests per second while the lane goes slower than its quota, because others use it too; else `None`."""

    @property
    def waiting(self) -> dict[Priority, int]:
        """Calls that wait for a slot, by priority."""
        return {Priority.INTERACTIVE: self.waiting_interactive, Priority.BULK: self.waiting_bulk}


class Slot(Protocol):
    """The right to send one request. The first of its methods ends it; later ones do nothing."""

    def answered(self, *, accepted: bool = True) -> None:
        """The answer arrived; `accepted` is false for a 429."""

    def lost(self, grace: float) -> None:
        """No answer came; the server may have counted the request, or may yet within `grace` seconds."""

    def unused(self) -> None:
        """The request never left."""


class QuotaLane(Protocol):
    """The one way out for the requests of one operation of one workspace."""

    sessions: int
    """Open sessions that use the lane."""

    @property
    def quota(self) -> Quota:
        """What the lane keeps to."""

    async def admit(
        self, priority: Priority = Priority.INTERACTIVE, *, start: float = math.inf, deadline: float = math.inf
    ) -> Slot:
        """A slot, as soon as it is this call's turn: by (priority, `start` of the event, arrival).

        `deadline` is a time of the loop's clock. Raises `DeadlineExceededError` at once when no slot can be there by
        then, and at the deadline when others were faster.
        """

    def pause(self, slot: Slot, seconds: float) -> None:
        """The request of `slot` met a 429: nobody goes for `seconds`, and everybody goes slower for a while after."""

    def retried(self) -> None:
        """A call is about to ask for another slot."""

    def statistics(self) -> LaneStatistics:
        """The lane at this moment; cheap."""

    async def flush(self) -> None:
        """A session was closed: let whoever shares the quota know how its slots ended, and hold nothing open for it."""


class QuotaStore(Protocol):
    """Where the state of quotas is kept."""

    @property
    def longest_request(self) -> float:
        """Seconds that a request may be on its way; the `timeout` of a session may not be longer."""

    def lane(self, workspace: str, operation: str, quota: Quota | None) -> QuotaLane:
        """The lane of an operation in the running event loop: the same one for everybody who names the same workspace.

        Without a `quota` it keeps to what other open sessions named, or else to the API's base value. Raises
        `ConfigurationError` when an open session named another quota.
        """

    async def aclose(self) -> None:
        """Let go of what the store holds open."""
