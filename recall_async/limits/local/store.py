"""Who shares what: one lane per (event loop, workspace, operation), whichever session asks for it.

Lanes belong to an event loop. They outlive the sessions, so that a session opened after another was closed knows what
that one sent; and what a loop sent that has ended, closed or not, the next loop remembers. Two loops that run at the same
time, in two threads, cannot share a lane: a process that uses one workspace in both is told so, once, and needs a store
that can be shared.

What no session uses takes little: beyond a few hundred lanes, only what they sent is kept, and nothing once that is over.
"""

from __future__ import annotations

import logging
import math
from threading import Lock
from weakref import WeakKeyDictionary

from ... import checks
from ...operations import OPERATIONS
from ..contract import QuotaLane
from ..loops import PerLoop
from ..quota import Quota, base_quota
from ..window import Record
from .lane import LocalLane, Memory

logger: logging.Logger = logging.getLogger("recall_async")

MAX_RESTING = 256
"""Lanes of a loop that no session uses and that are kept as they are."""
MIN_SWEPT = 1024
"""Memories of lanes before those that are over are looked for."""

Key = tuple[str, str]


class Memories:
    """What lanes sent that are no more, until it is over."""

    def __init__(self) -> None:
        self._kept: dict[Key, list[Memory]] = {}
        self._swept_at = MIN_SWEPT
        self._lock = Lock()

    def add(self, key: Key, memory: Memory, now: float) -> None:
        """Keep a memory. Those that are over are removed whenever the number of all has doubled."""
        memory = memory.settled(now)
        if memory.over(now):
            return
        with self._lock:
            self._kept.setdefault(key, []).append(memory)
            if len(self._kept) >= self._swept_at:
                self._kept = {
                    key: left
                    for key, memories in self._kept.items()
                    if (left := [memory for memory in memories if not memory.over(now)])
                }
                self._swept_at = max(MIN_SWEPT, 2 * len(self._kept))

    def pop(self, key: Key) -> list[Memory]:
        """What is remembered of a lane; it is forgotten."""
        with self._lock:
            return self._kept.pop(key, [])


class Lanes:
    """The lanes of one event loop."""

    def __init__(self) -> None:
        self.open: dict[Key, LocalLane] = {}
        self.resting: dict[Key, LocalLane] = {}
        """Those of them that no session uses, the one that rests longest first."""
        self.seen: WeakKeyDictionary[Lanes, dict[Key, Record]] = WeakKeyDictionary()
        """What lanes of other loops had sent when they were looked at last."""


_registry: PerLoop[Lanes] = PerLoop(Lanes)
_memories = Memories()
_told: set[str] = set()


class LocalQuotaStore:
    """The quota's state in this process, shared by everybody in the running event loop."""

    longest_request: float = math.inf

    def open(self, workspace: str, operation: str, quota: Quota | None) -> QuotaLane:
        key = workspace, operation
        lanes = _registry.get()
        lane = lanes.open.get(key)
        if lane is None:
            lane = LocalLane(operation, quota or base_quota(operation), on_rest=lambda: _rest(lanes, key))
            lanes.open[key] = lane
        _remember(lanes, lane, key)
        lane.join(quota)
        lanes.resting.pop(key, None)
        return lane

    async def resume(self, workspace: str, operation: str | None = None) -> dict[str, float]:
        """End the pauses after a 429, and the slower pace after them, of one operation or of all.

        Returns the seconds that were left of each pause, by operation. Only the running event loop's lanes are resumed.
        """
        if operation is not None and operation not in OPERATIONS:
            raise checks.invalid("operation", f"one of {', '.join(OPERATIONS)}", operation)
        left = {}
        for (owner, name), lane in _registry.get().open.items():
            if owner == workspace and operation in (None, name) and (seconds := lane.resume()):
                left[name] = seconds
        return left

    async def aclose(self) -> None:
        """Nothing is held open."""


def _rest(lanes: Lanes, key: Key) -> None:
    """A lane is not used any longer."""
    lane = lanes.open.get(key)
    if lane is None:
        return
    lanes.resting[key] = lane
    while len(lanes.resting) > MAX_RESTING:
        oldest = next(iter(lanes.resting))
        lane = lanes.resting.pop(oldest)
        del lanes.open[oldest]
        _memories.add(oldest, lane.memory(), lane.now())


def _remember(lanes: Lanes, lane: LocalLane, key: Key) -> None:
    """Let a lane know what was sent in loops that have ended, and what it sent itself before it was forgotten."""
    for ended in _registry.bequeathed():
        for other, earlier in ended.open.items():
            _memories.add(other, earlier.memory(), lane.now())
    for memory in _memories.pop(key):
        lane.recall(memory)
    for others in _registry.others(running=False):
        if (other_lane := others.open.get(key)) is not None:
            memory, seen = other_lane.memory(), lanes.seen.setdefault(others, {}).get(key)
            if memory.window != seen:
                lane.recall(memory)
                lanes.seen[others][key] = memory.window
    if key[0] not in _told and any(key in others.open for others in _registry.others(running=True)):
        _told.add(key[0])
        logger.warning(
            "workspace %s is used in two event loops of this process at once: each keeps a quota of its own, so together "
            "they can overrun the server's. Use one loop, or share the quota: quota_store=RedisQuotaStore.from_url(...)",
            key[0],
        )
