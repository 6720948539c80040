"""The operations of the API, of Calendar V2 and of bots: the one table that paths, quotas, answer types and documents
derive from.

A row says what the API's reference says, and nothing else. Quotas are counted by the server in a sliding window of
sixty seconds, per workspace and operation: https://docs.recall.ai/reference/rate-limits
"""

from __future__ import annotations

from typing import Any, NamedTuple

from .bot_models import Bot
from .models import Calendar, CalendarAccessToken, CalendarEvent, Page


class Operation(NamedTuple):
    """One operation of the API."""

    name: str
    method: str
    path: str
    limit: int
    """Requests in any sixty seconds that the API grants a workspace, before the provider raises it."""
    answer: Any
    """The type of a successful answer; `None` where it has no body."""

    @property
    def keyed(self) -> bool:
        """Whether the API honours an `Idempotency-Key` here: https://docs.recall.ai/reference/idempotency"""
        return self.method in ("POST", "PUT", "PATCH")


_EVENTS = "/api/v2/calendar-events/"
_CALENDARS = "/api/v2/calendars/"
_BOTS = "/api/v1/bot/"

SCHEDULE_BOT = Operation("calendar_events.schedule_bot", "POST", _EVENTS + "{id}/bot/", 600, CalendarEvent)
REMOVE_BOT = Operation("calendar_events.remove_bot", "DELETE", _EVENTS + "{id}/bot/", 600, CalendarEvent)
RETRIEVE_EVENT = Operation("calendar_events.retrieve", "GET", _EVENTS + "{id}/", 300, CalendarEvent)
LIST_EVENTS = Operation("calendar_events.list", "GET", _EVENTS, 60, Page[CalendarEvent])
CREATE_CALENDAR = Operation("calendars.create", "POST", _CALENDARS, 300, Calendar)
RETRIEVE_CALENDAR = Operation("calendars.retrieve", "GET", _CALENDARS + "{id}/", 300, Calendar)
LIST_CALENDARS = Operation("calendars.list", "GET", _CALENDARS, 60, Page[Calendar])
UPDATE_CALENDAR = Operation("calendars.update", "PATCH", _CALENDARS + "{id}/", 300, Calendar)
DELETE_CALENDAR = Operation("calendars.delete", "DELETE", _CALENDARS + "{id}/", 300, None)
CREATE_ACCESS_TOKEN = Operation(
    "calendars.create_access_token", "POST", _CALENDARS + "{id}/access-token/", 300, CalendarAccessToken
)
RETRIEVE_BOT = Operation("bots.retrieve", "GET", _BOTS + "{id}/", 300, Bot)
LIST_BOTS = Operation("bots.list", "GET", _BOTS, 60, Page[Bot])
LEAVE_CALL = Operation("bots.leave_call", "POST", _BOTS + "{id}/leave_call/", 300, Bot)

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (
        SCHEDULE_BOT,
        REMOVE_BOT,
        RETRIEVE_EVENT,
        LIST_EVENTS,
        CREATE_CALENDAR,
        RETRIEVE_CALENDAR,
        LIST_CALENDARS,
        UPDATE_CALENDAR,
        DELETE_CALENDAR,
        CREATE_ACCESS_TOKEN,
        RETRIEVE_BOT,
        LIST_BOTS,
        LEAVE_CALL,
    )
}
QUOTA_PERIOD = 60.0
"""Seconds of the window in which the server counts `Operation.limit` requests."""
