"""The calls that wait for a slot in one process, in the order in which they are served."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from copy import copy

from ..errors import RecallError
from .contract import Slot
from .queue import Ticket, WaitQueue
from .quota import Priority


class _Call:
    __slots__ = ("deadline", "turn")

    def __init__(self, turn: asyncio.Future[Slot], deadline: float) -> None:
        self.turn = turn
        self.deadline = deadline


class WaitingCalls:
    """Calls by (priority, start, arrival), each of which gets a slot or, at its deadline, an error."""

    def __init__(self, late: Callable[[Priority], RecallError]) -> None:
        self._late = late
        self._loop = asyncio.get_running_loop()
        self._queue: WaitQueue[_Call] = WaitQueue()
        self._newcomers: list[Ticket[_Call]] = []  # with a deadline, and not judged yet

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def waiting(self) -> dict[Priority, int]:
        """How many wait, by priority."""
        return self._queue.waiting

    def ahead(self, priority: Priority, start: float) -> int:
        """How many are certainly before a newcomer."""
        return self._queue.ahead(priority, start)

    async def wait(self, priority: Priority, start: float, deadline: float, came: Callable[[], None]) -> Slot:
        """A slot, when it is this call's turn; `came` is told that there is one more."""
        call = _Call(self._loop.create_future(), deadline)
        ticket = self._queue.push(priority, start, call)
        timer = None
        if deadline != math.inf:
            timer = self._loop.call_at(deadline, self._expire, ticket)
            self._newcomers.append(ticket)
        came()
        try:
            return await call.turn
        except BaseException:
            self._queue.leave(ticket)
            if call.turn.done() and not call.turn.cancelled() and call.turn.exception() is None:
                call.turn.result().unused()  # cancelled between its turn and its running on
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def serve(self, slot: Slot, lowest: Priority = Priority.BULK) -> bool:
        """Whether there was a call for this slot, among those of `lowest` priority or a higher one."""
        while (ticket := self._queue.head()) is not None and ticket.priority <= lowest:
            self._queue.leave(ticket)
            if not ticket.holder.turn.done():
                ticket.holder.turn.set_result(slot)
                return True
        return False

    def judge(self, opens: Callable[[Priority], float], *, everybody: bool) -> None:
        """Fail those that cannot be served before their deadline, as far as `opens` tells: the newcomers, or all."""
        newcomers, self._newcomers = self._newcomers, []
        for ticket in list(self._queue) if everybody else newcomers:
            if ticket.holder.deadline < opens(ticket.priority):
                self._expire(ticket)

    def fail(self, error: Exception) -> None:
        """Fail everybody."""
        for ticket in list(self._queue):
            self._queue.leave(ticket)
            if not ticket.holder.turn.done():
                ticket.holder.turn.set_exception(copy(error))  # each call adds to its own what it knows of itself

    def _expire(self, ticket: Ticket[_Call]) -> None:
        if ticket.waits:
            self._queue.leave(ticket)
            if not ticket.holder.turn.done():
                ticket.holder.turn.set_exception(self._late(ticket.priority))
