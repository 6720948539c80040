"""The documents that the sandbox stores and sends, defined from the API's reference, not from the client."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from msgspec import UNSET, Raw, Struct, UnsetType

MeetingURL = str | dict[str, Any] | None


class BotReference(Struct, gc=False):
    """An entry of an event's `bots`: the event's values when its bot was scheduled, or those of `bot_config`."""

    bot_id: str
    start_time: datetime
    deduplication_key: str
    meeting_url: MeetingURL


class EventDocument(Struct, gc=False):
    """A calendar event as the API sends it."""

    id: str
    start_time: datetime
    end_time: datetime
    calendar_id: str
    raw: Raw
    platform: str
    platform_id: str
    ical_uid: str
    meeting_platform: str | None
    meeting_url: MeetingURL
    created_at: datetime
    updated_at: datetime
    is_deleted: bool
    bots: list[BotReference]


class StatusChange(Struct, gc=False):
    """An entry of a calendar's `status_changes`."""

    status: str
    created_at: datetime


class CalendarDocument(Struct, gc=False):
    """A calendar as the API sends it."""

    id: str
    oauth_client_id: str
    oauth_refresh_token: str
    platform: str
    platform_email: str | None
    status: str
    status_changes: list[StatusChange]
    created_at: datetime
    updated_at: datetime
    oauth_client_secret: str = ""
    """Empty for a calendar that was connected with a certificate."""
    oauth_client_certificate: str | UnsetType = UNSET
    oauth_client_private_key: str | UnsetType = UNSET
    webhook_url: str | UnsetType = UNSET
    oauth_email: str | UnsetType = UNSET
    metadata: dict[str, Any] = {}


class Person(NamedTuple):
    """An attendee. `is_room` marks a bookable resource."""

    name: str
    email: str
    is_room: bool = False


class Meeting(Struct, gc=False):
    """The values that all events of one meeting share, in every calendar and occurrence."""

    title: str
    agenda: str
    ical_uid: str
    organizer: Person
    attendees: tuple[Person, ...] | None
    meeting_platform: str | None
    meeting_url: MeetingURL
    created_at: datetime
    series_id: str | None = None
    interval_days: int = 0
    all_day: bool = False
    perpetual: bool = False


class Event(Struct, gc=False):
    """One calendar's copy of a meeting: its document, and the values from which its `raw` is rendered."""

    document: EventDocument
    meeting: Meeting
    owner: Person
    response: str
    sequence: int
    original_start: datetime
    unusual: str = ""
    """One of `unusual.KINDS`, or empty for a usual invitation."""
    documented: bool = False
    """True if `raw` has only the fields that the API's reference documents."""
    written: Raw | None = None
    """The `raw` that a test wrote, which replaces the rendered one."""
