"""Payloads (`raw`) reduced to what the API's reference documents, for clients that validate every response.

The reference leaves out fields that the calendar platforms send, and requires some that they leave out.
"""

from __future__ import annotations

from typing import Any

_PERSON = ("email", "displayName")
_GOOGLE: dict[str, tuple[str, ...]] = {
    "id": (), "etag": (), "kind": (), "status": (), "created": (), "iCalUID": (), "summary": (), "updated": (),
    "htmlLink": (), "sequence": (), "eventType": (), "recurringEventId": (),
    "start": ("dateTime", "timeZone"), "end": ("dateTime", "timeZone"), "originalStartTime": ("dateTime", "timeZone"),
    "creator": _PERSON, "organizer": _PERSON, "reminders": ("useDefault",),
    "attendees": (*_PERSON, "organizer", "responseStatus", "self"),
}  # fmt: skip
"""The documented fields, and those of the objects in them; empty for a plain value."""


def documented(payload: dict[str, Any]) -> dict[str, Any]:
    """Return a payload of Google Calendar or Microsoft Graph with the documented fields, all of them required ones.

    A single event is a series of its own.
    """
    if "kind" in payload:
        whole = {"attendees": [], "recurringEventId": payload["id"], "originalStartTime": payload["start"], **payload}
        return {name: _reduced(whole[name], inner) for name, inner in _GOOGLE.items()}
    # The reference says that `originalStart` is an object or null. On the wire it is a string.
    return {**payload, "seriesMasterId": payload["seriesMasterId"] or payload["id"], "originalStart": None}


def _reduced(value: Any, names: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_reduced(part, names) for part in value]
    return {name: value[name] for name in names if name in value} if names else value
