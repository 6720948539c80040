"""The order of waiting calls: by (priority, start time of the event, arrival).

There is one exception, to prevent starvation: an interactive call that has waited for `patience` seconds precedes all
interactive calls that have not, whatever their start times. Such calls are ordered by arrival.

This module reads no clock and does no I/O: times are parameters, in seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

from .quota import Priority

T = TypeVar("T")


class Ticket(Generic[T]):
    """One place in the queue."""

    __slots__ = ("arrived", "holder", "priority", "until", "waits")

    def __init__(self, priority: Priority, holder: T, arrived: float, until: float) -> None:
        self.priority: Priority = priority
        self.holder: T = holder
        self.arrived: float = arrived
        self.until: float = until
        """The call's deadline."""
        self.waits: bool = True


class _Line(Generic[T]):
    """The tickets of one priority. Removed tickets are marked, skipped, and deleted from time to time."""

    __slots__ = ("deadlines", "elders", "numbers", "starts", "undated", "waiting")

    def __init__(self) -> None:
        self.clear()
        self.numbers = count()
        self.waiting = 0

    def clear(self) -> None:
        self.undated: deque[Ticket[T]] = deque()
        """Tickets without a start time, in the order of arrival."""
        self.starts: list[tuple[float, int, Ticket[T]]] = []
        """A heap of tickets with a start time, soonest first."""
        self.elders: deque[Ticket[T]] = deque()
        """Tickets with a start time, in the order of arrival."""
        self.deadlines: list[tuple[float, int, Ticket[T]]] = []
        """A heap of tickets with a deadline, nearest first."""

    def push(self, ticket: Ticket[T], start: float) -> None:
        number = next(self.numbers)
        self.waiting += 1
        if start == math.inf:
            self.undated.append(ticket)
        else:
            heappush(self.starts, (start, number, ticket))
            self.elders.append(ticket)
        if ticket.until != math.inf:
            heappush(self.deadlines, (ticket.until, number, ticket))

    def leave(self) -> None:
        self.waiting -= 1
        if not self.waiting:
            self.clear()
        elif len(self.undated) + len(self.starts) > max(64, 2 * self.waiting):
            self.undated = deque(ticket for ticket in self.undated if ticket.waits)
            self.elders = deque(ticket for ticket in self.elders if ticket.waits)
            self.starts = _sifted(self.starts)
            self.deadlines = _sifted(self.deadlines)

    def first(self, patient: float) -> Ticket[T] | None:
        """Return the next ticket. Tickets that arrived at `patient` or before precede the others."""
        starts, undated, elders = self.starts, self.undated, self.elders
        while undated and not undated[0].waits:
            undated.popleft()
        while starts and not starts[0][2].waits:
            heappop(starts)
        if patient != -math.inf and starts:
            while not elders[0].waits:
                elders.popleft()
            eldest = elders[0]
            if undated and undated[0].arrived < eldest.arrived:
                eldest = undated[0]
            if eldest.arrived <= patient:
                return eldest
        if starts:
            return starts[0][2]
        return undated[0] if undated else None

    def overdue(self, moment: float) -> Ticket[T] | None:
        while self.deadlines and self.deadlines[0][0] < moment:
            ticket = self.deadlines[0][2]
            if ticket.waits:
                return ticket
            heappop(self.deadlines)
        return None


def _sifted(heap: list[tuple[float, int, Ticket[T]]]) -> list[tuple[float, int, Ticket[T]]]:
    kept = [entry for entry in heap if entry[2].waits]
    heapify(kept)
    return kept


class WaitQueue(Generic[T]):
    """A priority queue with removal of any ticket.

    Adding or removing a ticket is O(log n) if it has a start time or a deadline, and O(1) if it has neither.
    """

    __slots__ = ("_lines", "patience", "size")

    def __init__(self, patience: float = math.inf) -> None:
        self._lines: tuple[_Line[T], ...] = tuple(_Line() for _ in Priority)
        self.size: int = 0
        """The number of waiting tickets."""
        self.patience: float = patience
        """Seconds after which an interactive call precedes the other interactive calls."""

    def __iter__(self) -> Iterator[Ticket[T]]:
        """Yield all waiting tickets, in no particular order."""
        for line in self._lines:
            yield from (ticket for ticket in line.undated if ticket.waits)
            yield from (ticket for ticket in line.elders if ticket.waits)

    def count(self, priority: Priority) -> int:
        """Return the number of waiting tickets of this priority."""
        return self._lines[priority].waiting

    def push(
        self, priority: Priority, start: float, holder: T, arrived: float = 0.0, until: float = math.inf
    ) -> Ticket[T]:
        """Add a ticket. `start` is the event's start time as a number, `inf` if unknown."""
        ticket = Ticket(priority, holder, arrived, until)
        self._lines[priority].push(ticket, start)
        self.size += 1
        return ticket

    def head(self, now: float = -math.inf) -> Ticket[T] | None:
        """Return the next ticket at `now`."""
        for priority, line in enumerate(self._lines):
            if line.waiting:
                return line.first(now - self.patience if priority == Priority.INTERACTIVE else -math.inf)
        return None

    def overdue(self, priority: Priority, moment: float) -> Ticket[T] | None:
        """Return a ticket of this priority whose deadline is before `moment`, or `None`."""
        return self._lines[priority].overdue(moment)

    def leave(self, ticket: Ticket[T]) -> None:
        """Remove a ticket, whether or not it is next."""
        if ticket.waits:
            ticket.waits = False
            self.size -= 1
            self._lines[ticket.priority].leave()

    def ahead(self, priority: Priority, start: float) -> int:
        """Return how many tickets certainly precede a new one: exact without a start time, otherwise a lower bound."""
        last = priority if start == math.inf else priority - 1
        return sum(line.waiting for rank, line in enumerate(self._lines) if rank <= last)
