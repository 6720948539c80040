"""The input and output of a bulk job: actions and outcomes."""

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
"""A meeting without a known end counts as over this number of seconds after its start."""

Status: TypeAlias = Literal["done", "failed", "skipped"]


class ScheduleBot(Struct, frozen=True):
    """Schedule a bot on an event, replacing any existing one: `CalendarEvents.schedule_bot` as a value.

    `start_time` is the event's: the soonest meeting goes first. No request is sent for a meeting that is over: its
    `end_time` has passed or, without `end_time`, it started an hour ago or earlier. The constructor checks nothing:
    invalid input results in a failed outcome.
    """

    event_id: str | UUID
    deduplication_key: str
    bot_config: Mapping[str, Any] = {}
    start_time: datetime | str | None = None
    end_time: datetime | str | None = None


class RemoveBot(Struct, frozen=True):
    """Remove the bots of an event: `CalendarEvents.remove_bot` as a value. The times are as in `ScheduleBot`."""

    event_id: str | UUID
    start_time: datetime | str | None = None
    end_time: datetime | str | None = None


Action: TypeAlias = ScheduleBot | RemoveBot


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one action."""

    action: Action
    event: CalendarEvent | None
    """The event from the API's response; `None` unless this run performed the action."""
    error: RecallError | None
    """Why the action failed, or the API's error for a meeting that is over."""
    attempts: int
    """Requests that this run sent for the action."""
    waited: float
    """Seconds that the action waited for the quota, for others with its deduplication key, and between attempts."""
    reason: str | None = None
    """Why the action was skipped."""
    resumed: bool = False
    """True if the outcome is from an earlier run, read from the journal."""

    @property
    def status(self) -> Status:
        """`done`, `failed`, or `skipped`: no request was necessary or possible, and `reason` says why."""
        if self.reason is not None:
            return "skipped"
        return "done" if self.error is None else "failed"


def event_of(action: Action) -> str:
    """Return the event's id, normalized for comparison."""
    return str(action.event_id).lower()


def start_of(action: Action) -> float:
    """Return when the event starts, in seconds since 1970; `inf` if unknown."""
    try:
        return math.inf if action.start_time is None else checks.moment("start_time", action.start_time).timestamp()
    except ConfigurationError:
        return math.inf  # the error is raised when the action is performed


def over_since(action: Action, now: float) -> str | None:
    """Return why the event is over at `now`, in seconds since 1970; `None` if it is not known to be over.

    Raises `ConfigurationError` for an invalid time.
    """
    start = None if action.start_time is None else checks.moment("start_time", action.start_time)
    if action.end_time is not None:
        end = checks.moment("end_time", action.end_time)
        return f"the meeting ended at {end.isoformat()}" if end.timestamp() <= now else None
    if start is not None and start.timestamp() + ASSUMED_LENGTH <= now:
        return f"the meeting started at {start.isoformat()} and has no end_time, so it counts as over after an hour"
    return None
