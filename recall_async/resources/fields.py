"""Check the filters of lists and the fields of bots before a request is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

import msgspec

from .. import checks
from ..errors import ConfigurationError

MAX_DEDUPLICATION_KEY = 2000
"""Characters: https://docs.recall.ai/reference/calendar_events_bot_create"""

Check = Callable[[str, Any], str]


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


def _flag(name: str, value: Any) -> str:
    return "true" if checks.flag(name, value) else "false"


def _text(name: str, value: Any) -> str:
    return checks.text(name, value, empty=True)


def _cursor(name: str, value: Any) -> str:
    if "cursor=" in checks.text(name, value, empty=True):
        raise checks.invalid(name, "the `next_cursor` of a page, not the whole URL of its `next`", value)
    return str(value)


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


def encode_query(known: Mapping[str, Check], filters: Mapping[str, Any]) -> dict[str, str]:
    """Encode the filters of a list for a query. Raises `ConfigurationError`, or `TypeError` for an unknown name."""
    for name in filters:
        if name not in known:
            raise TypeError(f"there is no filter {name!r}; there are {', '.join(known)}")
    return {name: known[name](name, value) for name, value in filters.items() if value is not None}


def check_deduplication_key(value: str) -> str:
    """Check a deduplication key as the API does. Raises `ConfigurationError`."""
    return checks.text("deduplication_key", value, at_most=MAX_DEDUPLICATION_KEY)


def start_of(start_time: datetime | str | None) -> float:
    """Return an event's start in seconds since 1970, `inf` for `None`. Raises `ConfigurationError`."""
    return math.inf if start_time is None else checks.moment("start_time", start_time).timestamp()


def encode_bot_config(config: Mapping[str, Any]) -> bytes:
    """Encode a bot configuration as JSON; aware datetimes become RFC 3339 text. Raises `ConfigurationError`."""
    return encode_object("bot_config", config, "a mapping such as {'bot_name': 'Notes'}")


def encode_object(name: str, value: Mapping[str, Any], expected: str = "a mapping from names to JSON") -> bytes:
    """Encode a mapping as JSON; aware datetimes become RFC 3339 text. Raises `ConfigurationError`."""
    if not isinstance(value, dict):
        value = dict(checks.instance(name, value, Mapping, expected))
    try:
        _check_json(name, value)
        return _encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} must be JSON: {error}") from None


def _check_json(where: str, value: object) -> None:
    """Raise `TypeError` or `ValueError` for values that msgspec would convert: NaN, names that are not text, bytes."""
    if isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                raise TypeError("the names in an object must be texts")
            if type(part) is not str:
                _check_json(where, part)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_json(where, part)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} cannot be written in JSON")
    elif isinstance(value, datetime):
        checks.moment_text(f"a time in {where}", value)
    elif value is not None and not isinstance(value, str | int | UUID):
        raise TypeError(f"{type(value).__name__} cannot be written in JSON")


def _plain(value: object) -> str | int | float:
    """Return the plain value of an instance of a subclass, which msgspec cannot encode."""
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) else float(value)  # type: ignore[arg-type]


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
