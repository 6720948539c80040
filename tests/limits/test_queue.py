"""The queue: its order against a sorted list, and what it costs when a crowd goes away."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async.limits import queue as queue_module
from recall_async.limits.queue import Ticket, WaitQueue
from recall_async.limits.quota import Priority

ranks = st.tuples(st.sampled_from(Priority), st.sampled_from([1.0, 2.0, math.inf]))
steps = st.lists(ranks | st.integers(0, 300), max_size=300)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_order_is_that_of_a_sorted_list(steps: list[tuple[Priority, float] | int]) -> None:
    """Would let somebody go out of turn, or forget or keep somebody, when others leave from anywhere in the queue."""
    queue, model = WaitQueue[int](), list[tuple[Priority, float, int, Ticket[int]]]()
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            certainly_before = queue.ahead(*step)
            model.append((*step, number, queue.push(*step, number)))
            model.sort()
            place = [entry[2] for entry in model].index(number)
            assert certainly_before == place if step[1] == math.inf else certainly_before <= place
        elif model:
            ticket = model.pop(step % len(model))[3]
            queue.leave(ticket)
            queue.leave(ticket)  # does nothing any more
        head = queue.head()
        assert (head and head.holder) == (model[0][2] if model else None)
        assert len(queue) == len(model)
        assert queue.waiting == {one: sum(entry[0] is one for entry in model) for one in Priority}
        assert sorted(ticket.holder for ticket in queue) == sorted(entry[2] for entry in model)


class CountedTicket(Ticket[None]):
    """Counts how often anybody looks at a ticket."""

    __slots__ = ("_waits",)
    looks = 0

    @property
    def waits(self) -> bool:  # type: ignore[override]
        CountedTicket.looks += 1
        return self._waits

    @waits.setter
    def waits(self, waits: bool) -> None:
        self._waits = waits


class CountedStart(float):
    """Counts how often two places are compared."""

    comparisons = 0

    def __lt__(self, other: float) -> bool:
        CountedStart.comparisons += 1
        return float.__lt__(self, other)


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("order", ["random", "as they came", "last first"])
def test_leaving_costs_the_same_in_any_crowd(order: str, timed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would take quadratic time when 100,000 waiters are cancelled."""
    monkeypatch.setattr(queue_module, "Ticket", CountedTicket)
    costs = []
    for crowd in (10_000, 100_000):
        queue, random = WaitQueue[None](), Random(7)
        starts = (CountedStart(random.random() if timed else math.inf) for _ in range(crowd))
        tickets = [queue.push(Priority.BULK, start, None) for start in starts]
        if order == "random":
            random.shuffle(tickets)
        elif order == "last first":
            tickets.reverse()
        CountedTicket.looks = CountedStart.comparisons = 0
        for ticket in tickets:
            queue.leave(ticket)
        assert queue.head() is None
        costs.append((CountedTicket.looks + CountedStart.comparisons) / crowd)
    assert costs[1] < 1.5 * costs[0] < 100
