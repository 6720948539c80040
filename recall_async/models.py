"""The API's objects as msgspec structs: calendar events, their bots, calendars, access tokens and pages.

What the API may add or leave out must not fail a decode: unknown fields are dropped, enumerations are plain text, and
fields that some answers leave out have defaults. A wrong type does fail, with the path in the document.
An event's `raw`, the calendar platform's own payload, stays undecoded until an accessor asks for it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field
from msgspec.structs import force_setattr

T = TypeVar("T")
D = TypeVar("D")
Time = Annotated[datetime, msgspec.Meta(tz=True)]
"""An aware `datetime`: a time without an offset does not decode."""


class MeetingURL(Struct, frozen=True, kw_only=True, gc=False):
    """Where a meeting takes place, in the form of an object that some answers use instead of a URL.

    Which fields are there depends on `platform`; the others are `msgspec.UNSET`, which is falsy.
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


class Attendee(Struct, frozen=True, kw_only=True, gc=False):
    """Someone invited to an event, in the terms that Google and Outlook have in common."""

    email: str | None = None
    name: str | None = None
    response: str | None = None
    """`accepted`, `declined`, `tentative`, `needs_action`, or `None` if the platform says nothing or something new."""
    is_self: bool = False
    """The owner of the calendar; Google only. `CalendarEvent.own_response` knows on both platforms."""
    is_organizer: bool = False
    is_optional: bool = False
    is_resource: bool = False
    """A room or a piece of equipment."""


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
    """The calendar platform's own payload as undecoded JSON; `msgspec.UNSET` if the answer leaves it out."""
    platform: str
    """`google_calendar`, `microsoft_outlook`, or one that was added since."""
    platform_id: str | None = None
    ical_uid: str | None = None
    meeting_platform: str | None = None
    meeting_url: str | MeetingURL | None = None
    created_at: Time
    updated_at: Time
    is_deleted: bool = False
    bots: tuple[CalendarEventBot, ...] = ()

    def __post_init__(self) -> None:
        # A decoded Raw is a view that keeps the buffer of the whole page alive.
        raw = self.raw
        if raw is not UNSET:
            force_setattr(self, "raw", raw.copy())

    def __hash__(self) -> int:  # a Raw has none
        return hash((self.id, self.updated_at))

    def raw_document(self) -> dict[str, Any]:
        """The calendar platform's own payload, decoded anew at each call; empty if there is none that can be read."""
        return self._decode_raw(_DOCUMENT) or {}

    @property
    def title(self) -> str | None:
        """What the event is called."""
        return _text(self._payload().title)

    @property
    def organizer(self) -> str | None:
        """The organizer's email address."""
        return self._payload().organizer_email()

    @property
    def attendees(self) -> tuple[Attendee, ...]:
        """Everyone invited, rooms included, in the platform's order."""
        return self._payload().invited()

    @property
    def series_id(self) -> str | None:
        """The platform's id of the recurring series that the event belongs to."""
        return _text(self._payload().series_id)

    @property
    def is_cancelled(self) -> bool:
        """Whether the platform says that the event was cancelled."""
        return self._payload().is_cancelled()

    @property
    def own_response(self) -> str | None:
        """What the calendar's owner answered, as the platform says it apart from addresses, in the terms of
        `Attendee.response`; `None` if it does not say."""
        return self._payload().own_response()

    @property
    def is_organizer(self) -> bool | None:
        """Whether the calendar's owner organizes the event; `None` if the platform does not say."""
        return self._payload().is_organizer()

    @property
    def kinds(self) -> frozenset[str]:
        """What the event is beside a meeting: any of `focus_time`, `out_of_office`, `working_location`, `birthday`,
        `from_gmail`, `all_day` and `free`."""
        return self._payload().kinds()

    @property
    def is_all_day(self) -> bool:
        """Whether the event lasts for whole days."""
        return self._payload().is_all_day()

    def _payload(self) -> _GooglePayload | _OutlookPayload:
        decoder = _PAYLOADS.get(self.platform)
        return (decoder and self._decode_raw(decoder)) or _NO_PAYLOAD

    def _decode_raw(self, decoder: msgspec.json.Decoder[D]) -> D | None:
        if self.raw is UNSET:
            return None
        try:
            return decoder.decode(self.raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None  # an event remains usable whatever its platform put into it


class _Masked(Struct, frozen=True):
    """Shows its secrets in no representation."""

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, "***" if name in SECRET_FIELDS else getattr(self, name)) for name in self.__struct_fields__]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"


SECRET_FIELDS = frozenset({"oauth_client_secret", "oauth_refresh_token", "token"})
"""Fields that nobody may read in a log."""


class Calendar(_Masked, frozen=True, kw_only=True):
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
    """`connecting`, `connected`, `disconnected`, or one that was added since."""
    status_changes: Any = None
    """The history of `status` as the API gives it; its form is not documented."""
    created_at: Time
    updated_at: Time


class CalendarAccessToken(_Masked, frozen=True, kw_only=True):
    """An access token for the platform's own API: https://docs.recall.ai/reference/calendars_access_token_create"""

    token: str
    expires_at: Time


class Page(Struct, Generic[T], frozen=True, kw_only=True):
    """One page of a list. `next` and `previous` are full URLs that carry the cursor and the filters, or `None`."""

    next: str | None = None
    previous: str | None = None
    results: list[T]


# What is read of the platforms' payloads. Fields are `Any`, so that each decodes whatever object is there: one odd part
# must not hide the others.


class _GooglePayload(Struct):
    """https://developers.google.com/workspace/calendar/api/v3/reference/events"""

    title: Any = field(default=None, name="summary")
    series_id: Any = field(default=None, name="recurringEventId")
    organizer: Any = None
    attendees: Any = None
    status: Any = None
    start: Any = None
    event_type: Any = field(default=None, name="eventType")
    transparency: Any = None

    def organizer_email(self) -> str | None:
        return _text(_at(self.organizer, "email"))

    def invited(self) -> tuple[Attendee, ...]:
        return tuple(
            Attendee(
                email=_text(person.get("email")),
                name=_text(person.get("displayName")),
                response=_RESPONSES.get(str(person.get("responseStatus"))),
                is_self=person.get("self") is True,
                is_organizer=person.get("organizer") is True,
                is_optional=person.get("optional") is True,
                is_resource=person.get("resource") is True,
            )
            for person in _objects(self.attendees)
        )

    def own_response(self) -> str | None:
        return next((person.response for person in self.invited() if person.is_self), None)

    def is_organizer(self) -> bool | None:
        if any(person.is_self and person.is_organizer for person in self.invited()):
            return True
        said = _at(self.organizer, "self")
        return said if isinstance(said, bool) else None

    def kinds(self) -> frozenset[str]:
        return _kinds(self.event_type, "free" if self.transparency == "transparent" else None, self.is_all_day())

    def is_cancelled(self) -> bool:
        return bool(self.status == "cancelled")

    def is_all_day(self) -> bool:
        return _text(_at(self.start, "date")) is not None


class _OutlookPayload(Struct):
    """https://learn.microsoft.com/en-us/graph/api/resources/event"""

    title: Any = field(default=None, name="subject")
    series_id: Any = field(default=None, name="seriesMasterId")
    organizer: Any = None
    attendees: Any = None
    cancelled: Any = field(default=None, name="isCancelled")
    all_day: Any = field(default=None, name="isAllDay")
    holds: Any = field(default=None, name="isOrganizer")
    answer: Any = field(default=None, name="responseStatus")
    shows_as: Any = field(default=None, name="showAs")

    def organizer_email(self) -> str | None:
        return _text(_at(self.organizer, "emailAddress", "address"))

    def invited(self) -> tuple[Attendee, ...]:
        organizer = (self.organizer_email() or "").casefold()
        attendees = []
        for person in _objects(self.attendees):
            email = _text(_at(person, "emailAddress", "address"))
            response = _at(person, "status", "response")
            attendees.append(
                Attendee(
                    email=email,
                    name=_text(_at(person, "emailAddress", "name")),
                    response=_RESPONSES.get(str(response)),
                    is_organizer=response == "organizer" or (email is not None and email.casefold() == organizer),
                    is_optional=person.get("type") == "optional",
                    is_resource=str(person.get("type")).casefold() == "resource",
                )
            )
        return tuple(attendees)

    def own_response(self) -> str | None:
        return _RESPONSES.get(str(_at(self.answer, "response")))

    def is_organizer(self) -> bool | None:
        if _at(self.answer, "response") == "organizer":
            return True
        return self.holds if isinstance(self.holds, bool) else None

    def kinds(self) -> frozenset[str]:
        return _kinds(self.shows_as, None, self.is_all_day())

    def is_cancelled(self) -> bool:
        return self.cancelled is True

    def is_all_day(self) -> bool:
        return self.all_day is True


_DOCUMENT = msgspec.json.Decoder(dict[str, Any])
_PAYLOADS: dict[str, msgspec.json.Decoder[_GooglePayload | _OutlookPayload]] = {
    "google_calendar": msgspec.json.Decoder(_GooglePayload),
    "microsoft_outlook": msgspec.json.Decoder(_OutlookPayload),
}
_NO_PAYLOAD = _GooglePayload()
_RESPONSES = {
    "accepted": "accepted",
    "organizer": "accepted",
    "declined": "declined",
    "tentative": "tentative",
    "tentativelyAccepted": "tentative",
    "needsAction": "needs_action",
    "notResponded": "needs_action",
    "none": "needs_action",
}


KINDS_OF_EVENTS = ("focus_time", "out_of_office", "working_location", "birthday", "from_gmail", "all_day", "free")
"""What an event can be beside a meeting, in the terms that Google and Outlook have in common."""
_KINDS = {
    "focusTime": "focus_time",
    "outOfOffice": "out_of_office",
    "workingLocation": "working_location",
    "birthday": "birthday",
    "fromGmail": "from_gmail",
    "oof": "out_of_office",
    "workingElsewhere": "working_location",
    "free": "free",
}


def _kinds(kind: Any, free: str | None, all_day: bool) -> frozenset[str]:
    return frozenset(filter(None, (_KINDS.get(str(kind)), free, "all_day" if all_day else None)))


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
