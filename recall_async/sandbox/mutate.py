"""Change the calendars as people do: move meetings, change their links, decline, delete and create them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from .documents import Event
from .state import State

_KINDS = ("move", "relink", "decline", "delete", "create")


def changes(state: State, number: int, now: datetime) -> Iterator[dict[str, Any]]:
    """Make `number` changes, one by one, and yield each with its `kind`, `event_ids` and `calendar_ids`.

    Requests may be served between two changes.

    The organizer moves meetings and changes links, in all calendars that share the meeting; a decline or deletion
    affects one calendar's event. Only meetings that have not started change; perpetual ones change at any time.
    Without a connected calendar nothing changes.
    """
    rng = state.generator.rng
    copies: dict[tuple[str, datetime], list[Event]] = {}
    for event in state.events.values():
        if not event.document.is_deleted and (event.document.start_time > now or event.meeting.perpetual):
            copies.setdefault((event.document.ical_uid, event.document.start_time), []).append(event)
    meetings = list(copies.values())
    connected = [calendar for calendar in state.calendars.values() if calendar.status == "connected"]
    if not connected:
        return
    made = 0
    while made < number:
        kind = rng.choice(_KINDS) if meetings else "create"
        if kind == "create":
            event = state.generator.one_off(rng.choice(connected), now)
            state.add_event(event)
            meetings.append([event])
            made += 1
            yield _announced(state, kind, [event], now)
            continue
        place = rng.randrange(len(meetings))
        changed = meetings[place] = [event for event in meetings[place] if not event.document.is_deleted]
        if not changed:
            del meetings[place]
            continue
        if kind == "decline" and not (changed := [event for event in changed if _is_guest(event)]):
            kind, changed = "relink", meetings[place]
        if kind in ("decline", "delete"):
            changed = [rng.choice(changed)]
        _apply(state, kind, changed, now)
        made += 1
        yield _announced(state, kind, changed, now)


def _is_guest(event: Event) -> bool:
    """Return whether the calendar's owner is a guest and so can decline."""
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
            case "delete":  # pragma: no branch - the last one
                state.delete_event(event, now)


def _announced(state: State, kind: str, events: list[Event], now: datetime) -> dict[str, Any]:
    calendar_ids = sorted({event.document.calendar_id for event in events})
    for calendar_id in calendar_ids:
        state.tell_of_events(calendar_id, now)
    return {"kind": kind, "event_ids": [event.document.id for event in events], "calendar_ids": calendar_ids}
