"""Pages of events and calendars, 100 each. A cursor names a position, so it stays valid when the data changes."""

from __future__ import annotations

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode

from .fields import Request, moment
from .filters import Filter, accept, boolean, choice, string, time, uuid
from .replies import Reply, detail, reply
from .state import Position, State

PAGE_SIZE = 100
PLATFORMS = ("google_calendar", "microsoft_outlook")
_STATUSES = ("connected", "connecting", "disconnected")
Direction = Literal["next", "previous"]
_DIRECTIONS: dict[str, Direction] = {"next": "next", "previous": "previous"}


class Cursor(NamedTuple):
    """A position in a list. It selects the page after it (`next`) or before it (`previous`)."""

    direction: Direction
    position: Position

    def __str__(self) -> str:
        when, identifier = self.position
        text = f"{self.direction}|{when.isoformat()}|{identifier}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def list_events(state: State, request: Request) -> Reply:
    """Return a page of events in order of their start time."""
    events = state.events
    return _page(state.event_order, lambda position: events[position[1]].document, _EVENT_FILTERS, request)


def list_calendars(state: State, request: Request) -> Reply:
    """Return a page of calendars in order of their creation."""
    order = sorted((calendar.created_at, calendar.id) for calendar in state.calendars.values())
    return _page(order, lambda position: state.calendars[position[1]], _CALENDAR_FILTERS, request)


def _page(
    order: list[Position], find: Callable[[Position], Any], filters: Mapping[str, Filter], request: Request
) -> Reply:
    accepts = accept(filters, request)
    cursor = _read_cursor(request.last("cursor"))
    backwards = cursor is not None and cursor.direction == "previous"
    positions: Iterable[Position]
    if cursor is None:
        positions = order
    elif backwards:
        positions = reversed(order[: bisect_left(order, cursor.position)])
    else:
        positions = islice(order, bisect_right(order, cursor.position), None)
    found = list(islice((position for position in positions if accepts(find(position))), PAGE_SIZE + 1))
    has_more, found = len(found) > PAGE_SIZE, found[:PAGE_SIZE]
    if backwards:
        found.reverse()

    def link(direction: Direction, wanted: bool) -> str | None:
        if not wanted or not found:
            return None
        position = found[-1] if direction == "next" else found[0]
        query = {name: values[-1] for name, values in request.query.items()}
        return f"{request.url}?{urlencode({**query, 'cursor': str(Cursor(direction, position))})}"

    return reply(
        200,
        {
            "next": link("next", has_more or backwards),
            "previous": link("previous", has_more if backwards else cursor is not None),
            "results": [find(position) for position in found],
        },
    )


def _read_cursor(text: str | None) -> Cursor | None:
    """Read a cursor; `None` for page one. Raises a refusal: 404 for an invalid cursor, such as a whole URL."""
    if not text:
        return None
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        direction, when, identifier = decoded.split("|")
        return Cursor(_DIRECTIONS[direction], (moment(when), identifier))
    except (ValueError, KeyError):
        raise detail(404, "Invalid cursor.") from None


_EVENT_FILTERS = {
    "calendar_id": Filter(uuid, lambda event, wanted: event.calendar_id == wanted),
    "ical_uid": Filter(string, lambda event, prefix: event.ical_uid.startswith(prefix)),
    "is_deleted": Filter(boolean, lambda event, wanted: event.is_deleted is wanted),
    "start_time": Filter(time, lambda event, when: event.start_time == when),
    "start_time__gte": Filter(time, lambda event, when: event.start_time >= when),
    "start_time__lte": Filter(time, lambda event, when: event.start_time <= when),
    "updated_at__gte": Filter(time, lambda event, when: event.updated_at >= when),
}
_CALENDAR_FILTERS = {
    "created_at__gte": Filter(time, lambda calendar, when: calendar.created_at >= when),
    "email": Filter(string, lambda calendar, email: email in (calendar.platform_email, calendar.oauth_email)),
    "platform": Filter(choice(*PLATFORMS), lambda calendar, wanted: calendar.platform == wanted),
    "status": Filter(choice(*_STATUSES), lambda calendar, wanted: calendar.status == wanted),
}
