"""The state that a lane passes on to the next lane of the same operation and workspace, or to that of another event loop."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from struct import Struct
from threading import Lock
from typing import NamedTuple
from weakref import WeakKeyDictionary

from ..expiring import ExpiringRecords, Key
from ..pace import Pace
from ..window import Record

_HEAD = Struct("<ddddI")
"""When the state no longer matters, the end of the pause, the grace, the longest window, and the number of responses."""


class Memory(NamedTuple):
    """The state that a lane passes on to the next lane of the same operation and workspace."""

    window: Record
    paused_until: float
    pace: Pace | None
    """The slower pace, if other clients use the quota, too."""
    grace: float
    """Seconds for which the server may still count the lane's requests in flight."""

    def settled(self, now: float) -> Memory:
        """Return this state after its loop closed at `now`: the outcome of its requests in flight stays unknown."""
        window = self.window
        lost = (*window.lost, *[now + self.grace] * window.in_flight)
        return self._replace(window=window._replace(lost=tuple(sorted(lost)), in_flight=0))

    def over(self, now: float) -> bool:
        """Return whether the state no longer matters at `now`."""
        return now >= max(self.window.over, self.paused_until) and (
            self.pace is None or self.pace.rate(now) == math.inf
        )

    def foreign(self, now: float) -> bool:
        """Return whether the state comes from a clock with another origin: a response is later than `now`."""
        return bool(self.window.answers) and self.window.answers[-1] > now

    def joined(self, later: Memory) -> Memory:
        """Return the union of both states; a request that both contain counts once."""
        answers = Counter(self.window.answers) | Counter(later.window.answers)
        lost = Counter(self.window.lost) | Counter(later.window.lost)
        longest = max(self.window.longest, later.window.longest)
        return Memory(
            Record(tuple(sorted(answers.elements())), tuple(sorted(lost.elements())), 0, longest),
            max(self.paused_until, later.paused_until),
            self.pace if later.pace is None else later.pace,
            max(self.grace, later.grace),
        )

    def packed(self) -> bytes | Memory:
        """Return the state in compact form, or unchanged if it contains a slower pace, which few lanes have."""
        if self.pace is not None:
            return self
        answers, lost, _, longest = self.window
        over = max(self.window.over, self.paused_until)
        head = _HEAD.pack(over, self.paused_until, self.grace, longest, len(answers))
        return head + array("d", (*answers, *lost)).tobytes()


class Exchange:
    """What a lane has told the lanes of other event loops and learned from them, while one loop runs at a time.

    A lane counts a request of another loop once: a response by its time, a request in flight as lost.
    """

    def __init__(self) -> None:
        self._told: dict[float, int] = {}
        """How many requests in flight others know, by the time when the first of them learned of these."""
        self.told_at: float = -math.inf
        """The last of these times."""
        self._learned: WeakKeyDictionary[Exchange, tuple[Record, float]] = WeakKeyDictionary()
        """The requests of another lane when this one last learned from it, and its `told_at` then."""
        self._borrowed: list[float] = []
        """Until when requests in flight of other loops count as lost here."""

    def tell(self, in_flight: int, now: float) -> None:
        """Record that another lane learns of the requests in flight."""
        fresh = in_flight - sum(self._told.values())
        if fresh > 0:
            self._told[now], self.told_at = fresh, now

    def ended(self, granted_at: float) -> None:
        """Record the end of a request that others know: it was granted at `told_at` or before."""
        told_at = next((told_at for told_at in self._told if granted_at <= told_at), None)
        if told_at is not None:
            self._told[told_at] -= 1
            if not self._told[told_at]:
                del self._told[told_at]

    def learn(self, other: Exchange, memory: Memory, now: float) -> Memory | None:
        """Return what is new in the state of another lane, after its `tell`; `None` if nothing is.

        The lane then counts its requests in flight as lost until `memory.grace` seconds from `now`.
        """
        window = memory.window
        last, last_told_at = self._learned.get(other, (None, -math.inf))
        fresh = sum(number for told_at, number in other._told.items() if told_at > last_told_at)
        if window == last and not fresh:
            return None
        self._learned[other] = window, other.told_at
        # Those of a third loop are learned from its own lane.
        lost = Counter(window.lost) - Counter(other._borrowed)
        borrowed = [until for until in self._borrowed if until + window.longest > now]
        self._borrowed = [*borrowed, *[now + memory.grace] * fresh]
        return memory._replace(window=window._replace(lost=tuple(sorted(lost.elements())), in_flight=fresh))


def _unpacked(record: bytes | Memory) -> Memory:
    if isinstance(record, Memory):
        return record
    _, paused_until, grace, longest, count = _HEAD.unpack_from(record)
    times = array("d", record[_HEAD.size :])
    return Memory(Record(tuple(times[:count]), tuple(times[count:]), 0, longest), paused_until, None, grace)


def _over(record: bytes | Memory, now: float) -> bool:
    if isinstance(record, Memory):
        return record.over(now)
    until: float = _HEAD.unpack_from(record)[0]
    return now >= until


class Memories:
    """The states of dropped lanes, each until its requests no longer count. Several threads can use it."""

    def __init__(self) -> None:
        self._records: ExpiringRecords[bytes | Memory] = ExpiringRecords(_over)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._records)

    def add(self, key: Key, memory: Memory, now: float) -> None:
        """Keep a state, together with an earlier one of the same lane."""
        memory = memory.settled(now)
        if memory.over(now) or memory.foreign(now):
            return
        with self._lock:
            record = self._records.get(key)
            if record is not None and not (earlier := _unpacked(record)).foreign(now):
                memory = earlier.joined(memory)
            self._records.put(key, memory.packed(), now)

    def resume(self, key: Key, now: float) -> float:
        """End the pause and the slower pace of a lane. Return the remaining seconds of the pause."""
        with self._lock:
            record = self._records.get(key)
            if record is None:
                return 0.0
            memory = _unpacked(record)
            self._records.put(key, memory._replace(paused_until=-math.inf, pace=None).packed(), now)
        return max(0.0, memory.paused_until - now)

    def clear(self) -> None:
        """Forget all states."""
        with self._lock:
            self._records = ExpiringRecords(_over)

    def pop(self, key: Key) -> Memory | None:
        """Remove and return the state of a lane."""
        with self._lock:
            record = self._records.pop(key)
        return None if record is None else _unpacked(record)
