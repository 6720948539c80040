"""When a lane asks Redis for slots again, after it got fewer than it asked for. Pure.

It asks when the next slot can be free, at a random time: processes that ask in step would always be served in the same
order.
"""

from __future__ import annotations

import math
import random

from ..quota import Priority

ASK_EVERY = 0.05
"""The least average seconds between two asks of a lane that got fewer slots than it asked for."""
ASK_AT_MOST = 1.0
"""The most seconds between two asks: a slot may be freed early."""


class AskTimes:
    """The times of the next asks, by priority. Times are seconds of the loop's clock; -inf means at once."""

    def __init__(self) -> None:
        self.not_before: dict[Priority, float] = dict.fromkeys(Priority, -math.inf)
        """Before this time Redis admits no call."""
        self.next_free: dict[Priority, float] = dict.fromkeys(Priority, -math.inf)
        """When Redis probably admits one."""
        self.ask_at: dict[Priority, float] = dict.fromkeys(Priority, -math.inf)
        """When to ask."""

    def met(self, priority: Priority) -> None:
        """Record that all calls of this priority got slots."""
        self.not_before[priority] = self.next_free[priority] = self.ask_at[priority] = -math.inf

    def unmet(self, priority: Priority, now: float, *, soon: float, certain: float, gather: float = 0.0) -> None:
        """Record that some calls got no slot.

        The next slot is probably free in `soon` seconds, and certainly not before `certain`; `gather` is the least time
        to wait until more of them are free.
        """
        self.not_before[priority], self.next_free[priority] = now + certain, now + soon
        late = ASK_EVERY * random.uniform(0, 0.4)
        wait = max(min(soon, ASK_AT_MOST) + late, ASK_EVERY * random.uniform(0.5, 1.5))
        if gather:
            wait = max(wait, gather * random.uniform(0.8, 1.0))
        self.ask_at[priority] = now + wait
