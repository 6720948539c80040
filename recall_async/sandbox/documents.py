"""What the sandbox keeps and sends: wire structs of its own, written from the API's reference."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple

from msgspec import UNSET, Raw, Struct, UnsetType

MeetingURL = str | dict[str, Any] | None


class BotReference(Struct, gc=False):
    """An entry of `bots`: what the event looked like when its bot was scheduled, or what `bot_config` said instead."""

    bot_id: str
    start_time: datetime
    deduplication_key: str
    meeting_url: MeetingURL


class EventDocument(Struct, gc=False):
    """A calendar event on the wire."""

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
    """A calendar on the wire."""

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
    """Somebody who attends meetings; `is_room` marks a bookable resource."""

    name: str
    email: str
    is_room: bool = False


class Meeting(Struct, gc=False):
    """What all events of one meeting have in common, in every calendar and every occurrence."""

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
    """One calendar's copy of a meeting: its document, and what its `raw` is rendered from."""

    document: EventDocument
    meeting: Meeting
    owner: Person
    response: str
    sequence: int
    original_start: datetime
    unusual: str = ""
    """The kind of its invitation, of `unusual.KINDS`."""
    written: Raw | None = None
    """The `raw` that a test has written in place of the rendered one."""
