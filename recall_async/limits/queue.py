"""The order of those who wait for a slot: by (priority, start time of the event, arrival)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import chain
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
    """A priority queue from which anybody may leave.

    Who comes or goes costs O(log n) among those with a start time, and O(1) among those without, who stand in line in the
    order in which they came. Who leaves is only marked; the marked are swept out when they are the majority.
    """

    __slots__ = ("_arrivals", "_heap", "_lines", "_size", "waiting")

    def __init__(self) -> None:
        self._heap: list[tuple[int, float, int, Ticket[T]]] = []
        self._lines: tuple[deque[Ticket[T]], ...] = tuple(deque() for _ in Priority)
        self._arrivals = self._size = 0
        self.waiting: dict[Priority, int] = dict.fromkeys(Priority, 0)
        """How many wait, by priority."""

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Ticket[T]]:
        """Everybody who waits, in no particular order."""
        everybody = chain((entry[3] for entry in self._heap), *self._lines)
        return (ticket for ticket in everybody if ticket.waits)

    def push(self, priority: Priority, start: float, holder: T) -> Ticket[T]:
        """Take a place. `start` is the event's start time as a number, `inf` where it is not known."""
        ticket = Ticket(priority, holder)
        if start == math.inf:
            self._lines[priority].append(ticket)
        else:
            self._arrivals += 1
            heappush(self._heap, (priority, start, self._arrivals, ticket))
        self.waiting[priority] += 1
        self._size += 1
        return ticket

    def head(self) -> Ticket[T] | None:
        """Whose turn is next."""
        heap = self._heap
        while heap and not heap[0][3].waits:
            heappop(heap)
        for priority, line in enumerate(self._lines):
            if heap and heap[0][0] == priority:
                return heap[0][3]
            while line:
                if line[0].waits:
                    return line[0]
                line.popleft()
        return None

    def leave(self, ticket: Ticket[T]) -> None:
        """Give up a place, because of its turn or before it."""
        if not ticket.waits:
            return
        ticket.waits = False
        self.waiting[ticket.priority] -= 1
        self._size -= 1
        if not self._size:
            self._heap.clear()
            for line in self._lines:
                line.clear()
        elif len(self._heap) + sum(map(len, self._lines)) > max(64, 2 * self._size):
            self._heap = [entry for entry in self._heap if entry[3].waits]
            heapify(self._heap)
            self._lines = tuple(deque(ticket for ticket in line if ticket.waits) for line in self._lines)

    def ahead(self, priority: Priority, start: float) -> int:
        """How many are certainly before a newcomer. Exact without a start time, else the fewest there can be."""
        last = priority if start == math.inf else priority - 1
        return sum(count for waiting, count in self.waiting.items() if waiting <= last)
