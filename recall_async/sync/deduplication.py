"""Deduplication keys: which events share one bot.

A key is made of the start time and the meeting's address, so that an event that moves or gets a new link needs another
bot. The scheme must stay the same for a workspace, so what stands here never changes.

Documentation: https://docs.recall.ai/docs/scheduling-guide
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum

from ..models import Calendar, CalendarEvent, MeetingURL
from ..resources.fields import MAX_DEDUPLICATION_KEY
from .attendance import own_addresses
from .wording import domain_of

KeyScheme = Callable[[CalendarEvent, Calendar], str]
"""Gives an event in a calendar the key of its bot."""

_ADDRESS_FIELDS = (
    "business_meeting_id",
    "business_meeting_password",
    "meeting_id",
    "meeting_mtid",
    "meeting_password",
    "meeting_path",
    "meeting_personal_room_id",
    "meeting_subdomain",
    "message_id",
    "organizer_id",
    "platform",
    "tenant_id",
    "thread_id",
)
"""In alphabetical order. A field more would change the keys of scheduled bots."""


class Deduplication(StrEnum):
    """The key schemes that the API's documentation recommends. Each is a function: `Deduplication.MEETING(event, calendar)`.

    Times are written in UTC with milliseconds; a `meeting_url` that is an object as JSON, its fields sorted. A key that
    would be longer than the API takes has the SHA-256 of the address in place of the address. An event without a
    `meeting_url` shares its bot with no other.
    """

    MEETING = "meeting"
    """`{start_time}-{meeting_url}`: one bot for each meeting, whoever invites it."""
    COMPANY = "company"
    """`{start_time}-{meeting_url}-{email domain of the calendar}`: one bot for each company in a meeting."""
    EVENT = "event"
    """`{start_time}-{meeting_url}-{event id}`: one bot for each event, nothing is shared."""

    def __call__(self, event: CalendarEvent, calendar: Calendar) -> str:
        """The deduplication key of the event's bot."""
        start, address = time_text(event.start_time), _address(event.meeting_url)
        if not address:
            return f"{start}-{event.id}"
        match self:
            case Deduplication.MEETING:
                suffix = ""
            case Deduplication.COMPANY:
                # A calendar that has no address yet must not share with every other that has none.
                suffix = "-" + next(filter(None, map(domain_of, own_addresses(calendar))), calendar.id)
            case Deduplication.EVENT:
                suffix = "-" + event.id
        key = f"{start}-{address}{suffix}"
        if len(key) > MAX_DEDUPLICATION_KEY:
            key = f"{start}-sha256:{hashlib.sha256(address.encode()).hexdigest()}{suffix}"
        return key


def time_text(moment: datetime) -> str:
    """A time as it stands in a key: `2025-06-10T18:54:18.951Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _address(meeting_url: str | MeetingURL | None) -> str:
    if isinstance(meeting_url, MeetingURL):
        fields = {name: value for name in _ADDRESS_FIELDS if (value := getattr(meeting_url, name))}
        return json.dumps(fields, ensure_ascii=False, separators=(",", ":")) if fields else ""
    return meeting_url or ""
