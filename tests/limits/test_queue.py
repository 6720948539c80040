"""The queue: its order against a sorted list."""

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
