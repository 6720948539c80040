"""Deduplication keys: events with the same key share one bot.

A key contains the start time and the meeting URL, so an event that moves or gets a new link needs another bot. A
workspace must keep its scheme, so the schemes in this file never change.

Documentation: https://docs.recall.ai/docs/scheduling-guide
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from string import Formatter

from ..checks import invalid, shown
from ..checks import text as check_text
from ..errors import ConfigurationError
from ..lenient import in_utc
from ..models import Calendar, CalendarEvent, MeetingURL
from ..resources.fields import MAX_DEDUPLICATION_KEY
from .attendance import own_addresses
from .meetings import MEETING_IDS
from .wording import domain_of

KeyScheme = Callable[[CalendarEvent, Calendar], str]
"""Returns the deduplication key for an event in a calendar."""

MAX_TEMPLATE = 1000
"""Characters of a template: keys have at most 2,000, and fields are longer than their names."""
FIELDS = ("start_time", "meeting_url", "event_id", "calendar_id", "email_domain", "ical_uid", "platform_id")
"""The fields of a template."""
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_DOMAIN = r"\w[\w-]*(?:\.[\w-]+)+"
_DIRECTIVES = {
    "%Y": r"\d{4}", "%y": r"\d\d", "%m": r"\d\d", "%d": r"\d\d", "%j": r"\d{3}", "%H": r"\d\d", "%I": r"\d\d",
    "%M": r"\d\d", "%S": r"\d\d", "%f": r"\d{6}", "%s": r"\d+", "%z": r"\+0000", "%Z": "UTC", "%%": "%",
    "%F": r"\d{4}-\d\d-\d\d", "%T": r"\d\d:\d\d:\d\d",
}  # fmt: skip
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
"""In alphabetical order. Adding a field would change the keys of scheduled bots."""


class Deduplication(StrEnum):
    """The key schemes that the API's documentation recommends. Each is a function: `Deduplication.MEETING(event)`.

    Times are written in UTC with milliseconds, and a `meeting_url` object as JSON with sorted fields. If a key would
    be longer than the API accepts, the SHA-256 of the meeting URL replaces the URL. An event without a `meeting_url`
    never shares its bot. An object without the id of a meeting, of a platform that this version does not know, is
    followed by the event's `ical_uid`.
    """

    MEETING = "meeting"
    """`{start_time}-{meeting_url}`: one bot per meeting."""
    COMPANY = "company"
    """`{start_time}-{meeting_url}-{email domain of the calendar}`: one bot per company in a meeting."""
    EVENT = "event"
    """`{start_time}-{meeting_url}-{event id}`: one bot per event, never shared."""

    def __call__(self, event: CalendarEvent, calendar: Calendar | None = None) -> str:
        """Return the deduplication key of the event's bot. Only `COMPANY` needs the calendar.

        Raises `ConfigurationError`.
        """
        start, address = time_text(event.start_time), _address(event)
        if not address:
            return f"{start}-{event.id}"
        match self:
            case Deduplication.MEETING:
                suffix = ""
            case Deduplication.COMPANY:
                suffix = "-" + _company(calendar, "Deduplication.COMPANY")
            case Deduplication.EVENT:  # pragma: no branch - the last one
                suffix = "-" + event.id
        key = f"{start}-{address}{suffix}"
        if len(key) > MAX_DEDUPLICATION_KEY:
            key = f"{start}-{_hashed(address)}{suffix}"
        return key

    def could_make(self, key: str, event: CalendarEvent) -> bool:
        """Return whether this scheme may have made `key` for the event, at any start time and meeting URL."""
        ends = {
            Deduplication.MEETING: "",
            Deduplication.COMPANY: f"(?:-{_DOMAIN}|(?<={_UUID}))",
            Deduplication.EVENT: f"(?<={re.escape(event.id)})",
        }
        return re.fullmatch(f"{_TIME}-.+{ends[self]}", key, re.DOTALL) is not None


class KeyTemplate:
    """A custom key scheme, written as a template such as `{start_time}-{meeting_url}`.

    The fields are `start_time`, `meeting_url`, `event_id`, `calendar_id`, `email_domain`, `ical_uid` and
    `platform_id`. `{start_time}` is written as in `Deduplication`, in UTC; `{start_time:%Y-%m-%dT%H:%M:%SZ}` is
    written with `strftime`. Events with the same key share a bot, so a template must contain `event_id`, or
    `start_time` with `meeting_url` or `ical_uid`.

    Raises `ConfigurationError` for an invalid template.
    """

    __slots__ = ("_parts", "text")

    def __init__(self, text: str) -> None:
        self.text: str = text
        self._parts = _parse(text)
        names = {name for _, name, _ in self._parts}
        if "event_id" not in names and not ("start_time" in names and names & {"meeting_url", "ical_uid"}):
            raise invalid(
                "deduplication",
                "a template with {event_id}, or with {start_time} and {meeting_url} or {ical_uid}",
                text,
            )

    def __call__(self, event: CalendarEvent, calendar: Calendar | None = None) -> str:
        """Return the deduplication key of the event's bot. Raises `ConfigurationError`."""
        key = self._filled(event, calendar, ())
        if len(key) > MAX_DEDUPLICATION_KEY:
            key = self._filled(event, calendar, ("meeting_url",))
        if len(key) > MAX_DEDUPLICATION_KEY:
            key = self._filled(event, calendar, ("meeting_url", "ical_uid", "platform_id"))
        return key

    def could_make(self, key: str, event: CalendarEvent) -> bool:
        """Return whether this template may have made `key` for the event, at any start time and meeting URL."""
        patterns = {"start_time": _TIME, "event_id": re.escape(event.id), "calendar_id": _UUID}
        parts = [
            re.escape(literal) + ("" if name is None else _times(spec) if spec else patterns.get(name, ".+"))
            for literal, name, spec in self._parts
        ]
        return re.fullmatch("".join(parts), key, re.DOTALL) is not None

    def _filled(self, event: CalendarEvent, calendar: Calendar | None, hashed: tuple[str, ...]) -> str:
        """Fill in the event's values, some of them as hashes."""
        key = ""
        for literal, name, spec in self._parts:
            value = "" if name is None else self._value(name, spec, event, calendar)
            key += literal + (_hashed(value) if name in hashed else value)
        return key

    def _value(self, name: str, spec: str, event: CalendarEvent, calendar: Calendar | None) -> str:
        match name:
            case "start_time":
                return format(in_utc(event.start_time), spec) if spec else time_text(event.start_time)
            case "meeting_url":
                return _address(event) or event.id
            case "calendar_id":
                return event.calendar_id
            case "email_domain":
                return _company(calendar, f"the template {self.text}")
            case "event_id":
                return event.id
        return (event.ical_uid if name == "ical_uid" else event.platform_id) or event.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyTemplate) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"KeyTemplate({self.text!r})"


def _parse(text: str) -> list[tuple[str, str | None, str]]:
    """Split a template into literal texts, each with the following field and format."""
    check_text("deduplication", text, at_most=MAX_TEMPLATE)
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        raise ConfigurationError(f"deduplication must be a template, got {shown(text)}: {error}") from None
    parsed = []
    for literal, name, spec, conversion in parts:
        if name is not None and (name not in FIELDS or conversion or (spec and name != "start_time")):
            raise ConfigurationError(
                f"deduplication must be a template with the fields {', '.join(FIELDS)}, got {{{name}}} in {shown(text)}"
            )
        if spec and ("{" in spec or not _formats(spec)):
            raise ConfigurationError(
                f"deduplication must write {{start_time:FORMAT}} so that no two minutes are the same, got {spec!r}"
            )
        parsed.append((literal, name, spec or ""))
    return parsed


def _formats(spec: str) -> bool:
    """Return whether a `strftime` format distinguishes start times: by minute, hour, day, month and year."""
    first = datetime(2025, 1, 1, tzinfo=UTC)
    apart = (timedelta(0), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(31), timedelta(365))
    try:
        return len({format(first + each, spec) for each in apart}) == len(apart)
    except ValueError:
        return False


def _times(spec: str) -> str:
    """Return a regular expression for the times that a `strftime` format produces."""
    parts = re.split("(%.)", spec)
    return "".join(_DIRECTIVES.get(part, ".+") if part.startswith("%") else re.escape(part) for part in parts)


def _company(calendar: Calendar | None, scheme: str) -> str:
    if calendar is None:
        raise ConfigurationError(f"{scheme} needs the event's calendar: pass it as the second argument")
    # Calendars without an address must not share bots with each other.
    return next(filter(None, map(domain_of, own_addresses(calendar))), calendar.id)


def _hashed(address: str) -> str:
    return f"sha256:{hashlib.sha256(address.encode()).hexdigest()}"


def time_text(moment: datetime) -> str:
    """Format a time as in a key: `2025-06-10T18:54:18.951Z`."""
    return in_utc(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _address(event: CalendarEvent) -> str:
    """Return what identifies the meeting in a key; empty for an event without a meeting."""
    meeting_url = event.meeting_url
    if not isinstance(meeting_url, MeetingURL):
        return meeting_url or ""
    fields = {name: value for name in _ADDRESS_FIELDS if (value := getattr(meeting_url, name))}
    if not fields:
        return ""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
    # Otherwise all meetings of a new platform that begin at one time would share a bot.
    return text if not fields.keys().isdisjoint(MEETING_IDS) else f"{text}-{event.ical_uid or event.id}"
