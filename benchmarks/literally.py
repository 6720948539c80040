"""The promise taken literally: a lane that evaluates the inequality (1) of recall_async/limits/promise.py at every moment,
with no clock tolerance, no steps of `rho` and no token bucket.

Where our lane makes calls wait longer than this one, the lane is at fault; where both do, it is what the promise costs.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_right
from collections import deque
from itertools import pairwise

from recall_async import Priority, Quota
from recall_async.limits.contract import Ending, Slot
from recall_async.limits.promise import FOLLOWED, WINDOWS

from .lanes import PlainLane


class LiteralLane(PlainLane):
    """Admits a bulk call iff free + released(h) - 1 >= reserve + rho * h for every h from 0 to `per`."""

    def __init__(self, quota: Quota) -> None:
        super().__init__(quota)
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0
        self._answers: deque[float] = deque()
        self._asked: deque[float] = deque()
        """When interactive calls of the last windows came."""
        self._waiting: dict[Priority, deque[asyncio.Future[None]]] = {priority: deque() for priority in Priority}
        self._timer: asyncio.TimerHandle | None = None

    async def admit(
        self,
        priority: Priority = Priority.INTERACTIVE,
        start: float = math.inf,
        until: float = math.inf,
        *,
        retry: bool = False,
    ) -> Slot:
        if priority is Priority.INTERACTIVE:
            self._asked.append(self._loop.time())
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiting[priority].append(turn)
        self._dispatch()
        await turn
        return Slot(self._end, self._loop.time())

    def _dispatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for priority, turns in self._waiting.items():
            while turns:
                if turns[0].done():
                    turns.popleft()  # cancelled
                    continue
                now = self._loop.time()
                opens = self._opens(now, priority)
                if opens > now:
                    self._timer = self._loop.call_at(opens, self._dispatch) if opens < math.inf else None
                    return
                self._in_flight += 1
                turns.popleft().set_result(None)

    def _opens(self, now: float, priority: Priority) -> float:
        quota, answers = self.quota, self._answers
        while answers and answers[0] + quota.per <= now:
            answers.popleft()
        spare = quota.limit - self._in_flight - len(answers) - 1
        if priority is Priority.BULK:
            spare -= quota.reserved
        if spare < 0:
            return answers[-spare - 1] + quota.per if len(answers) >= -spare else math.inf
        rho = self._rho(now)
        if priority is Priority.INTERACTIVE or not rho:
            return now
        if spare + len(answers) + 1e-9 < rho * quota.per:
            return math.inf
        missing = max((rho * (at + quota.per - now) - back for back, at in enumerate(answers)), default=0.0) - spare
        return now + missing / rho + 1e-9 if missing > 1e-9 else now

    def _rho(self, now: float) -> float:
        """The promised slots per second: a factor of the busiest of the last windows, which end now."""
        per, asked = self.quota.per, self._asked
        while asked and asked[0] <= now - WINDOWS * per:
            asked.popleft()
        ends = [bisect_right(asked, now - number * per) for number in range(WINDOWS)] + [0]
        busiest = max(later - earlier for later, earlier in pairwise(ends))
        return min(self.quota.promised_at_most, max(self.quota.promised, FOLLOWED * busiest / per))

    def _end(self, slot: Slot, ending: Ending, seconds: float) -> None:
        self._in_flight -= 1
        self._answers.append(self._loop.time())
        self._dispatch()
