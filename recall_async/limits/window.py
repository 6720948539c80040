"""The in-flight-aware window: the part of a lane that guarantees the quota.

A request uses one slot from its admission until `per` seconds after its *response*. At most `limit` slots are in use
at any time.

Why the server can never count more than `limit` requests in a window: take any server window (T - per, T] and, of the
requests counted in it, the one admitted last, at time s <= T. Every other request counted there reached the server
after T - per >= s - per, so its response arrived after s - per, too: at time s it was in flight, or answered less
than `per` ago. It used a slot at s. So there are at most `limit` of them, whatever delays the network caused.

The server may still count a request without a response after the client gave up, so its slot is freed only `per` plus
a grace period later. Here the guarantee rests on an assumption: that the server counts no request later than that.

The clocks of client and server may show different times, but their seconds must have the same length. The kernel
slews a clock by at most 500 parts per million when ntpd or systemd-timesyncd corrects it, and both clocks may be
corrected, in opposite directions: slots are kept longer by twice that. For faster corrections, see docs/quota.md

This module reads no clock and does no I/O: times are parameters, in seconds, and never decrease.
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
    """The requests of a window, in compact form."""

    answers: tuple[float, ...]
    """The times of the responses, ascending."""
    lost: tuple[float, ...]
    """The times until which the server may count lost requests, ascending."""
    in_flight: int
    longest: float
    """Seconds for which the record matters."""

    @property
    def over(self) -> float:
        """The time from which the record no longer matters."""
        last = max((*self.answers[-1:], *self.lost[-1:]), default=-math.inf)
        return math.inf if self.in_flight else last + self.longest


class Window:
    """The slots of one quota: how many are in use, and when they are freed. `per` is the server's window in seconds.

    `per` may change. Requests are stored for the longest `per` so far, and at least for `remember` seconds. They count
    again when `per` increases.
    """

    __slots__ = ("_answered", "_longest", "_lost", "_older", "in_flight", "per")

    def __init__(self, per: float, remember: float = 0.0) -> None:
        self.in_flight: int = 0
        # The times of the responses, and the times until which lost requests may be counted: both ascending.
        self._answered: deque[float] = deque()
        self._lost: list[float] = []
        # Times from both whose slots are freed, but would not be with a longer `per`, in the order of their release.
        self._older: deque[float] = deque()
        self.per: float = per * (1 + CLOCK_TOLERANCE)
        self._longest = max(per, remember) * (1 + CLOCK_TOLERANCE)

    def configure(self, per: float) -> None:
        """Use another window from now on."""
        self.per = per * (1 + CLOCK_TOLERANCE)
        self._longest = max(self._longest, self.per)
        if self._older:
            self._answered = deque(sorted((*self._older, *self._answered)))
            self._older.clear()

    @property
    def held(self) -> int:
        """The slots of requests in flight or lost, which are freed at an unknown or late time."""
        return self.in_flight + len(self._lost)

    def taken(self, now: float) -> int:
        """Return the number of slots in use at `now`."""
        per = self.per
        while self._answered and self._answered[0] + per <= now:
            self._retire(self._answered.popleft())
        while self._lost and self._lost[0] + per <= now:
            self._retire(self._lost.pop(0))
        while self._older and self._older[0] + self._longest <= now:
            self._older.popleft()
        return self.in_flight + len(self._answered) + len(self._lost)

    def heard(self, now: float) -> int:
        """Return the number of responses whose slots are not freed."""
        self.taken(now)
        return len(self._answered)

    def _retire(self, ended: float) -> None:
        if self.per < self._longest:
            self._older.append(ended)

    def answers(self) -> tuple[float, ...]:
        """The response times of the slots that are not freed, as of the last query."""
        return tuple(self._answered)

    def take(self) -> None:
        """Take a slot for an admitted request. The caller must have checked that one is free."""
        self.in_flight += 1

    def answered(self, now: float) -> None:
        """Record a response at `now`."""
        self.in_flight -= 1
        self._answered.append(now)

    def lost(self, now: float, grace: float) -> None:
        """Record a request without a response at `now`: the server may count it up to `grace` seconds later."""
        self.in_flight -= 1
        insort(self._lost, now + grace)

    def unused(self) -> None:
        """Free the slot of a request that was never sent."""
        self.in_flight -= 1

    def record(self) -> Record:
        """Return the requests that may still count."""
        return Record(tuple(sorted((*self._older, *self._answered))), tuple(self._lost), self.in_flight, self._longest)

    def restore(self, record: Record, now: float, grace: float) -> None:
        """Add the slots of another window that was not used at the same time as this one.

        Slots that one of the windows got from the other earlier are recognized by their times. The server may count
        the other window's requests in flight for another `grace` seconds.
        """
        self._longest = max(self._longest, record.longest)
        answers = Counter(record.answers) - Counter((*self._older, *self._answered))
        lost = Counter(record.lost) - Counter(self._lost)
        self._answered = deque(sorted((*self._answered, *answers.elements())))
        self._lost = sorted((*self._lost, *lost.elements(), *[now + grace] * record.in_flight))

    def next_lost(self) -> float:
        """Return when the next slot of a lost request is freed; `inf` if there is none."""
        return self._lost[0] + self.per if self._lost else math.inf

    def opens(self, now: float, ceiling: int) -> float:
        """Return the time from which fewer than `ceiling` slots are in use; `inf` if it depends on a response."""
        excess = self.taken(now) - ceiling
        if excess < 0:
            return now
        return self._release(excess) if excess < len(self._answered) + len(self._lost) else math.inf

    def earliest(self, now: float, ceiling: int, ahead: int, limit: int) -> float:
        """Return a time before which a call behind `ahead` others cannot be admitted, even with instant responses.

        `ceiling` is the call's own; the calls ahead may have higher ones, up to `limit`.
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
        """Return when the slot with this `index` is freed, among the slots with a known release, in order."""
        if not self._lost:
            return self._answered[index] + self.per
        return next(islice(merge(self._answered, self._lost), index, None)) + self.per
