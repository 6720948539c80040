"""Changes that people make to their calendars: meetings move, get a new link, are declined, deleted, created."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from .documents import Event
from .state import State

_KINDS = ("move", "relink", "decline", "delete", "create")


def mutate(state: State, number: int, now: datetime) -> list[dict[str, Any]]:
    """Makes `number` changes and returns them, each with its `kind`, `event_ids` and `calendar_ids`.

    Moves and new links are the organizer's and reach all calendars that share the meeting; declining and deleting
    concern one calendar's event. Only meetings that have not started change, and perpetual ones at any time. Without a
    connected calendar nothing changes.
    """
    rng = state.generator.rng
    copies: dict[tuple[str, datetime], list[Event]] = {}
    for event in state.events.values():
        if not event.document.is_deleted and (event.document.start_time > now or event.meeting.perpetual):
            copies.setdefault((event.document.ical_uid, event.document.start_time), []).append(event)
    meetings = list(copies.values())
    connected = [calendar for calendar in state.calendars.values() if calendar.status == "connected"]
    changes: list[dict[str, Any]] = []
    if not connected:
        return changes
    for _ in range(number):
        kind = rng.choice(_KINDS) if meetings else "create"
        if kind == "create":
            event = state.generator.one_off(rng.choice(connected), now)
            state.add_event(event)
            meetings.append([event])
            changes.append(_change(kind, [event]))
            continue
        place = rng.randrange(len(meetings))
        changed = meetings[place]
        if kind == "decline" and not (changed := [event for event in changed if _is_guest(event)]):
            kind, changed = "relink", meetings[place]
        if kind in ("decline", "delete"):
            changed = [rng.choice(changed)]
        _apply(state, kind, changed, now)
        changes.append(_change(kind, changed))
        if kind == "delete":
            meetings[place].remove(changed[0])
            if not meetings[place]:
                del meetings[place]
    return changes


def _is_guest(event: Event) -> bool:
    """Whether the calendar's owner was invited, and so can decline."""
    return event.meeting.attendees is not None and event.meeting.organizer.email != event.owner.email


def _apply(state: State, kind: str, events: list[Event], now: datetime) -> None:
    rng = state.generator.rng
    shift = timedelta(minutes=rng.choice((15, 30, 60, 24 * 60)))
    link = state.generator.link()
    for event in events:
        match kind:
            case "move":
                state.move_event(event, max(event.document.start_time, now) + shift, now)
            case "relink":
                event.document.meeting_platform, event.document.meeting_url = link
                state.touch(event, now)
            case "decline":
                event.response = "declined"
                state.touch(event, now)
            case "delete":
                state.delete_event(event, now)


def _change(kind: str, events: list[Event]) -> dict[str, Any]:
    return {
        "kind": kind,
        "event_ids": [event.document.id for event in events],
        "calendar_ids": sorted({event.document.calendar_id for event in events}),
    }
