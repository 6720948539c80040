"""The filters of lists: their names, their checks, and their form in a query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from .. import checks

Pairs = list[tuple[str, str]]
Check = Callable[[str, Any], str | Pairs]
"""Checks a filter and returns its value in the query, or several pairs of a name and a value."""


class EventFilters(TypedDict, total=False):
    """The filters of a list of calendar events; `None` means no filter.

    https://docs.recall.ai/reference/calendar_events_list
    """

    calendar_id: str | UUID | None
    ical_uid: str | None
    """A prefix."""
    is_deleted: bool | None
    start_time: datetime | str | None
    start_time__gte: datetime | str | None
    start_time__lte: datetime | str | None
    updated_at__gte: datetime | str | None
    cursor: str | None
    """Where a page begins: `Page.next_cursor` of the page before."""


class CalendarFilters(TypedDict, total=False):
    """The filters of a list of calendars; `None` means no filter.

    https://docs.recall.ai/reference/calendars_list
    """

    created_at__gte: datetime | str | None
    email: str | None
    platform: str | None
    status: str | None
    cursor: str | None
    """Where a page begins: `Page.next_cursor` of the page before."""


class BotFilters(TypedDict, total=False):
    """The filters of a list of bots; `None` means no filter. https://docs.recall.ai/reference/bot_list"""

    join_at_after: datetime | str | None
    join_at_before: datetime | str | None
    meeting_url: str | None
    platform: str | Iterable[str] | None
    """One platform, or several: a bot must have one of them."""
    status: str | Iterable[str] | None
    """One status, or several: a bot must have one of them."""
    metadata: Mapping[str, str] | None
    """Names and values that the `metadata` of the bot's `bot_config` must contain."""


def _flag(name: str, value: Any) -> str:
    return "true" if checks.flag(name, value) else "false"


def _text(name: str, value: Any) -> str:
    return checks.text(name, value, empty=True)


def _cursor(name: str, value: Any) -> str:
    if "cursor=" in checks.text(name, value, empty=True):
        raise checks.invalid(name, "the `next_cursor` of a page, not the whole URL of its `next`", value)
    return str(value)


def _several(name: str, value: Any) -> Pairs:
    if not isinstance(value, str):
        checks.instance(name, value, Iterable, "a string, or several")
    return [(name, checks.text(name, part)) for part in ([value] if isinstance(value, str) else value)]


def _metadata(name: str, value: Any) -> Pairs:
    checks.instance(name, value, Mapping, "a mapping such as {'team': 'sales'}")
    return [
        (f"{name}__{checks.text(f'a name in {name}', key)}", checks.text(f"{name}[{key!r}]", part))
        for key, part in value.items()
    ]


EVENT_FILTERS: dict[str, Check] = {
    "calendar_id": checks.uuid,
    "ical_uid": _text,
    "is_deleted": _flag,
    "start_time": checks.moment_text,
    "start_time__gte": checks.moment_text,
    "start_time__lte": checks.moment_text,
    "updated_at__gte": checks.moment_text,
    "cursor": _cursor,
}
CALENDAR_FILTERS: dict[str, Check] = {
    "created_at__gte": checks.moment_text,
    "email": _text,
    "platform": _text,
    "status": _text,
    "cursor": _cursor,
}

BOT_FILTERS: dict[str, Check] = {
    "join_at_after": checks.moment_text,
    "join_at_before": checks.moment_text,
    "meeting_url": checks.text,
    "platform": _several,
    "status": _several,
    "metadata": _metadata,
}


def encode_query(known: Mapping[str, Check], filters: Mapping[str, Any]) -> Pairs:
    """Encode the filters of a list for a query. Raises `ConfigurationError`, or `TypeError` for an unknown name."""
    for name in filters:
        if name not in known:
            raise TypeError(f"unknown filter {name!r}; the filters are {', '.join(known)}")
    query: Pairs = []
    for name, value in filters.items():
        if value is not None:
            found = known[name](name, value)
            query += [(name, found)] if isinstance(found, str) else found
    return query
