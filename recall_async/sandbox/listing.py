"""Lists: filters, pages of 100, and cursors that name a position, so they stay valid when the data changes."""

from __future__ import annotations

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, Literal, NamedTuple
from urllib.parse import urlencode
from uuid import UUID

from .fields import moment
from .replies import Reply, detail, field_error, reply
from .state import Position, State

PAGE_SIZE = 100
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


class Filter(NamedTuple):
    """A query parameter: how to read its value, and which documents pass."""

    parse: Callable[[str, str], Any]
    test: Callable[[Any, Any], bool]


def list_events(state: State, query: Mapping[str, str], url: str) -> Reply:
    """Return a page of events in order of their start time. `url` is the list's own, without its query."""
    accept = _accept(_EVENT_FILTERS, query)
    events = state.events
    return _page(state.event_order, lambda position: events[position[1]].document, accept, query, url)


def list_calendars(state: State, query: Mapping[str, str], url: str) -> Reply:
    """Return a page of calendars in order of their creation."""
    accept = _accept(_CALENDAR_FILTERS, query)
    order = sorted((calendar.created_at, calendar.id) for calendar in state.calendars.values())
    return _page(order, lambda position: state.calendars[position[1]], accept, query, url)


def _page(
    order: list[Position],
    find: Callable[[Position], Any],
    accept: Callable[[Any], bool],
    query: Mapping[str, str],
    url: str,
) -> Reply:
    cursor = _read_cursor(query.get("cursor"))
    backwards = cursor is not None and cursor.direction == "previous"
    positions: Iterable[Position]
    if cursor is None:
        positions = order
    elif backwards:
        positions = reversed(order[: bisect_left(order, cursor.position)])
    else:
        positions = islice(order, bisect_right(order, cursor.position), None)
    found = list(islice((position for position in positions if accept(find(position))), PAGE_SIZE + 1))
    has_more, found = len(found) > PAGE_SIZE, found[:PAGE_SIZE]
    if backwards:
        found.reverse()

    def link(direction: Direction, wanted: bool) -> str | None:
        if not wanted or not found:
            return None
        position = found[-1] if direction == "next" else found[0]
        return f"{url}?{urlencode({**query, 'cursor': str(Cursor(direction, position))})}"

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


def _accept(filters: Mapping[str, Filter], query: Mapping[str, str]) -> Callable[[Any], bool]:
    """Return a predicate for all filters of the query. Empty and unknown parameters are ignored."""
    wanted = [
        (filters[name].test, filters[name].parse(name, text))
        for name, text in query.items()
        if name in filters and text
    ]
    return lambda document: all(test(document, value) for test, value in wanted)


def _time(name: str, text: str) -> datetime:
    try:
        return moment(text)
    except ValueError:
        raise field_error(name, "Enter a valid date/time.") from None


def _uuid(name: str, text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise field_error(name, "Enter a valid UUID.") from None


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise field_error(name, "Enter true or false.")
    return text.lower() in ("true", "1")


def _text(name: str, text: str) -> str:
    return text


def _choice(*choices: str) -> Callable[[str, str], str]:
    def parse(name: str, text: str) -> str:
        if text not in choices:
            raise field_error(name, f"Select a valid choice. {text} is not one of the available choices.")
        return text

    return parse


_EVENT_FILTERS = {
    "calendar_id": Filter(_uuid, lambda event, wanted: event.calendar_id == wanted),
    "ical_uid": Filter(_text, lambda event, prefix: event.ical_uid.startswith(prefix)),
    "is_deleted": Filter(_boolean, lambda event, wanted: event.is_deleted is wanted),
    "start_time": Filter(_time, lambda event, when: event.start_time == when),
    "start_time__gte": Filter(_time, lambda event, when: event.start_time >= when),
    "start_time__lte": Filter(_time, lambda event, when: event.start_time <= when),
    "updated_at__gte": Filter(_time, lambda event, when: event.updated_at >= when),
}
_CALENDAR_FILTERS = {
    "created_at__gte": Filter(_time, lambda calendar, when: calendar.created_at >= when),
    "email": Filter(_text, lambda calendar, email: email in (calendar.platform_email, calendar.oauth_email)),
    "platform": Filter(
        _choice("google_calendar", "microsoft_outlook"), lambda calendar, wanted: calendar.platform == wanted
    ),
    "status": Filter(
        _choice("connected", "connecting", "disconnected"), lambda calendar, wanted: calendar.status == wanted
    ),
}
