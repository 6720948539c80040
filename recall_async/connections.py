"""Limit the requests in flight of a session, and so its connections.

A call waits here for a free connection, in the order of priority, start time of the event, and arrival, before it asks its
lane for a slot. In aiohttp it would hold a slot of the quota while it waits.

Without `max_connections` the limit is soft. A burst of interactive calls shares the open connections, because each new one
costs a TLS handshake. If no request is sent or ends for `STILL` seconds, interactive calls open further connections, in
their order: at most as many as are in use, so that a server that is only slow does not meet all of a burst at once.
"""

from __future__ import annotations

import asyncio
import math

from .limits.queue import Ticket, WaitQueue
from .limits.quota import Priority

MAX_CONNECTIONS = 100
"""The most requests in flight of a session without `max_connections`."""
STILL = 0.5
"""Seconds without a request that is sent or ends, after which interactive calls open further connections."""


class Connections:
    """Counts the requests in flight of one session. `most` is its `max_connections`."""

    def __init__(self, most: float | None = None) -> None:
        self._soft = most is None
        self._most = MAX_CONNECTIONS if most is None else most
        # The remaining connections are for interactive calls.
        self._most_bulk = max(1, self._most - self._most // 8)
        self._loop = asyncio.get_running_loop()
        self._waking: asyncio.Handle | None = None
        self._still: asyncio.TimerHandle | None = None  # while interactive calls wait
        self.waiting: WaitQueue[asyncio.Future[bool]] = WaitQueue()
        self.in_flight: int = 0
        # When calls began to wait or exceeded the limit, or a new connection was used or a request ended since.
        self._moved = -math.inf

    def has_room(self, priority: Priority, *, waited: bool = False) -> bool:
        """Return whether a request may begin now. `waited` is true if the call has waited and is the next one."""
        if self.in_flight >= (self._most_bulk if priority else self._most):
            return False
        return waited or not self.waiting.size or not self.waiting.ahead(priority, math.inf)

    async def wait(self, priority: Priority, start: float, until: float) -> bool:
        """Wait for a free connection, at most until the deadline. Return false if the call may exceed the limit."""
        turn: asyncio.Future[bool] = self._loop.create_future()
        ticket = self.waiting.push(priority, start, turn)
        self.wake()
        if self._soft and priority is Priority.INTERACTIVE and self.waiting.count(priority) == 1:
            self.on_change()
            if self._still is None:
                self._still = self._loop.call_later(STILL, self._look)
        left = until - self._loop.time()
        try:
            await asyncio.wait({turn}, timeout=None if left == math.inf else max(0.0, left))
        finally:
            self.waiting.leave(ticket)
            self.wake()
        return turn.result() if turn.done() else True

    def _look(self) -> None:
        """Let interactive calls exceed the limit if no request was sent or has ended for a while."""
        self._still = None
        if not self.waiting.count(Priority.INTERACTIVE):
            return
        left = self._moved + STILL - self._loop.time()
        if left <= 0.0:
            self._exceed()
            left = STILL
        self._still = self._loop.call_later(left, self._look)

    def _exceed(self) -> None:
        """Let the next interactive calls exceed the limit, as many as are in flight."""
        self.on_change()
        for _ in range(max(1, self.in_flight)):
            ticket = self._next()
            if ticket is None or ticket.priority is not Priority.INTERACTIVE:
                break
            self.waiting.leave(ticket)
            ticket.holder.set_result(False)

    def on_change(self) -> None:
        """Record that calls go on."""
        self._moved = self._loop.time()

    def on_release(self) -> None:
        """Record that a request has ended and its connection is free."""
        self.on_change()
        self.wake()

    def wake(self) -> None:
        """Soon let the next calls continue, if there is room."""
        if self._waking is None and self.waiting.size:
            self._waking = self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self._waking = None
        ticket = self._next()
        if ticket is not None and self.has_room(ticket.priority, waited=True):
            self.waiting.leave(ticket)
            ticket.holder.set_result(True)
            self._loop.call_soon(self.wake)  # after that call has continued

    def _next(self) -> Ticket[asyncio.Future[bool]] | None:
        """Return the call that is next."""
        while (ticket := self.waiting.head()) is not None and ticket.holder.done():
            self.waiting.leave(ticket)
        return ticket
