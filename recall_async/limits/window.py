"""The in-flight-aware window: the part of a lane that makes the quota impossible to overrun.

A request takes a slot when it is admitted, keeps it while it is in flight, and gives it back `per` seconds after its
*answer* arrived. At most `limit` slots are taken at any time.

Why the server can never count more than `limit` requests in a window: take any server window (T - per, T] and, of the
requests counted in it, the one admitted last, at time s <= T. Every other request counted there reached the server
after T - per >= s - per, so its answer arrived after s - per too: at time s it was in flight, or answered less than
`per` ago. It held a slot at s. So there are at most `limit` of them, whatever the network did in between.

A request whose answer never came may still be counted after we gave up on it, so its slot is kept for `per` and a
grace from then on. Here the guarantee rests on an assumption: that no request is counted later than that.

The two clocks involved need not agree on the time, but on the length of a second they must. The kernel slews a clock by
500 parts per million at most when ntpd or systemd-timesyncd correct it, and both clocks may be corrected, in opposite
directions: a slot is kept longer by twice that. What a faster correction means: docs/quota.md

Nothing here reads a clock, waits or sends: times are parameters, in seconds, and never go back.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter, deque
from heapq import merge
from itertools import islice
from typing import NamedTuple

CLOCK_TOLERANCE = 1000e-6


class Record(NamedTuple):
    """What was sent through a window, in the fewest bytes."""

    answers: tuple[float, ...]
    """When answers came, ascending."""
    lost: tuple[float, ...]
    """Until when requests that were given up may be counted, ascending."""
    in_flight: int
    longest: float
    """Seconds for which all of it is remembered."""

    @property
    def over(self) -> float:
        """When nothing of it is to be remembered any longer."""
        last = max((*self.answers[-1:], *self.lost[-1:]), default=-math.inf)
        return math.inf if self.in_flight else last + self.longest


class Window:
    """Slots of one quota: how many are taken now, and when they come back. `per` is the server's window in seconds.

    `per` may change. What was sent is remembered for the longest there was, and counted again when `per` grows.
    """

    __slots__ = ("_answered", "_longest", "_lost", "_older", "in_flight", "per")

    def __init__(self, per: float) -> None:
        self.in_flight: int = 0
        # When the answers came, and until when the lost requests may be counted: both ascending.
        self._answered: deque[float] = deque()
        self._lost: list[float] = []
        # Those of both whose slots are back, but would not be with a longer `per`: in the order in which they came back.
        self._older: deque[float] = deque()
        self.per: float = per * (1 + CLOCK_TOLERANCE)
        self._longest = self.per

    def configure(self, per: float) -> None:
        """Count in another window from now on."""
        self.per = per * (1 + CLOCK_TOLERANCE)
        self._longest = max(self._longest, self.per)
        if self._older:
            self._answered = deque(sorted((*self._older, *self._answered)))
            self._older.clear()

    @property
    def held(self) -> int:
        """Slots of which it is not known when, or only that late, they come back: of requests in flight or lost."""
        return self.in_flight + len(self._lost)

    def taken(self, now: float) -> int:
        """Slots that are taken at `now`."""
        per = self.per
        while self._answered and self._answered[0] + per <= now:
            self._retire(self._answered.popleft())
        while self._lost and self._lost[0] + per <= now:
            self._retire(self._lost.pop(0))
        while self._older and self._older[0] + self._longest <= now:
            self._older.popleft()
        return self.in_flight + len(self._answered) + len(self._lost)

    def _retire(self, ended: float) -> None:
        if self.per < self._longest:
            self._older.append(ended)

    def answers(self) -> tuple[float, ...]:
        """When the answers came whose slots are not back yet, as far as that was looked at."""
        return tuple(self._answered)

    def take(self) -> None:
        """A request is admitted; the caller has seen that a slot is free."""
        self.in_flight += 1

    def answered(self, now: float) -> None:
        """The answer to a request arrived at `now`."""
        self.in_flight -= 1
        self._answered.append(now)

    def lost(self, now: float, grace: float) -> None:
        """A request was given up at `now`; the server may have counted it, or may yet within `grace` seconds."""
        self.in_flight -= 1
        insort(self._lost, now + grace)

    def unused(self) -> None:
        """A request that was admitted never left."""
        self.in_flight -= 1

    def record(self) -> Record:
        """What is to be remembered of it."""
        return Record(tuple(sorted((*self._older, *self._answered))), tuple(self._lost), self.in_flight, self._longest)

    def restore(self, record: Record, now: float, grace: float) -> None:
        """Take over the slots of another window that was used at other times than this one.

        Those that either took over from the other before are known by their times. The requests that it had in flight may
        be counted for `grace` seconds yet.
        """
        self._longest = max(self._longest, record.longest)
        answers = Counter(record.answers) - Counter((*self._older, *self._answered))
        lost = Counter(record.lost) - Counter(self._lost)
        self._answered = deque(sorted((*self._answered, *answers.elements())))
        self._lost = sorted((*self._lost, *lost.elements(), *[now + grace] * record.in_flight))

    def next_lost(self) -> float:
        """When the next slot of a lost request comes back; `inf` if there is none."""
        return self._lost[0] + self.per if self._lost else math.inf

    def opens(self, now: float, ceiling: int) -> float:
        """The time from which fewer than `ceiling` slots are taken; `inf` where only an answer can tell."""
        excess = self.taken(now) - ceiling
        if excess < 0:
            return now
        return self._release(excess) if excess < len(self._answered) + len(self._lost) else math.inf

    def earliest(self, now: float, ceiling: int, ahead: int, limit: int) -> float:
        """A time before which a call with `ahead` others before it cannot be admitted, however fast the answers come.

        `ceiling` is the call's own; those ahead may have higher ones, up to `limit`.
        """
        taken = self.taken(now)
        needed = taken - ceiling + ahead
        if needed < 0:
            return now
        rounds, needed = divmod(needed, max(taken, limit))
        first = now + self.per
        if needed < taken - self.in_flight:
            first = min(first, self._release(needed))
        return first + rounds * self.per

    def _release(self, index: int) -> float:
        """When a slot comes back before which `index` others do, of those whose end is known."""
        if not self._lost:
            return self._answered[index] + self.per
        return next(islice(merge(self._answered, self._lost), index, None)) + self.per
