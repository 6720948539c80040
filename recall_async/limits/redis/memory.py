"""A process's memory of its quotas: in which state of Redis its slots are written, and until when they count.

A Redis that was flushed, or restarted empty, does not know that it lost data. A process with slots knows it while its
memory lasts, so the memory belongs to the store and outlives lanes, sessions and event loops. Reads and writes are
single operations on one entry, so threads may share it.
"""

from __future__ import annotations

import math
from collections import OrderedDict

from .scripts import STATE_TTL, Keys, Terms

MEMORY_TTL = STATE_TTL / 2
"""Seconds for which an epoch is stored: far less than in Redis, so that it never expires in Redis first."""
MAX_QUOTAS = 4096
"""The most stored quotas whose requests no longer count."""


class Known:
    """One quota, as in the last reply to this process. Times are seconds of the loop's clock."""

    __slots__ = ("heard", "keys", "slots_until", "terms")

    def __init__(self, keys: Keys) -> None:
        self.keys: Keys = keys
        self.terms: Terms | None = None
        self.heard: tuple[str, float] | None = None
        """The epoch, and when Redis last named it."""
        self.slots_until: float = -math.inf
        """When the last slot granted to this process has expired, however its request ended."""

    def epoch(self, now: float) -> tuple[str, float]:
        """Return the epoch and the seconds since Redis named it; `("", 0.0)` if none is stored."""
        if self.heard is None or now - self.heard[1] >= MEMORY_TTL:
            return "", 0.0
        return self.heard[0], now - self.heard[1]


class Memory:
    """All quotas that a process has used, by their keys."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Known] = OrderedDict()
        self.server = ""
        """The server and the life of its data that contain the slots; empty before the first connection."""
        self.slots_until: float = -math.inf
        """When the last slot of all quotas has expired."""

    def known(self, keys: Keys, now: float) -> Known:
        """Return the entry of a quota, creating it if necessary. The least recently used entries are dropped."""
        known = self._known.get(keys.stem)
        if known is None:
            known = self._known.setdefault(keys.stem, Known(keys))
        self._known.move_to_end(keys.stem)
        if len(self._known) > MAX_QUOTAS:
            stem, oldest = self._known.popitem(last=False)
            if oldest.slots_until > now:
                self._known[stem] = oldest
                self._known.move_to_end(stem, last=False)
        return known

    def granted(self, known: Known, terms: Terms, until: float) -> None:
        """Record granted slots of a quota, the last of which expires at `until`."""
        known.terms = terms
        known.slots_until = max(known.slots_until, until)
        self.slots_until = max(self.slots_until, until)

    def holders(self, now: float) -> list[Known]:
        """Return the quotas with slots that may still count."""
        if self.slots_until <= now:
            return []
        return [known for known in list(self._known.values()) if known.slots_until > now and known.terms is not None]
