"""The API's objects as msgspec structs: calendar events, their bots, calendars, access tokens and pages.

Decoding tolerates additions and omissions of the API: unknown fields are dropped, enumerations are plain text, and
fields that some responses omit have defaults. A wrong type is an error, with the path in the document. An event's
`raw`, the calendar platform's own payload, is decoded only when an accessor needs it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, TypeVar
from urllib.parse import parse_qs

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from .lenient import document_of, list_of, text_of, time_of
from .page_end import copy_views
from .platforms import Attendee, GooglePayload, OutlookPayload, is_empty, payload_of

T = TypeVar("T")
MAX_HISTORY = 2**20
"""The most bytes of a calendar's `status_changes` that are decoded; real ones have a few hundred."""
Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""An aware `datetime`: a time without an offset is a decoding error."""


class MeetingURL(Struct, frozen=True, kw_only=True, gc=False):
    """The object that some responses contain instead of a meeting's URL.

    Its fields depend on `platform`; the others are `msgspec.UNSET`, which is false.
    https://docs.recall.ai/docs/meeting-urls
    """

    platform: str | UnsetType | None = UNSET
    meeting_id: str | UnsetType | None = UNSET
    meeting_password: str | UnsetType | None = UNSET
    # Microsoft Teams
    organizer_id: str | UnsetType | None = UNSET
    tenant_id: str | UnsetType | None = UNSET
    message_id: str | UnsetType | None = UNSET
    thread_id: str | UnsetType | None = UNSET
    business_meeting_id: str | UnsetType | None = UNSET
    business_meeting_password: str | UnsetType | None = UNSET
    # Webex
    meeting_subdomain: str | UnsetType | None = UNSET
    meeting_mtid: str | UnsetType | None = UNSET
    meeting_path: str | UnsetType | None = UNSET
    meeting_personal_room_id: str | UnsetType | None = UNSET


class CalendarEventBot(Struct, frozen=True, kw_only=True, gc=False):
    """A bot scheduled on an event. An event that was moved may have several: find yours by `deduplication_key`."""

    bot_id: str
    start_time: Time
    deduplication_key: str
    meeting_url: str | MeetingURL | None = None


class CalendarEvent(Struct, frozen=True, kw_only=True, gc=False):
    """One event of a connected calendar: https://docs.recall.ai/reference/calendar_events_retrieve"""

    id: str
    start_time: Time
    end_time: Time
    calendar_id: str
    raw: Raw | UnsetType = UNSET
    """The calendar platform's own payload as undecoded JSON; `msgspec.UNSET` if the response omits it. It is a view of
    the decoded bytes: keep `raw.copy()`, or the event. An event that outlives its `Page` has a copy of its own."""
    platform: str
    """`google_calendar`, `microsoft_outlook`, or a newer platform."""
    platform_id: str | None = None
    ical_uid: str | None = None
    meeting_platform: str | None = None
    meeting_url: str | MeetingURL | None = None
    created_at: Time
    updated_at: Time
    is_deleted: bool = False
    bots: tuple[CalendarEventBot, ...] = ()
    raw_extra: Raw | UnsetType = field(default=UNSET, name="$extra")

    _VIEWS: ClassVar = ("raw",)  # copied when the object outlives its `Page`

    def __hash__(self) -> int:  # a Raw has none
        return hash((self.id, self.updated_at))

    def raw_document(self) -> dict[str, Any]:
        """Decode and return the calendar platform's own payload; empty if it is missing or invalid."""
        return document_of(self.raw)

    @property
    def has_payload(self) -> bool:
        """False if the platform's payload is missing, cannot be read, or is empty: then people, title and kinds are
        unknown."""
        return not is_empty(self._payload())

    @property
    def title(self) -> str | None:
        """The title of the event."""
        return text_of(self._payload().title)

    @property
    def organizer(self) -> str | None:
        """The organizer's email address."""
        return self._payload().organizer_email()

    @property
    def attendees(self) -> tuple[Attendee, ...]:
        """All invitees, including rooms, in the platform's order."""
        return self._payload().invited()

    @property
    def series_id(self) -> str | None:
        """The platform's id of the recurring series that the event belongs to."""
        return text_of(self._payload().series_id)

    @property
    def is_cancelled(self) -> bool:
        """True if the platform marks the event as cancelled."""
        return self._payload().is_cancelled()

    @property
    def own_response(self) -> str | None:
        """The owner's reply, as in `Attendee.response`; `None` if the platform does not mark it as the owner's."""
        return self._payload().own_response()

    @property
    def is_organizer(self) -> bool | None:
        """True if the calendar's owner organizes the event; `None` if the platform does not say."""
        return self._payload().is_organizer()

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of the event other than a meeting: any of `focus_time`, `out_of_office`, `working_location`,
        `birthday`, `from_gmail`, `all_day` and `free`."""
        return self._payload().kinds()

    @property
    def is_all_day(self) -> bool:
        """True if the event lasts whole days."""
        return self._payload().is_all_day()

    @property
    def extra(self) -> dict[str, Any]:
        """Fields of the API's answer that this version does not know, kept by `RecallSession(keep_extra=True)`."""
        return document_of(self.raw_extra)

    def _payload(self) -> GooglePayload | OutlookPayload:
        return payload_of(self.platform, self.raw)


class Shown(Struct, frozen=True):
    """A base class whose representations show what `__rich_repr__` returns: all fields, with secrets hidden."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, "***" if name in SECRET_FIELDS else getattr(self, name)) for name in self.__struct_fields__]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


SECRET_FIELDS = frozenset(
    {"oauth_client_secret", "oauth_client_certificate", "oauth_client_private_key", "oauth_refresh_token", "token"}
)
"""Fields that must not appear in a log."""


class CalendarStatusChange(Struct, frozen=True, kw_only=True):
    """A status of a calendar, and when it began."""

    status: str
    """`connecting`, `connected`, `disconnected`, or a newer status."""
    created_at: datetime | None = None


class Calendar(Shown, frozen=True, kw_only=True):
    """A connected calendar: https://docs.recall.ai/reference/calendars_retrieve"""

    id: str
    oauth_client_id: str | None = None
    oauth_client_secret: str | None = None
    oauth_refresh_token: str | None = None
    platform: str
    webhook_url: str | None = None
    oauth_email: str | None = None
    platform_email: str | None = None
    status: str | None = None
    """`connecting`, `connected`, `disconnected`, or a newer status."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The `metadata` with which the calendar was created or updated."""
    raw_status_changes: Raw | UnsetType = field(default=UNSET, name="status_changes")
    raw_extra: Raw | UnsetType = field(default=UNSET, name="$extra")
    created_at: Time
    updated_at: Time

    _VIEWS: ClassVar = ("raw_status_changes",)  # copied when the object outlives its `Page`

    def __hash__(self) -> int:  # a Raw has none
        return hash((self.id, self.updated_at))

    @property
    def status_changes(self) -> tuple[CalendarStatusChange, ...]:
        """All statuses of the calendar, in the API's order.

        The API does not document their form: unreadable entries are left out.
        """
        raw = self.raw_status_changes
        if raw is UNSET or memoryview(raw).nbytes > MAX_HISTORY:
            return ()
        return tuple(change for change in map(_status_change, list_of(raw)) if change is not None)

    @property
    def extra(self) -> dict[str, Any]:
        """Fields of the API's answer that this version does not know, kept by `RecallSession(keep_extra=True)`."""
        return document_of(self.raw_extra)


class CalendarAccessToken(Shown, frozen=True, kw_only=True):
    """An access token for the platform's own API: https://docs.recall.ai/reference/calendars_access_token_create"""

    token: str
    expires_at: Time


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list. `next` and `previous` are full URLs that carry the cursor and the filters, or `None`."""

    next: str | None = None
    previous: str | None = None
    results: list[T]

    def __del__(self) -> None:
        copy_views(self)

    @property
    def next_cursor(self) -> str | None:
        """The cursor for `list_page` of the next page, with the same filters; `None` on the last page."""
        query = (self.next or "").partition("?")[2].partition("#")[0]
        cursors = parse_qs(query).get("cursor")
        return cursors[0] if cursors else None


def _status_change(entry: Any) -> CalendarStatusChange | None:
    """Read an entry of a calendar's history. Names other than those in the API's samples are also accepted."""
    if isinstance(entry, str):
        return CalendarStatusChange(status=entry)
    if not isinstance(entry, dict):
        return None
    status = text_of(entry.get("status")) or text_of(entry.get("code"))
    if status is None:
        return None
    times = (
        time_of(value) for value in entry.values() if isinstance(value, str) and len(value) >= len("2025-06-10T00:00")
    )
    return CalendarStatusChange(status=status, created_at=next((moment for moment in times if moment), None))
