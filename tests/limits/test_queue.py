"""The queue: its order against a sorted list, who has waited too long, and who is too late."""

from __future__ import annotations

import math

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
        assert len(queue) == len(model)
        assert queue.waiting == {one: sum(entry[0] is one for entry in model) for one in Priority}
        assert sorted(ticket.holder for ticket in queue) == sorted(entry[2] for entry in model)


def test_nobody_starves_behind_others_of_its_class() -> None:
    """Would let an interactive call with a late start time, or none, wait for ever behind a stream of sooner ones."""
    queue = WaitQueue[str](patience=60.0)
    queue.push(Priority.INTERACTIVE, math.inf, "undated", 0.0)
    queue.push(Priority.INTERACTIVE, 9.0, "late", 1.0)
    queue.push(Priority.BULK, math.inf, "bulk", 0.0)
    queue.push(Priority.BULK, 1.0, "bulk, soon", 0.0)
    served = []
    for second in range(100):
        queue.push(Priority.INTERACTIVE, 1.0, "soon", float(second))
        ticket = queue.head(float(second))
        assert ticket is not None
        queue.leave(ticket)
        served.append((second, ticket.holder))
    assert [entry for entry in served if entry[1] != "soon"] == [(60, "undated"), (61, "late")]
    while queue.count(Priority.INTERACTIVE):
        ticket = queue.head(1000.0)
        assert ticket is not None
        queue.leave(ticket)
    assert [queue.head(1000.0).holder] == ["bulk, soon"]  # type: ignore[union-attr]


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
    assert len(queue) == 7
