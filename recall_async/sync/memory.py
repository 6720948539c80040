"""The memory of a workspace's events between plans. It makes repeated plans converge on any API.

An API may show a bot some seconds after its response, write keys or URLs in another form, change a bot that two
events share, or undo a removal. For each event that was changed, this module stores the last change, how often it was
made for which reason, and until when its effect may still appear. For each event that is in order, it stores the bot.
The memory ends with the process, but a `FileHistory` keeps the changes for others.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from secrets import token_hex
from typing import Protocol

import msgspec
from msgspec import Struct

from ..lenient import in_utc
from ..limits.loops import PerLoop
from ..models import Time
from .decide import Decision, Kind, Reason
from .plan import ALWAYS, CLOCK_ERROR

logger: logging.Logger = logging.getLogger("recall_async")

SETTLING_TIME = 60.0
"""Seconds in which a bot that the response did not show may still appear."""
MAX_REPEATS = 2
"""The number of equal changes of an event for one reason, after which the event counts as flapping."""


class Change(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change that was made to an event."""

    event_id: str
    calendar_id: str
    start_time: Time
    kind: Kind
    reason: Reason | None = None
    target: str
    """A digest of what the event should have. While it stays the same, the same change counts as repeated."""
    config: str = ""
    """A digest of the bot's configuration, which is part of the target."""
    planned_at: Time
    """When the plan was made."""
    awaited_until: Time | None = None
    """Until when the effect may still appear, if the response did not show it."""
    by: str = ""
    """The process that made the change."""


class ChangeHistory(Protocol):
    """Keeps changes for other processes, and for the same program after a restart. `FileHistory` is one."""

    @property
    def name(self) -> str:
        """The name of the history in logs; equal for all objects of one history."""

    async def read(self, place: object | None) -> tuple[Sequence[Change], object]:
        """Return the changes after `place`, or all, and the place to pass next time."""

    def add(self, change: Change) -> None:
        """Add a change."""


class _Past:
    __slots__ = ("last", "reasons")

    def __init__(self, change: Change) -> None:
        self.last = change
        self.reasons: Counter[tuple[Kind, Reason | None]] = Counter()


class Memory:
    """The history of a workspace's events."""

    def __init__(self) -> None:
        self._name = token_hex(8)
        """Marks the changes of this process in a history."""
        self._places: dict[str, object] = {}
        """The place up to which each history was read, by its name."""
        self._reading = asyncio.Lock()
        self._events: dict[str, _Past] = {}
        self._last_plan = ALWAYS
        """When the last plan was made."""
        self._connections: dict[str, datetime] = {}
        self._bots: dict[str, tuple[str, str, datetime]] = {}
        """For each event that is in order: its key, its bot, and its start."""
        self._holders: dict[str, set[str]] = {}
        """For each key, the events that are in order."""
        self.in_place: bool = False
        """True after the API was seen to change the key of an existing bot."""
        self.digests: dict[str, str] = {}
        """For each tagged bot that was listed or scheduled, the digest of its configuration."""
        self.listed_at: float = -math.inf
        """When the upcoming bots were listed last."""
        self.listing: asyncio.Lock = asyncio.Lock()

    def forget(self, before: datetime) -> None:
        """Forget events that started before `before`."""
        self._events = {key: past for key, past in self._events.items() if past.last.start_time >= before}
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

    def connection(self, calendar_id: str, connected_at: datetime, *, connected: bool) -> None:
        """Record since when a calendar is connected. A reconnected calendar has lost its bots: its history is
        dropped."""
        known = self._connections.get(calendar_id, connected_at)
        self._connections[calendar_id] = connected_at
        lost = not connected or known != connected_at
        self._events = {
            key: past
            for key, past in self._events.items()
            if past.last.calendar_id != calendar_id or not (lost or past.last.planned_at < connected_at)
        }

    def reconsider(self, decision: Decision, now: datetime) -> tuple[Kind, Reason | None]:
        """Decide again about an event that seems to need a request, considering its earlier changes."""
        past = self._events.get(decision.event_id)
        if past is None or decision.reason == "refresh":
            return decision.kind, decision.reason
        target, config = targets_of(decision)
        if past.last.target != target:
            return decision.kind, decision.reason
        # The configuration does not matter here: a policy may return another one each time.
        awaited_until = past.last.awaited_until or now
        if decision.kind == "schedule" and now < awaited_until <= now + timedelta(seconds=SETTLING_TIME):
            return "keep", "settling"  # if it is further away, the clock was set back
        if past.last.config == config and past.reasons[decision.kind, decision.reason] >= MAX_REPEATS:
            return "skip", "flapping"
        return decision.kind, decision.reason

    def is_repeated(self, decision: Decision) -> bool:
        """Return whether the event was changed in the same way before, without lasting effect."""
        past = self._events.get(decision.event_id)
        return past is not None and (past.last.target, past.last.config) == targets_of(decision)

    def done(self, decision: Decision, planned_at: datetime, *, awaited_until: datetime | None) -> Change:
        """Record a change of an event, when its plan was made, and until when its effect may still appear."""
        target, config = targets_of(decision)
        change = Change(
            event_id=decision.event_id,
            calendar_id=decision.calendar_id,
            start_time=decision.start_time,
            kind=decision.kind,
            reason=decision.reason,
            target=target,
            config=config,
            planned_at=planned_at,
            awaited_until=awaited_until,
            by=self._name,
        )
        self._record(change)
        return change

    def _record(self, change: Change) -> None:
        past = self._events.get(change.event_id)
        if past is None or (past.last.target, past.last.config) != (change.target, change.config):
            past = self._events[change.event_id] = _Past(change)
        past.last = change
        if change.reason != "refresh":
            past.reasons[change.kind, change.reason] += 1

    async def read(self, history: ChangeHistory) -> None:
        """Record the changes that other processes added to a history since it was last read."""
        async with self._reading:
            try:
                changes, place = await history.read(self._places.get(history.name))
            except Exception:
                logger.exception(
                    "the history %s could not be read: changes of other processes are unknown", history.name
                )
                return
            self._places[history.name] = place
        for change in changes:
            if change.by != self._name:
                self._record(change)

    def planned_at(self, event_id: str, now: datetime) -> datetime | None:
        """Return when the plan that last changed an event was made.

        `None` if no plan changed it, or if that was in the future: a clock was wrong.
        """
        past = self._events.get(event_id)
        return past.last.planned_at if past and past.last.planned_at <= now + CLOCK_ERROR else None

    def time_of_plan(self, now: datetime) -> datetime:
        """Return when a plan that begins at `now` is made: not before any known plan, even if the clock was set back.

        A plan that knows the earlier changes is later than them.
        """
        plans = (self._last_plan, *(past.last.planned_at for past in self._events.values()))
        self._last_plan = max((when for when in plans if now < when <= now + CLOCK_ERROR), default=now)
        return self._last_plan


def targets_of(decision: Decision) -> tuple[str, str]:
    """Return digests of what the event should have according to a decision: of its bot, and of the configuration."""
    removed = decision.kind == "remove"
    key = None if removed else decision.deduplication_key
    start = in_utc(decision.start_time)
    return _digest([key, start, decision.meeting_url]), "" if removed else _digest(decision.bot_config)


def _digest(document: object) -> str:
    return blake2b(msgspec.json.encode(document, order="sorted"), digest_size=12).hexdigest()


_memories: PerLoop[dict[str, Memory]] = PerLoop(dict)


def memory_of(workspace: str) -> Memory:
    """Return the memory of a workspace in the running event loop."""
    _memories.pop_closed()
    return _memories.get().setdefault(workspace, Memory())
