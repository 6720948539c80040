"""Quotas in this process: one lane per (event loop, workspace, operation), shared by all sessions.

Lanes belong to an event loop. They outlive sessions, so a new session counts the requests of earlier ones. A loop also
counts the requests of loops that ran before it or while it was not running. Two loops that run at the same time, in two
threads, cannot share a lane: if a process uses one workspace in both, the store logs a warning once; use a shared store
instead.

Unused lanes need little memory: beyond a few hundred lanes, the store keeps only what they sent, in about 200 bytes
per lane, until it no longer counts (memory.py).
"""

from __future__ import annotations

import asyncio
import logging
import math

from ... import checks
from ...operations import OPERATIONS, OTHER
from ..contract import QuotaLane
from ..expiring import Key
from ..loops import PerLoop, Turns, clock_of
from ..quota import Quota, base_quota
from .lane import LocalLane
from .memory import Memories

logger: logging.Logger = logging.getLogger("recall_async")

MAX_RESTING = 256
"""The most unused lanes of a loop that are kept complete."""


class Lanes:
    """The lanes of one event loop."""

    def __init__(self) -> None:
        self.owner: object = object()
        """Identifies the loop without keeping it alive."""
        self.open: dict[Key, LocalLane] = {}
        self.resting: dict[Key, LocalLane] = {}
        """The lanes that no session uses, the longest unused first."""


_registry: PerLoop[Lanes] = PerLoop(Lanes)
_memories = Memories()
_turns = Turns()
_warned_of: set[str] = set()


class LocalQuotaStore:
    """Keeps quotas in this process, shared by all sessions in the running event loop."""

    longest_request: float = math.inf

    def open(self, workspace: str, operation: str, quota: Quota | None) -> QuotaLane:
        key = workspace, operation
        lanes = _registry.get()
        lane = lanes.open.get(key)
        if lane is None:
            lane = LocalLane(
                operation,
                quota or base_quota(operation),
                on_rest=lambda: _rest(lanes, key),
                owner=lanes.owner,
                turns=_turns,
                on_turn=lambda lane: _remember(lane, key),
            )
            lanes.open[key] = lane
        _remember(lane, key)
        lane.join(quota)
        lanes.resting.pop(key, None)
        return lane

    async def resume(self, workspace: str, operation: str | None = None) -> dict[str, float]:
        """End the pauses after a 429, and the slower pace after them, for one operation or all.

        Returns the remaining seconds of each pause, by operation. Pauses of event loops that ended or do not run end,
        too, but not those of a loop that runs in another thread.
        """
        if operation is not None and operation not in OPERATIONS:
            raise checks.invalid("operation", f"one of {', '.join(OPERATIONS)}", operation)
        now = clock_of(asyncio.get_running_loop())()
        loops = [_registry.get(), *_registry.others(running=False)]
        _keep_closed(now)
        left = {}
        for name in [*OPERATIONS, OTHER] if operation is None else [operation]:
            key = workspace, name
            lanes = [lanes.open[key] for lanes in loops if key in lanes.open]
            if seconds := max([_memories.resume(key, now), *(lane.resume() for lane in lanes)]):
                left[name] = seconds
        return left

    async def aclose(self) -> None:
        """Do nothing: the store has no connections."""


def forget_unused() -> None:
    """Forget the requests of lanes that no session uses, as between tests that have a server each.

    Otherwise a named workspace would use up one quota in all tests of a suite.
    """
    _registry.pop_closed()
    _memories.clear()
    for lanes in _registry.values():
        for key in list(lanes.resting):
            del lanes.resting[key], lanes.open[key]


def _rest(lanes: Lanes, key: Key) -> None:
    """Record that a lane is no longer used."""
    lane = lanes.open.get(key)
    if lane is None:
        return
    lanes.resting[key] = lane
    while len(lanes.resting) > MAX_RESTING:
        oldest = next(iter(lanes.resting))
        lane = lanes.resting.pop(oldest)
        del lanes.open[oldest]
        _memories.add(oldest, lane.memory(), lane.now())


def _keep_closed(now: float) -> None:
    """Keep the requests of closed loops."""
    for ended in _registry.pop_closed():
        for key, lane in ended.open.items():
            _memories.add(key, lane.memory(), now)


def _remember(lane: LocalLane, key: Key) -> None:
    """Pass to a lane the requests of closed loops, and its own from before it was dropped."""
    _keep_closed(lane.now())
    if (earlier_memory := _memories.pop(key)) is not None:
        lane.recall(earlier_memory, lane.now())
    for others in _registry.others(running=False):
        if (other := others.open.get(key)) is not None:
            lane.learn(other)
    if key[0] not in _warned_of and any(key in others.open for others in _registry.others(running=True)):
        _warned_of.add(key[0])
        logger.warning(
            "workspace %s is used in two event loops of this process at once. They do not share the quota, so together they "
            "can exceed it. Use one loop, or share the quota: quota_store=RedisQuotaStore.from_url(...)",
            key[0],
        )
