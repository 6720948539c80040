"""Where bots belong, worked out from the sandbox's own data: nothing here comes from the library."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

POLICY = {
    "external_only": True,
    "accepted_only": True,
    "title_excludes": ["1:1", "interview"],
    "min_attendees": 2,
    "bot_config": {"bot_name": "Notes"},
}
"""What `expected` works out, as arguments of a RecordingPolicy."""


class Place(NamedTuple):
    """A bot on an event."""

    event_id: str
    key: str
    start_time: str
    meeting_url: str


def expected(snapshot: dict[str, Any]) -> set[Place]:
    """The bots that are to come, event by event, as `POLICY` has it."""
    now = datetime.now(UTC)
    calendars = {calendar["id"]: calendar for calendar in snapshot["calendars"]}
    places = set()
    for event in snapshot["events"]:
        start = datetime.fromisoformat(event["start_time"])
        if event["is_deleted"] or not event["meeting_url"] or start <= now:
            continue
        calendar = calendars[event["calendar_id"]]
        if calendar["status"] == "connected" and is_wanted(event["raw"], calendar["platform_email"]):
            places.add(place(event["id"], key(start, event["meeting_url"]), event))
    return places


def actual(snapshot: dict[str, Any]) -> set[Place]:
    """The bots that are to come, as the events show them."""
    now = datetime.now(UTC)
    return {
        place(event["id"], bot["deduplication_key"], bot)
        for event in snapshot["events"]
        for bot in event["bots"]
        if datetime.fromisoformat(bot["start_time"]) > now
    }


def place(event_id: str, key: str, times: dict[str, Any]) -> Place:
    return Place(event_id, key, times["start_time"], str(times["meeting_url"]))


def key(start: datetime, meeting_url: Any) -> str:
    milliseconds = start.microsecond // 1000
    link = meeting_url
    if isinstance(link, dict):
        link = "{" + ",".join(f'"{name}":"{link[name]}"' for name in sorted(link) if link[name]) + "}"
    return f"{start:%Y-%m-%dT%H:%M:%S}.{milliseconds:03}Z-{link}"


def is_wanted(raw: dict[str, Any], owner: str) -> bool:
    title = raw.get("summary", raw.get("subject", "")).lower()
    if "1:1" in title or "interview" in title:
        return False
    people = []
    for person in raw.get("attendees", []):
        if "emailAddress" in person:
            email, answer, room = (
                person["emailAddress"]["address"],
                person["status"]["response"],
                person["type"] == "resource",
            )
        else:
            email, answer, room = person["email"], person["responseStatus"], person.get("resource", False)
        if not room:
            people.append((email, answer))
    organizer = raw["organizer"].get("email") or raw["organizer"]["emailAddress"]["address"]
    own = [answer for email, answer in people if email == owner]
    is_open = not own or own[0] in ("needsAction", "notResponded", "none")
    accepted = (is_open and organizer == owner) or (bool(own) and own[0] in ("accepted", "organizer"))
    external = any(email.split("@")[1] != owner.split("@")[1] for email, _ in people)
    return accepted and external and len(people) >= 2


def distinct_keys(places: set[Place]) -> int:
    return len({place.key for place in places})
