"""The API's operations on calendars and bots: the single table of paths, quotas, response types and documentation.

The rows contain only what the API's reference says. The server counts quotas in a sliding window of sixty seconds,
per workspace and operation: https://docs.recall.ai/reference/rate-limits
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Generic, TypeAlias, TypeVar

from msgspec import Struct

from .bot_models import Bot
from .models import Calendar, CalendarAccessToken, CalendarEvent, Page
from .secrecy import SecretBytes

if TYPE_CHECKING:
    from yarl import URL

T = TypeVar("T")
Query: TypeAlias = list[tuple[str, str]]
"""Names and values; several values of one name are alternatives."""
KEYED: Final = frozenset({"POST", "PUT", "PATCH"})
"""Methods of requests with an `Idempotency-Key`."""


class Operation(Struct, Generic[T], frozen=True):
    """One operation of the API; `T` is the type of a successful response."""

    name: str
    method: str
    path: str
    limit: int
    """The API's base quota of a workspace: requests in any sixty seconds."""
    answer: type[T]
    """The type of a successful response; `NoneType` for no body."""

    @property
    def keyed(self) -> bool:
        """True if the API honours an `Idempotency-Key` here: https://docs.recall.ai/reference/idempotency"""
        return self.method in KEYED

    @property
    def secret(self) -> bool:
        """True if its requests or responses contain secrets of the calendar platforms."""
        return self.path.startswith(_CALENDARS)

    def request(
        self,
        id: str | None = None,
        *,
        query: Query | None = None,
        link: URL | None = None,
        body: bytes | None = None,
        deduplication_key: str | None = None,
        start: float = math.inf,
    ) -> Request[T]:
        """Build a request of this operation, for the object with this id or the page at `link`."""
        path = self.path if id is None else self.path.replace("{id}", id)
        kept = None if body is None else SecretBytes(body)
        return Request(self, path, id, query, link, kept, deduplication_key, start)


class Request(Struct, Generic[T], frozen=True, gc=False):
    """One request to the API. It may need several attempts."""

    operation: Operation[T]
    path: str
    id: str | None = None
    """The id of the requested object, in lower case."""
    query: Query | None = None
    link: URL | None = None
    """A URL that replaces path and query: the `next` of a page."""
    body: SecretBytes | None = None
    deduplication_key: str | None = None
    start: float = math.inf
    """When the event starts, in seconds since 1970: waiting calls are sent soonest event first."""


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
DELETE_CALENDAR = Operation("calendars.delete", "DELETE", _CALENDARS + "{id}/", 300, type(None))
CREATE_ACCESS_TOKEN = Operation(
    "calendars.create_access_token", "POST", _CALENDARS + "{id}/access-token/", 300, CalendarAccessToken
)
RETRIEVE_BOT = Operation("bots.retrieve", "GET", _BOTS + "{id}/", 300, Bot)
LIST_BOTS = Operation("bots.list", "GET", _BOTS, 60, Page[Bot])
LEAVE_CALL = Operation("bots.leave_call", "POST", _BOTS + "{id}/leave_call/", 300, Bot)

OPERATIONS: dict[str, Operation[Any]] = {
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
OTHER = "request"
"""The name of requests without an operation in the table, and of their quota."""
OTHER_LIMIT = 60
"""Requests of that name in any sixty seconds: the lowest quota of the API's operations."""
QUOTA_PERIOD = 60.0
"""Seconds of the window in which the server counts `Operation.limit` requests."""
