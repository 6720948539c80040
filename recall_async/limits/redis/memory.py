"""A process's memory of its quotas: in which state of Redis its slots are written, and until when they count.

A Redis that was flushed, or restarted empty, does not know that it lost data. A process with slots knows it while its
memory lasts, so the memory belongs to the store and outlives lanes, sessions and event loops. Threads may share it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from struct import Struct
from threading import Lock
from typing import NamedTuple

from ..expiring import ExpiringRecords, Key
from .scripts import STATE_TTL, Keys, Pause, Terms

MEMORY_TTL = STATE_TTL / 2
"""Seconds for which an epoch is stored: far less than in Redis, so that it never expires in Redis first."""
MAX_QUOTAS = 4096
"""The most stored quotas whose requests no longer count."""
MAX_SERVERS = 256
"""The most server processes whose data are told apart."""

_HEAD = Struct("<ddi")
"""When the last slot expires, when Redis last named the epoch, and the place of the terms; the epoch follows."""


class Kept(NamedTuple):
    """A pause after a 429 of this process, and the state of Redis that has it."""

    pause: Pause
    told: str
    """The server process and the epoch to which the pause was told; empty if Redis may not have it."""

    @property
    def until(self) -> float:
        return self.pause.at + self.pause.seconds


class Known:
    """What a process knows of one quota. Times are seconds of the loop's clock."""

    __slots__ = ("_memory", "key")

    def __init__(self, memory: Memory, key: Key) -> None:
        self._memory = memory
        self.key: Key = key

    @property
    def keys(self) -> Keys:
        """The quota's keys in Redis."""
        return Keys(self._memory.prefix, *self.key)

    @property
    def terms(self) -> Terms | None:
        """The terms with which the last slots were granted."""
        place = self._memory.read(self.key)[2]
        return None if place < 0 else self._memory.terms[place]

    def epoch(self, now: float) -> tuple[str, float]:
        """Return the epoch and the seconds since Redis named it; `("", 0.0)` if none is stored."""
        _, heard_at, _, epoch = self._memory.read(self.key)
        if not epoch or now - heard_at >= MEMORY_TTL:
            return "", 0.0
        return epoch.decode(), now - heard_at

    def heard(self, epoch: str, now: float, terms: Terms | None = None) -> None:
        """Record that Redis named the epoch, and granted slots with these `terms`, if any."""
        self._memory.write(self.key, epoch.encode(), now, terms)

    def pause(self, now: float) -> Kept | None:
        """Return the longest pause that this process was asked for; `None` if none lasts."""
        return self._memory.pause(self.key, now)

    def paused(self, kept: Kept, now: float) -> None:
        """Record a pause, or where it was told."""
        self._memory.keep(self.key, kept, now)

    @property
    def run(self) -> str:
        """The run id of the server process that named the epoch; empty if none is stored."""
        return self._memory.read(self.key)[3].decode().rpartition("/")[2]


class Memory:
    """All quotas that a process has used, in about 200 bytes each."""

    def __init__(self, prefix: str) -> None:
        self.prefix: str = prefix
        self._lives: OrderedDict[str, str] = OrderedDict()
        self.slots_until: float = -math.inf
        """When the last slot of all quotas has expired."""
        self.terms: list[Terms] = []
        """All different terms with which slots were granted."""
        self._places: dict[Terms, int] = {}
        self._records: ExpiringRecords[bytes] = ExpiringRecords(_expired, spare=MAX_QUOTAS)
        self._pauses: ExpiringRecords[Kept] = ExpiringRecords(_over)
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._records)

    def known(self, key: Key) -> Known:
        """Return what is known of a quota."""
        return Known(self, key)

    def lost(self, run: str, life: str) -> bool:
        """Record which life of its data a server process named. True if it had named another one before."""
        if not life:
            return False  # it cannot say
        with self._lock:
            before = self._lives.get(run, life)
            self._lives[run] = life
            self._lives.move_to_end(run)
            if len(self._lives) > MAX_SERVERS:
                self._lives.popitem(last=False)
        return before != life

    def holders(self, now: float) -> list[Known]:
        """Return the quotas with slots that may still count."""
        if self.slots_until <= now:
            return []
        with self._lock:
            return [self.known(key) for key, record in self._records if not _expired(record, now)]

    def read(self, key: Key) -> tuple[float, float, int, bytes]:
        """Return when the quota's last slot expires, when the epoch was named, the place of the terms, and the epoch."""
        with self._lock:
            record = self._records.get(key)
        if record is None:
            return -math.inf, -math.inf, -1, b""
        slots_until, heard_at, place = _HEAD.unpack_from(record)
        return slots_until, heard_at, place, record[_HEAD.size :]

    def write(self, key: Key, epoch: bytes, now: float, terms: Terms | None) -> None:
        """Record what Redis has said of a quota at `now`."""
        with self._lock:
            record = self._records.get(key)
            slots_until, _, place = (-math.inf, 0.0, -1) if record is None else _HEAD.unpack_from(record)
            if terms is not None:
                slots_until = max(slots_until, now + terms.lease / 1e6)
                self.slots_until = max(self.slots_until, slots_until)
                place = self._places.setdefault(terms, len(self._places))
                if place == len(self.terms):
                    self.terms.append(terms)
            self._records.put(key, _HEAD.pack(slots_until, now, place) + epoch, now)

    def pause(self, key: Key, now: float) -> Kept | None:
        """Return the longest pause of a quota that this process was asked for; `None` if none lasts."""
        if not self._pauses:
            return None
        with self._lock:
            kept = self._pauses.get(key)
            if kept is not None and _over(kept, now):
                self._pauses.pop(key)
                return None
            return kept

    def keep(self, key: Key, kept: Kept, now: float) -> None:
        """Record a pause of a quota, unless a longer one is recorded."""
        with self._lock:
            earlier = self._pauses.get(key)
            if earlier is None or earlier.until <= kept.until:
                self._pauses.put(key, kept, now)


def _over(kept: Kept, now: float) -> bool:
    return kept.until <= now


def _expired(record: bytes, now: float) -> bool:
    until: float = _HEAD.unpack_from(record)[0]
    return until <= now
