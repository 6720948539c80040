"""Pages of events as the API answers them, drawn by the sandbox's generator: the same bytes for the same seed."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from recall_async.sandbox.data import Generator

NOW = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
SIZE = 100
"""Events on a page."""


def page(seed: int, *, google: int = 75) -> bytes:
    """A page of a hundred events, so many of Google Calendar and the others of Outlook, in random order, with a link.

    Outlook's payloads are half as large again.
    """
    generator = Generator(seed, NOW)
    events = [event.document for event in generator.events(400, generator.calendars(4))]
    generator.rng.shuffle(events)
    results = [event for event in events if event.platform == "google_calendar"][:google]
    results += [event for event in events if event.platform == "microsoft_outlook"][: SIZE - google]
    generator.rng.shuffle(results)
    link = f"https://us-east-1.recall.ai/api/v2/calendar-events/?cursor={generator.identifier()}"
    return msgspec.json.encode({"next": link, "previous": None, "results": results})


def event() -> bytes:
    """One event with a bot on it, as the answer to a call that schedules one."""
    first: dict[str, Any] = next(event for event in msgspec.json.decode(page(1))["results"] if event["meeting_url"])
    bot = {
        "bot_id": first["id"],
        "start_time": first["start_time"],
        "deduplication_key": f"{first['start_time']}-{first['meeting_url']}",
        "meeting_url": first["meeting_url"],
    }
    return msgspec.json.encode({**first, "bots": [bot]})
