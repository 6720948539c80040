"""Calendars and events to decide about, as short as a test needs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from recall_async.models import Calendar, CalendarEvent, CalendarEventBot

NOW = datetime(2025, 6, 10, 12, tzinfo=UTC)
ZOOM = "https://us02web.zoom.us/j/83123456789?pwd=aBcD"
HOME = "northwind.example"


def uuid(number: int) -> str:
    return str(UUID(int=number, version=4))


def calendar(**fields: Any) -> Calendar:
    document = {
        "id": uuid(1000),
        "platform": "google_calendar",
        "platform_email": f"ada@{HOME}",
        "status": "connected",
        "created_at": NOW,
        "updated_at": NOW,
    }
    return msgspec.convert(document | fields, Calendar)


def event(
    number: int = 1, *, starts_in: float = 60, minutes: float = 30, raw: Any = None, **fields: Any
) -> CalendarEvent:
    """An event that starts in so many minutes; `raw` is the platform's payload."""
    start = NOW + timedelta(minutes=starts_in)
    document = {
        "id": uuid(number),
        "start_time": start,
        "end_time": start + timedelta(minutes=minutes),
        "calendar_id": uuid(1000),
        "platform": "google_calendar",
        "meeting_platform": "zoom",
        "meeting_url": ZOOM,
        "created_at": NOW,
        "updated_at": NOW,
    }
    if raw is not None:
        document["raw"] = msgspec.Raw(msgspec.json.encode(raw))
    return CalendarEvent(**{**document, **fields})


def bot(key: str, *, starts_in: float = 60, number: int = 2000, meeting_url: Any = ZOOM) -> CalendarEventBot:
    return CalendarEventBot(
        bot_id=uuid(number),
        start_time=NOW + timedelta(minutes=starts_in),
        deduplication_key=key,
        meeting_url=meeting_url,
    )


def google(*attendees: str | dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A Google payload; an attendee is an address, or the platform's own object."""
    people = [
        {"email": person, "responseStatus": "accepted"} if isinstance(person, str) else person for person in attendees
    ]
    return {"summary": "Weekly sync", "status": "confirmed", **({"attendees": people} if people else {}), **fields}


def outlook(*attendees: str | dict[str, Any], **fields: Any) -> dict[str, Any]:
    """An Outlook payload."""
    people = [
        {"type": "required", "status": {"response": "accepted"}, "emailAddress": {"address": person}}
        if isinstance(person, str)
        else person
        for person in attendees
    ]
    return {"subject": "Weekly sync", "isCancelled": False, **({"attendees": people} if people else {}), **fields}
