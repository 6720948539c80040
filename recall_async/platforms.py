"""Read the payloads of Google Calendar and Outlook, and translate them to common terms.

The API does not specify these payloads, so an event stays readable whatever its payload contains, and an invalid part does
not hide the others.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from .lenient import at, objects_of, read, text_of


class Attendee(Struct, frozen=True, kw_only=True, gc=False):
    """An invitee of an event, in terms common to Google and Outlook."""

    email: str | None = None
    name: str | None = None
    response: str | None = None
    """`accepted`, `declined`, `tentative`, `needs_action`, or `None` for a missing or unknown value."""
    is_self: bool = False
    """True for the calendar's owner; Google only. `CalendarEvent.own_response` works on both platforms."""
    is_organizer: bool = False
    is_optional: bool = False
    is_resource: bool = False
    """True for a room or a piece of equipment."""


# Fields are `Any`, so that each decodes any JSON value.


class GooglePayload(Struct):
    """The fields used of Google's payload: https://developers.google.com/workspace/calendar/api/v3/reference/events"""

    title: Any = field(default=None, name="summary")
    series_id: Any = field(default=None, name="recurringEventId")
    organizer: Any = None
    attendees: Any = None
    status: Any = None
    start: Any = None
    event_type: Any = field(default=None, name="eventType")
    transparency: Any = None

    def organizer_email(self) -> str | None:
        return text_of(at(self.organizer, "email"))

    def invited(self) -> tuple[Attendee, ...]:
        return tuple(
            Attendee(
                email=text_of(person.get("email")),
                name=text_of(person.get("displayName")),
                response=_response(person.get("responseStatus")),
                is_self=person.get("self") is True,
                is_organizer=person.get("organizer") is True,
                is_optional=person.get("optional") is True,
                is_resource=person.get("resource") is True,
            )
            for person in objects_of(self.attendees)
        )

    def own_response(self) -> str | None:
        return next((person.response for person in self.invited() if person.is_self), None)

    def is_organizer(self) -> bool | None:
        if any(person.is_self and person.is_organizer for person in self.invited()):
            return True
        said = at(self.organizer, "self")
        return said if isinstance(said, bool) else None

    def kinds(self) -> frozenset[str]:
        return _kinds(self.event_type, "free" if _word(self.transparency) == "transparent" else None, self.is_all_day())

    def is_cancelled(self) -> bool:
        return _word(self.status) == "cancelled"

    def is_all_day(self) -> bool:
        return text_of(at(self.start, "date")) is not None


class OutlookPayload(Struct):
    """The fields used of Outlook's payload: https://learn.microsoft.com/en-us/graph/api/resources/event"""

    title: Any = field(default=None, name="subject")
    series_id: Any = field(default=None, name="seriesMasterId")
    organizer: Any = None
    attendees: Any = None
    cancelled: Any = field(default=None, name="isCancelled")
    all_day: Any = field(default=None, name="isAllDay")
    holds: Any = field(default=None, name="isOrganizer")
    answer: Any = field(default=None, name="responseStatus")
    locations: Any = None
    shows_as: Any = field(default=None, name="showAs")

    def organizer_email(self) -> str | None:
        return text_of(at(self.organizer, "emailAddress", "address"))

    def invited(self) -> tuple[Attendee, ...]:
        organizer = (self.organizer_email() or "").casefold()
        rooms = {_word(place.get("locationEmailAddress")) for place in objects_of(self.locations)} - {""}
        attendees = []
        for person in objects_of(self.attendees):
            email = text_of(at(person, "emailAddress", "address"))
            response = at(person, "status", "response")
            attendees.append(
                Attendee(
                    email=email,
                    name=text_of(at(person, "emailAddress", "name")),
                    response=_response(response),
                    is_organizer=_word(response) == "organizer"
                    or (email is not None and email.casefold() == organizer),
                    is_optional=_word(person.get("type")) == "optional",
                    is_resource=_word(person.get("type")) == "resource" or _word(email) in rooms,
                )
            )
        return tuple(attendees)

    def own_response(self) -> str | None:
        return _response(at(self.answer, "response"))

    def is_organizer(self) -> bool | None:
        if _word(at(self.answer, "response")) == "organizer":
            return True
        return self.holds if isinstance(self.holds, bool) else None

    def kinds(self) -> frozenset[str]:
        return _kinds(self.shows_as, None, self.is_all_day())

    def is_cancelled(self) -> bool:
        return self.cancelled is True

    def is_all_day(self) -> bool:
        return self.all_day is True


_PAYLOADS: dict[str, msgspec.json.Decoder[GooglePayload | OutlookPayload]] = {
    "google_calendar": msgspec.json.Decoder(GooglePayload),
    "microsoft_outlook": msgspec.json.Decoder(OutlookPayload),
}
_NO_PAYLOAD = GooglePayload()
_NO_OUTLOOK_PAYLOAD = OutlookPayload()
_RESPONSES = {
    "accepted": "accepted",
    "organizer": "accepted",
    "declined": "declined",
    "tentative": "tentative",
    "tentativelyaccepted": "tentative",
    "needsaction": "needs_action",
    "notresponded": "needs_action",
    "none": "needs_action",
}
"""Keys are as `_word` returns them: older versions of Outlook's API and iCalendar write them differently."""


KINDS_OF_EVENTS = ("focus_time", "out_of_office", "working_location", "birthday", "from_gmail", "all_day", "free")
"""The kinds of events other than meetings, in terms common to Google and Outlook."""
_KINDS = {
    "focustime": "focus_time",
    "outofoffice": "out_of_office",
    "workinglocation": "working_location",
    "birthday": "birthday",
    "fromgmail": "from_gmail",
    "oof": "out_of_office",
    "workingelsewhere": "working_location",
    "free": "free",
}


def _kinds(kind: Any, free: str | None, all_day: bool) -> frozenset[str]:
    return frozenset(filter(None, (_KINDS.get(_word(kind)), free, "all_day" if all_day else None)))


def _response(value: Any) -> str | None:
    return _RESPONSES.get(_word(value))


def _word(value: Any) -> str:
    """Return a word in lower case, without hyphens and underscores; empty for anything else."""
    return value.strip().casefold().replace("-", "").replace("_", "") if isinstance(value, str) else ""


def is_empty(payload: GooglePayload | OutlookPayload) -> bool:
    """Return whether a payload is missing, or has none of the fields that are used."""
    return payload in (_NO_PAYLOAD, _NO_OUTLOOK_PAYLOAD)


def payload_of(platform: str, raw: msgspec.Raw | msgspec.UnsetType) -> GooglePayload | OutlookPayload:
    """Decode the platform's payload of an event; empty if it is missing or invalid."""
    decoder = _PAYLOADS.get(platform)
    return (None if decoder is None else read(decoder, raw)) or _NO_PAYLOAD
