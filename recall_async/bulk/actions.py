"""What a bulk job is made of: the actions that go in, and the outcomes that come out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

from msgspec import Struct

from .. import checks
from ..errors import ConfigurationError, RecallError
from ..models import CalendarEvent

ASSUMED_LENGTH = 3600.0
"""Seconds after its start from which a meeting whose end is not known is taken to be over."""

Status: TypeAlias = Literal["done", "failed", "skipped"]


class ScheduleBot(Struct, frozen=True):
    """Put a bot on an event, or replace it: `CalendarEvents.schedule_bot` as a value.

    `start_time` is the event's: the soonest meeting goes first. No request is made for a meeting that is over: one whose
    `end_time` has passed or, where that is not given, one that started an hour ago or earlier. Nothing is checked here:
    input that the API could not take makes a failed outcome.
    """

    event_id: str | UUID
    deduplication_key: str
    bot_config: Mapping[str, Any] = {}
    start_time: datetime | str | None = None
    end_time: datetime | str | None = None


class RemoveBot(Struct, frozen=True):
    """Take the bots off an event: `CalendarEvents.remove_bot` as a value. The times are as in `ScheduleBot`."""

    event_id: str | UUID
    start_time: datetime | str | None = None
    end_time: datetime | str | None = None


Action: TypeAlias = ScheduleBot | RemoveBot


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one action."""

    action: Action
    event: CalendarEvent | None
    """The event as the API answered it; `None` unless this run has done the action."""
    error: RecallError | None
    """Why the action failed, or what the API said of a meeting that is over."""
    attempts: int
    """Requests that this run sent for it."""
    waited: float
    """Seconds that it waited for the quota, for others with its deduplication key, and between attempts."""
    reason: str | None = None
    """Why the action was skipped."""
    resumed: bool = False
    """Whether the journal had it from an earlier run."""

    @property
    def status(self) -> Status:
        """`done`, `failed`, or `skipped` because the meeting is over."""
        if self.reason is not None:
            return "skipped"
        return "done" if self.error is None else "failed"


def event_of(action: Action) -> str:
    """The event's id in the one form that compares."""
    return str(action.event_id).lower()


def start_of(action: Action) -> float:
    """When the event starts, in seconds of the Unix epoch; `inf` where that is not known."""
    try:
        return math.inf if action.start_time is None else checks.moment("start_time", action.start_time).timestamp()
    except ConfigurationError:
        return math.inf  # to be raised when the action's turn comes


def over_since(action: Action, now: float) -> str | None:
    """Why the event is over at `now`, in seconds of the Unix epoch; `None` if it is not, as far as is known.

    Raises `ConfigurationError` for a time that is none.
    """
    start = None if action.start_time is None else checks.moment("start_time", action.start_time)
    if action.end_time is not None:
        end = checks.moment("end_time", action.end_time)
        return f"the meeting ended at {end.isoformat()}" if end.timestamp() <= now else None
    if start is not None and start.timestamp() + ASSUMED_LENGTH <= now:
        return f"the meeting started at {start.isoformat()}, so that it is taken to be over; end_time would tell"
    return None
