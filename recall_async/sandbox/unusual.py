"""Unusual but real invitations: aliases, owners missing from the attendees, placeholders, unusual text.

Each kind occurs in public payloads of Google Calendar and Microsoft Graph.
"""

from __future__ import annotations

import unicodedata
from typing import Any

from .documents import Event

KINDS = (
    "alias",
    "owner_not_invited",
    "own_answer_elsewhere",
    "placeholder_organizer",
    "null_organizer",
    "organizer_not_invited",
    "groups_and_rooms",
    "declined_elsewhere",
    "odd_text",
)
PLACEHOLDER = "unknownorganizer@calendar.google.com"
ROOMS = ("c_188bmeetings@group.calendar.google.com", "c_1880aurora@resource.calendar.google.com")
_NO_BREAK_SPACE = "\u00a0"


def make_unusual(payload: dict[str, Any], event: Event) -> None:
    """Change a usual payload in place to the event's unusual kind."""
    google = event.document.platform == "google_calendar"
    if event.unusual == "odd_text":
        # Decomposed letters and a no-break space, as some clients send them.
        name = "summary" if google else "subject"
        payload[name] = unicodedata.normalize("NFD", f"Kündigung {payload[name]}").replace(" ", _NO_BREAK_SPACE)
        return
    (_google if google else _outlook)(payload, event)


def alias_of(email: str, *, google: bool) -> str:
    """Return another address of the same person: at another domain, or in Outlook's form for foreign accounts."""
    local = email.partition("@")[0]
    return f"{local}@alias.example" if google else f"outlook_{local.encode().hex().upper():.16}@outlook.com"


def _google(payload: dict[str, Any], event: Event) -> None:
    people = payload.setdefault("attendees", [])
    own = [person for person in people if person.get("self")]
    match event.unusual:
        case "alias":
            for person in (*own, *([payload["organizer"]] if payload["organizer"].get("self") else [])):
                person["email"] = alias_of(person["email"], google=True)
        case "owner_not_invited":
            payload["attendees"] = [person for person in people if not person.get("self")]
            payload["organizer"] = {"email": alias_of(event.owner.email, google=True), "self": True}
        case "own_answer_elsewhere":
            for person in own:
                del person["responseStatus"]
            payload["organizer"] = {"email": event.owner.email, "self": True}
        case "placeholder_organizer":
            payload["organizer"] = payload["creator"] = {"email": PLACEHOLDER}
        case "null_organizer":
            payload["organizer"] = payload["creator"] = None
        case "organizer_not_invited":
            payload["attendees"] = [person for person in people if not person.get("organizer")]
        case "groups_and_rooms":
            people += [{"email": address, "responseStatus": "needsAction"} for address in ROOMS]
        case "declined_elsewhere":  # pragma: no branch - the last one
            for person in own:
                person["responseStatus"] = "declined"


def _outlook(payload: dict[str, Any], event: Event) -> None:
    people = payload.setdefault("attendees", [])
    own = [person for person in people if person["emailAddress"]["address"] == event.owner.email]
    status = payload["responseStatus"]
    match event.unusual:
        case "alias":
            alias = alias_of(event.owner.email, google=False)
            organizer = payload["organizer"] if payload["isOrganizer"] else {}
            for person in (*own, organizer):
                if person:
                    person["emailAddress"] = {**person["emailAddress"], "address": alias}
        case "owner_not_invited":
            payload["attendees"] = [person for person in people if person not in own]
            status["response"] = "organizer" if payload["isOrganizer"] else "accepted"
        case "own_answer_elsewhere":
            for person in own:
                person["status"]["response"] = "none"
            status["response"] = "organizer" if payload["isOrganizer"] else "accepted"
        case "placeholder_organizer":
            payload["organizer"] = {"emailAddress": {"name": "Unknown Organizer", "address": PLACEHOLDER}}
            payload["isOrganizer"] = False
        case "null_organizer":
            payload["organizer"], payload["isOrganizer"] = None, False
        case "organizer_not_invited":
            address = payload["organizer"]["emailAddress"]["address"]
            payload["attendees"] = [person for person in people if person["emailAddress"]["address"] != address]
        case "groups_and_rooms":
            people += [
                {
                    "type": "resource",
                    "status": {"response": "none", "time": status["time"]},
                    "emailAddress": {"name": address, "address": address},
                }
                for address in ROOMS
            ]
        case "declined_elsewhere":  # pragma: no branch - the last one
            for person in own:
                person["status"]["response"] = "accepted"
            status["response"], payload["isOrganizer"] = "declined", False
