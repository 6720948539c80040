"""What one process remembers of a workspace's events between plans, so that repeated plans converge on any API.

An API may show a bot some seconds after its response, write keys or URLs in another form, change a bot that two
events share, or undo a removal. For each event that was changed, this module stores the last change, how often it was
made for which reason, and until when its effect may still appear. For each event that is in order, it stores the bot.
The memory ends with the process.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from datetime import datetime
from hashlib import blake2b

import msgspec

from ..limits.loops import PerLoop
from .decide import Decision, Kind, Reason

Target = tuple[object, ...]
"""What an event should have. While it stays the same, the same change counts as repeated."""

SETTLING_TIME = 60.0
"""Seconds in which a bot that the response did not show may still appear."""
PATIENCE = 2
"""How many times an event is changed in the same way for the same reason; after that it is flapping."""


class _Past:
    __slots__ = ("awaited_until", "calendar_id", "kind", "planned_at", "reasons", "start_time", "target")

    def __init__(self, decision: Decision, target: Target) -> None:
        self.target = target
        self.calendar_id = decision.calendar_id
        self.start_time = decision.start_time
        self.reasons: Counter[tuple[Kind, Reason | None]] = Counter()
        self.awaited_until = 0.0
        self.kind: Kind = decision.kind
        self.planned_at: datetime | None = None


class Memory:
    """The history of a workspace's events. Times of type `float` are seconds of the event loop's clock."""

    def __init__(self) -> None:
        self._events: dict[str, _Past] = {}
        self._connections: dict[str, datetime | None] = {}
        self._bots: dict[str, tuple[str, str, datetime]] = {}
        """For each event that is in order: its key, its bot, and its start."""
        self._holders: dict[str, set[str]] = {}
        """For each key, the events that are in order."""
        self.in_place = False
        """True after the API was seen to change the key of an existing bot."""
        self.digests: dict[str, str] = {}
        """For each tagged bot that was listed or scheduled, the digest of its configuration."""
        self.listed_at = -math.inf
        """When the upcoming bots were listed last."""
        self.listing = asyncio.Lock()

    def forget(self, before: datetime) -> None:
        """Forget events that started before `before`."""
        self._events = {key: past for key, past in self._events.items() if past.start_time >= before}
        for event_id in [event_id for event_id, (_, _, start) in self._bots.items() if start < before]:
            self.not_in_order(event_id)

    def in_order(self, event_id: str, key: str, bot_id: str, start_time: datetime) -> None:
        """Record the bot of an event that is in order."""
        self.not_in_order(event_id)
        self._bots[event_id] = key, bot_id, start_time
        self._holders.setdefault(key, set()).add(event_id)

    def not_in_order(self, event_id: str) -> None:
        """Record that an event is not known to be in order."""
        if (known := self._bots.pop(event_id, None)) is not None:
            holders = self._holders[known[0]]
            holders.discard(event_id)
            if not holders:
                del self._holders[known[0]]

    def key_of(self, event_id: str) -> str | None:
        """Return the key of an event; `None` if it is not known to be in order."""
        known = self._bots.get(event_id)
        return known[0] if known else None

    def holders(self, key: str) -> dict[str, str]:
        """Return the bots of the events that are in order with this key, by event."""
        return {event_id: self._bots[event_id][1] for event_id in self._holders.get(key, ())}

    def connection(self, calendar_id: str, connected_at: datetime | None, *, connected: bool) -> None:
        """Record since when a calendar is connected. A reconnected calendar has lost its bots: its history is
        dropped."""
        known = self._connections.get(calendar_id, connected_at)
        self._connections[calendar_id] = connected_at
        if not connected or known != connected_at:
            self._events = {key: past for key, past in self._events.items() if past.calendar_id != calendar_id}

    def reconsider(self, decision: Decision, now: float) -> tuple[Kind, Reason | None]:
        """Decide again about an event that seems to need a request, considering its earlier changes."""
        past = self._events.get(decision.event_id)
        if past is None or decision.reason == "refresh":
            return decision.kind, decision.reason
        target = target_of(decision)
        # The configuration does not matter here: a policy may return another one each time.
        if decision.kind == "schedule" and past.awaited_until > now and past.target[:-1] == target[:-1]:
            return "keep", "settling"
        if past.target == target and past.reasons[decision.kind, decision.reason] >= PATIENCE:
            return "skip", "flapping"
        return decision.kind, decision.reason

    def is_repeated(self, decision: Decision) -> bool:
        """Return whether the event was changed in the same way before, without lasting effect."""
        past = self._events.get(decision.event_id)
        return past is not None and past.target == target_of(decision)

    def done(self, decision: Decision, planned_at: datetime, *, awaited_until: float) -> None:
        """Record a change of an event, when its plan was made, and until when its effect may still appear."""
        past, target = self._events.get(decision.event_id), target_of(decision)
        if past is None or past.target != target:
            past = self._events[decision.event_id] = _Past(decision, target)
        past.kind, past.planned_at, past.awaited_until = decision.kind, planned_at, awaited_until
        if decision.reason != "refresh":
            past.reasons[decision.kind, decision.reason] += 1

    def planned_at(self, event_id: str) -> datetime | None:
        """Return when the plan that last changed an event was made; `None` if no plan changed it."""
        past = self._events.get(event_id)
        return past.planned_at if past else None


def target_of(decision: Decision) -> Target:
    """Return what the event should have according to a decision."""
    if decision.kind == "remove":
        return None, decision.start_time, decision.meeting_url, None
    config = blake2b(msgspec.json.encode(decision.bot_config, order="sorted"), digest_size=16).digest()
    return decision.deduplication_key, decision.start_time, decision.meeting_url, config


_memories: PerLoop[dict[str, Memory]] = PerLoop(dict)


def memory_of(workspace: str) -> Memory:
    """Return the memory of a workspace in the running event loop."""
    _memories.bequeathed()
    return _memories.get().setdefault(workspace, Memory())
