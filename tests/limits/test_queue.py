"""The queue: its order against a sorted list, who has waited too long, and who is too late."""

from __future__ import annotations

import gc
import math
import weakref
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
        assert queue.size == len(model)
        assert {one: queue.count(one) for one in Priority} == {
            one: sum(entry[0] is one for entry in model) for one in Priority
        }
        assert sorted(ticket.holder for ticket in queue) == sorted(entry[2] for entry in model)


def test_nobody_starves_behind_others_of_its_class() -> None:
    """Would let an interactive call with a late start time, or none, wait for ever behind a stream of sooner ones."""
    queue = WaitQueue[str](patience=60.0)
    queue.push(Priority.INTERACTIVE, math.inf, "undated", 0.0)
    queue.push(Priority.INTERACTIVE, 9.0, "late", 1.0)
    queue.push(Priority.INTERACTIVE, math.inf, "undated, too", 2.0)
    queue.push(Priority.BULK, math.inf, "bulk", 0.0)
    queue.push(Priority.BULK, 1.0, "bulk, soon", 0.0)
    served = []
    for second in range(100):
        queue.push(Priority.INTERACTIVE, 1.0, "soon", float(second))
        ticket = queue.head(float(second))
        assert ticket is not None
        queue.leave(ticket)
        served.append((second, ticket.holder))
    assert [entry for entry in served if entry[1] != "soon"] == [
        (60, "undated"),
        (61, "late"),
        (62, "undated, too"),
    ]
    while queue.count(Priority.INTERACTIVE):
        ticket = queue.head(1000.0)
        assert ticket is not None
        queue.leave(ticket)
    assert [queue.head(1000.0).holder] == ["bulk, soon"]  # type: ignore[union-attr]


def test_patience_without_start_times() -> None:
    """Would fail where nobody has a start time, or let patience count where no time is told."""
    queue = WaitQueue[str](patience=60.0)
    undated = queue.push(Priority.INTERACTIVE, math.inf, "undated", 0.0)
    assert queue.head(1000.0) is undated
    late = queue.push(Priority.INTERACTIVE, 9.0, "late", 1.0)
    assert queue.head(1000.0) is undated
    assert queue.head() is late


def test_ahead_counts_whom_nothing_lets_pass() -> None:
    """Would let calls wait for a slot that others are certain to take, or fail calls that may still overtake."""
    queue = WaitQueue[int]()
    for priority, start, number in (
        (Priority.INTERACTIVE, math.inf, 3),
        (Priority.INTERACTIVE, 1.0, 2),
        (Priority.BULK, 1.0, 4),
    ):
        for _ in range(number):
            queue.push(priority, start, 0)
    assert queue.ahead(Priority.INTERACTIVE, 2.0) == 0
    assert queue.ahead(Priority.INTERACTIVE, math.inf) == queue.ahead(Priority.BULK, 2.0) == 5
    assert queue.ahead(Priority.BULK, math.inf) == 9


def test_overdue_are_found_without_looking_at_the_others() -> None:
    """Would look at everybody who waits whenever a 429 makes some of them too late."""
    queue = WaitQueue[int]()
    tickets = [queue.push(Priority(number % 2), math.inf, number, 0.0, 100.0 - number) for number in range(10)]
    queue.leave(tickets[9])
    found = []
    while (ticket := queue.overdue(Priority.BULK, 96.0)) is not None:
        queue.leave(ticket)
        found.append(ticket.holder)
    assert found == [7, 5]
    assert queue.size == 7


def test_who_is_overdue_at_the_very_moment() -> None:
    """Would fail a call whose slot is free at its deadline."""
    queue = WaitQueue[str]()
    queue.push(Priority.INTERACTIVE, 1.0, "dated", 0.0, 5.0)
    assert queue.overdue(Priority.INTERACTIVE, 5.0) is None
    assert queue.overdue(Priority.BULK, 5.1) is None
    late = queue.overdue(Priority.INTERACTIVE, 5.1)
    assert late is not None
    assert (late.holder, late.until, late.arrived, late.priority) == ("dated", 5.0, 0.0, Priority.INTERACTIVE)


@pytest.mark.parametrize("start", [1.0, math.inf])
def test_who_has_left_is_forgotten(start: float) -> None:
    """Would keep calls that are over in memory, as long as one call waits."""

    class Call:
        pass

    queue = WaitQueue[Call]()
    calls = [Call() for _ in range(1000)]
    gone = weakref.WeakSet(calls)
    tickets = [queue.push(Priority.BULK, start, call, 0.0, 9.0) for call in calls]
    del calls
    for ticket in tickets[:0:-1]:
        queue.leave(ticket)
    del tickets[1:], ticket
    gc.collect()
    assert len(gone) <= 64
    assert queue.head() is tickets[0]
    queue.leave(tickets.pop())
    gc.collect()
    assert len(gone) == 0


def test_few_are_kept_beside_those_who_wait() -> None:
    """Would keep two calls that are over for each that waits, or look at all that wait whenever one leaves."""

    class Call:
        pass

    queue, gone = WaitQueue[Call](), weakref.WeakSet[Call]()
    tickets = []
    for _ in range(50_000):
        tickets.append(queue.push(Priority.BULK, math.inf, Call()))
        gone.add(tickets[-1].holder)
    while len(tickets) > 20_000:
        queue.leave(tickets.pop())
    gc.collect()
    assert len(gone) <= 2 * len(tickets)


def test_order_survives_the_removal_of_many() -> None:
    """Would let somebody go out of turn after the places of those that left were taken away."""
    random, queue = Random(1), WaitQueue[float](patience=1000.0)
    tickets = [queue.push(Priority.INTERACTIVE, start, start, 0.0, start) for start in random.sample(range(2000), 2000)]
    random.shuffle(tickets)
    for ticket in tickets[:1900]:
        queue.leave(ticket)
    kept = sorted(ticket.holder for ticket in tickets[1900:])
    late = queue.overdue(Priority.INTERACTIVE, 5000.0)
    assert late is not None
    assert late.holder == kept[0]
    served = []
    while (head := queue.head(10.0)) is not None:
        served.append(head.holder)
        queue.leave(head)
    assert served == kept
