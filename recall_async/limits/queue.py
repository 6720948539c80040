"""The order of those who wait for a slot: by (priority, start time of the event, arrival)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

from .quota import Priority

T = TypeVar("T")


class Ticket(Generic[T]):
    """One place in the queue."""

    __slots__ = ("holder", "priority", "waits")

    def __init__(self, priority: Priority, holder: T) -> None:
        self.priority = priority
        self.holder = holder
        self.waits = True


class WaitQueue(Generic[T]):
    """A priority queue from which anybody may leave, at a cost of O(log n) for each that comes or goes.

    Who leaves is only marked; the heap is rebuilt when the marked are the majority.
    """

    __slots__ = ("_arrivals", "_heap", "_size", "waiting")

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, int, Ticket[T]]] = []
        self._arrivals = self._size = 0
        self.waiting: dict[Priority, int] = dict.fromkeys(Priority, 0)
        """How many wait, by priority."""

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Ticket[T]]:
        """Everybody who waits, in no particular order."""
        return (entry[3] for entry in self._heap if entry[3].waits)

    def push(self, priority: Priority, start: float, holder: T) -> Ticket[T]:
        """Take a place. `start` is the event's start time as a number, `inf` where it is not known."""
        ticket = Ticket(priority, holder)
        self._arrivals += 1
        heappush(self._heap, (priority, start, self._arrivals, ticket))
        self.waiting[priority] += 1
        self._size += 1
        return ticket

    def head(self) -> Ticket[T] | None:
        """Whose turn is next."""
        while self._heap:
            ticket = self._heap[0][3]
            if ticket.waits:
                return ticket
            heappop(self._heap)
        return None

    def leave(self, ticket: Ticket[T]) -> None:
        """Give up a place, because of its turn or before it."""
        if not ticket.waits:
            return
        ticket.waits = False
        self.waiting[ticket.priority] -= 1
        self._size -= 1
        if self._heap[0][3] is ticket:
            heappop(self._heap)
        elif len(self._heap) > 64 and len(self._heap) > 2 * self._size:
            self._heap = [entry for entry in self._heap if entry[3].waits]
            heapify(self._heap)

    def ahead(self, priority: Priority, start: float) -> int:
        """How many are certainly before a newcomer. Exact without a start time, else the fewest there can be."""
        last = priority if start == math.inf else priority - 1
        return sum(count for waiting, count in self.waiting.items() if waiting <= last)
