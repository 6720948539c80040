"""The calls that wait for a slot in one event loop.

Each waiting call ends in exactly one of three ways: it gets a slot (`serve`), it fails (at its deadline, or earlier
if the deadline cannot be kept), or it is cancelled. A cancelled call returns a slot that it got as unused, so it
never uses up the quota.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from copy import copy

from ..errors import RecallError
from .contract import Slot
from .loops import clock_of
from .queue import Ticket, WaitQueue
from .quota import Priority

Turn = asyncio.Future[Slot]


class WaitingCalls:
    """Waiting calls in the order of `WaitQueue`.

    `deadline_error` returns the exception for a call of a priority whose deadline cannot be kept; it must have no
    side effects.
    """

    def __init__(self, deadline_error: Callable[[Priority], RecallError]) -> None:
        self._deadline_error = deadline_error
        self._loop = asyncio.get_running_loop()
        self._now = clock_of(self._loop)
        self.queue: WaitQueue[Turn] = WaitQueue()
        """The waiting calls, in their order."""
        self._expected: Ticket[Turn] | None = None  # the call for which the lane last looked

    def next(self, now: float) -> Ticket[Turn] | None:
        """Return the next call at `now`; `None` if no call waits."""
        while (ticket := self.queue.head(now)) is not None:
            if ticket.until < now:
                self._expire(ticket)
            elif ticket.holder.done():
                self.queue.leave(ticket)  # cancelled, but its task has not run yet
            else:
                break
        self._expected = ticket
        return ticket

    async def wait(
        self, priority: Priority, start: float, until: float, on_change: Callable[[], None], *, looked: bool = False
    ) -> Slot:
        """Wait for a slot. `looked` is true if no call waits and the lane already knows when to look for a slot again.

        `on_change` is called if the new call is the next one or the first of its priority, unless the lane has `looked`,
        and when the next call or the last one leaves without a slot. Raises the `deadline_error` at `until`, a time of
        the loop's clock, even if the slot came in time but the loop was too busy to continue the call.
        """
        turn: Turn = self._loop.create_future()
        now = self._now()
        ticket = self.queue.push(priority, start, turn, now, until)
        timer = None if until == math.inf else self._loop.call_at(until, self._expire, ticket)
        # A new call without a start time is the last of its priority.
        if looked:
            self._expected = ticket
        elif self.queue.count(priority) == 1 or (start != math.inf and self.queue.head(now) is ticket):
            on_change()
        try:
            slot = await turn
        except BaseException:
            self.queue.leave(ticket)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                turn.result().unused()  # cancelled after it got the slot, before its task ran
            if ticket is self._expected or not self.queue.size:
                self._expected = None
                on_change()
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if until != math.inf and self._now() > until:
            slot.unused()
            raise self._deadline_error(priority)
        return slot

    def serve(self, slot: Slot, lowest: Priority = Priority.BULK) -> bool:
        """Give a slot to the next call of `lowest` or a higher priority. Return `False` if there is none."""
        ticket = self.next(self._now())
        if ticket is None or ticket.priority > lowest:
            return False
        self.give(ticket, slot)
        return True

    def give(self, ticket: Ticket[Turn], slot: Slot) -> None:
        """Give a slot to the next call."""
        self.queue.leave(ticket)
        ticket.holder.set_result(slot)

    def fail_hopeless(self, not_before: Callable[[Priority], float]) -> None:
        """Fail the calls whose deadline is before `not_before(priority)`, without reading the others."""
        for priority in Priority:
            moment = not_before(priority)
            while (ticket := self.queue.overdue(priority, moment)) is not None:
                self._expire(ticket)

    def fail(self, error: Exception) -> None:
        """Fail all waiting calls."""
        for ticket in list(self.queue):
            self.queue.leave(ticket)
            if not ticket.holder.done():
                ticket.holder.set_exception(copy(error))  # each call adds its own details to its copy

    def _expire(self, ticket: Ticket[Turn]) -> None:
        if ticket.waits:
            self.queue.leave(ticket)
            if not ticket.holder.done():
                ticket.holder.set_exception(self._deadline_error(ticket.priority))
