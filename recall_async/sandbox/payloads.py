"""The calendar platforms' own event payloads (`raw`), as Google Calendar and Microsoft Graph write them."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import msgspec

from .documented import documented
from .documents import Event, MeetingURL, Person
from .unusual import make_unusual

_encode = msgspec.json.Encoder().encode
_OUTLOOK_RESPONSES = {"needsAction": "notResponded", "tentative": "tentativelyAccepted"}
_NEVER = "0001-01-01T00:00:00Z"


def render(event: Event) -> msgspec.Raw:
    """Render the `raw` of an event as JSON. The same event always renders to the same bytes."""
    if event.written is not None:
        return event.written
    document = event.document
    build = _google if document.platform == "google_calendar" else _outlook
    version = hashlib.sha1(f"{document.id}{document.updated_at}".encode(), usedforsecurity=False).hexdigest()
    payload = build(event, version)
    if event.unusual:
        make_unusual(payload, event)
    if event.documented:
        payload = documented(payload)
    return msgspec.Raw(_encode(payload))


def link(url: MeetingURL) -> str | None:
    """Return the URL to join a meeting, also for a `meeting_url` that is an object."""
    if isinstance(url, dict):
        path = url.get("meeting_id") or url.get("thread_id")
        return f"https://{url['platform'].replace('_', '-')}.example/{path}"
    return url


def _answers(event: Event) -> list[tuple[Person, str]]:
    """Return the replies of all attendees: the owner's from the event, the others' by their place in the list."""
    others = ("accepted", "needsAction", "accepted", "tentative", "accepted", "declined")
    return [
        (person, event.response if person.email == event.owner.email else others[place % len(others)])
        for place, person in enumerate(event.meeting.attendees or ())
    ]


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _google_time(event: Event, moment: datetime) -> dict[str, str]:
    if event.meeting.all_day:
        return {"date": moment.date().isoformat()}
    return {"dateTime": moment.isoformat(timespec="seconds").replace("+00:00", "Z"), "timeZone": "Europe/Berlin"}


def _google(event: Event, version: str) -> dict[str, Any]:
    document, meeting = event.document, event.meeting
    organizer = {"email": meeting.organizer.email, "displayName": meeting.organizer.name}
    payload: dict[str, Any] = {
        "kind": "calendar#event",
        "etag": f'"{int(document.updated_at.timestamp() * 2000)}"',
        "id": document.platform_id,
        "status": "cancelled" if document.is_deleted else "confirmed",
        "htmlLink": f"https://www.google.com/calendar/event?eid={version}",
        "created": _iso(document.created_at),
        "updated": _iso(document.updated_at),
        "summary": meeting.title,
        "description": meeting.agenda,
        "creator": organizer,
        "organizer": organizer | ({"self": True} if meeting.organizer.email == event.owner.email else {}),
        "start": _google_time(event, document.start_time),
        "end": _google_time(event, document.end_time),
        "iCalUID": document.ical_uid,
        "sequence": event.sequence,
        "guestsCanInviteOthers": True,
        "reminders": {"useDefault": False, "overrides": [{"method": "popup", "minutes": 10}]},
        "eventType": "default",
    }
    if meeting.attendees is not None:
        payload["attendees"] = [
            {"email": person.email, "displayName": person.name, "responseStatus": answer}
            | ({"self": True} if person.email == event.owner.email else {})
            | ({"organizer": True} if person.email == meeting.organizer.email else {})
            | ({"resource": True} if person.is_room else {})
            for person, answer in _answers(event)
        ]
    if meeting.series_id is not None:
        payload["recurringEventId"] = meeting.series_id
        payload["originalStartTime"] = _google_time(event, event.original_start)
    if (address := link(document.meeting_url)) is not None:
        if document.meeting_platform == "google_meet":
            payload["hangoutLink"] = address
        else:
            payload["location"] = address
        payload["conferenceData"] = {
            "conferenceId": version[:12],
            "conferenceSolution": {"name": document.meeting_platform, "key": {"type": "addOn"}},
            "entryPoints": [{"entryPointType": "video", "uri": address, "label": address.partition("//")[2]}],
        }
    return payload


def _outlook_time(moment: datetime) -> dict[str, str]:
    return {"dateTime": moment.strftime("%Y-%m-%dT%H:%M:%S.%f0"), "timeZone": "UTC"}


def _outlook_person(person: Person) -> dict[str, dict[str, str]]:
    return {"emailAddress": {"name": person.name, "address": person.email}}


def _outlook(event: Event, version: str) -> dict[str, Any]:
    document, meeting = event.document, event.meeting
    address = link(document.meeting_url)
    is_organizer = meeting.organizer.email == event.owner.email
    own_response = "organizer" if is_organizer else _OUTLOOK_RESPONSES.get(event.response, event.response)
    place = {
        "displayName": address or "",
        "locationType": "default",
        "uniqueId": address or "",
        "uniqueIdType": "private",
    }
    join = f'<p><a href="{address}">Join the meeting now</a></p>' if address else ""
    payload: dict[str, Any] = {
        "@odata.type": "#microsoft.graph.event",
        "@odata.etag": f'W/"{version[:24]}"',
        "id": document.platform_id,
        "createdDateTime": _iso(document.created_at),
        "lastModifiedDateTime": _iso(document.updated_at),
        "changeKey": version[:24],
        "categories": [],
        "transactionId": version[8:40],
        "originalStartTimeZone": "W. Europe Standard Time",
        "originalEndTimeZone": "W. Europe Standard Time",
        "iCalUId": document.ical_uid,
        "uid": document.ical_uid,
        "reminderMinutesBeforeStart": 15,
        "isReminderOn": True,
        "hasAttachments": False,
        "subject": meeting.title,
        "bodyPreview": meeting.title,
        "importance": "normal",
        "sensitivity": "normal",
        "isAllDay": meeting.all_day,
        "isCancelled": document.is_deleted,
        "isOrganizer": is_organizer,
        "responseRequested": True,
        "seriesMasterId": meeting.series_id,
        "showAs": "busy",
        "type": "occurrence" if meeting.series_id else "singleInstance",
        "webLink": f"https://outlook.office365.com/owa/?itemid={version}&exvsurl=1&path=/calendar/item",
        "onlineMeetingUrl": None,
        "isOnlineMeeting": address is not None,
        "onlineMeetingProvider": "teamsForBusiness" if document.meeting_platform == "microsoft_teams" else "unknown",
        "hideAttendees": False,
        "responseStatus": {"response": own_response, "time": _NEVER},
        "body": {"contentType": "html", "content": f"<html><body>{meeting.agenda}{join}</body></html>"},
        "start": _outlook_time(document.start_time),
        "end": _outlook_time(document.end_time),
        "location": place,
        "locations": [place] if address else [],
        "recurrence": None,
        "organizer": _outlook_person(meeting.organizer),
        "onlineMeeting": {"joinUrl": address} if address else None,
        "originalStart": _iso(event.original_start) if meeting.series_id else None,
    }
    if meeting.series_id is not None:
        payload["recurrence"] = {
            "pattern": {"type": "daily", "interval": meeting.interval_days, "firstDayOfWeek": "monday"},
            "range": {"type": "noEnd", "startDate": meeting.created_at.date().isoformat(), "recurrenceTimeZone": "UTC"},
        }
    if meeting.attendees is not None:
        payload["attendees"] = [
            {
                "type": "resource" if person.is_room else "required",
                "status": {"response": _OUTLOOK_RESPONSES.get(answer, answer), "time": _NEVER},
                **_outlook_person(person),
            }
            for person, answer in _answers(event)
        ]
    return payload
