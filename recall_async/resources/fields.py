"""Checks of what a caller passes, made before anything is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import msgspec

from ..errors import ConfigurationError

MAX_DEDUPLICATION_KEY = 2000
"""Characters: https://docs.recall.ai/reference/calendar_events_bot_create"""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)


def check_id(value: str | UUID, name: str) -> str:
    """An id as it stands in a path. Raises `ConfigurationError` for anything but a UUID."""
    if isinstance(value, UUID):
        return str(value)
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise ConfigurationError(
            f"{name} is {_short(value)}: it is a UUID, such as 2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"
        )
    return value.lower()


def check_deduplication_key(value: str) -> str:
    """A deduplication key that the API will take. Raises `ConfigurationError`."""
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"deduplication_key is {_short(value)}: it is a text that is not empty")
    if len(value) > MAX_DEDUPLICATION_KEY:
        raise ConfigurationError(
            f"deduplication_key has {len(value)} characters: the API takes {MAX_DEDUPLICATION_KEY} at the most"
        )
    return check_text(value, "deduplication_key")


def encode_bot_config(config: Mapping[str, Any]) -> bytes:
    """A bot configuration as JSON; aware datetimes become RFC 3339 text. Raises `ConfigurationError`."""
    if not isinstance(config, dict):
        if not isinstance(config, Mapping):
            raise ConfigurationError(
                f"bot_config is {_short(config)}: it is a mapping, such as {{'bot_name': 'Notes'}}"
            )
        config = dict(config)
    try:
        _check_json(config)
        return _encode_config(config)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"bot_config cannot be written as JSON: {error}") from None


def check_time(value: datetime | str, name: str) -> str:
    """A time as RFC 3339 text. Raises `ConfigurationError` for a naive datetime, or text that is not such a time."""
    when = parse_time(value, name)
    return value if isinstance(value, str) else when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def parse_time(value: datetime | str, name: str) -> datetime:
    """A time as an aware datetime. Raises `ConfigurationError` as `check_time` does."""
    when = None
    with suppress(msgspec.ValidationError, OverflowError):
        when = msgspec.convert(value, datetime) if isinstance(value, str) else value
        if isinstance(when, datetime) and when.utcoffset() is not None and when.astimezone(UTC):
            return when
    if isinstance(when, datetime) and when.utcoffset() is None:
        raise ConfigurationError(f"{name} has no time zone: use datetime.now(UTC) or .astimezone()")
    raise ConfigurationError(f"{name} is {_short(value)}: it is a time such as 2025-06-10T18:54:18Z")


def check_text(value: str, name: str) -> str:
    """A text that can be sent. Raises `ConfigurationError`."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is {_short(value)}: it is a text")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{name} cannot be sent as text: {error}") from None
    return value


def encode_query(values: Mapping[str, str | UUID | datetime | bool | None]) -> dict[str, str]:
    """The filters of a list as they stand in a query; those that are `None` are left out."""
    return {name: _filter(name, value) for name, value in values.items() if value is not None}


def _filter(name: str, value: Any) -> str:
    if name.endswith("_id"):
        return check_id(value, name)
    if name.partition("__")[0] in ("start_time", "updated_at", "created_at"):
        return check_time(value, name)
    if name.startswith("is_"):
        if not isinstance(value, bool):
            raise ConfigurationError(f"{name} is {_short(value)}: it is True or False")
        return "true" if value else "false"
    if name == "cursor" and "cursor=" in check_text(value, name):
        raise ConfigurationError(f"cursor is {_short(value)}: it is a page's `next`, of which the cursor is a part")
    return check_text(value, name)


def _check_json(value: object) -> None:
    """Raise `TypeError` or `ValueError` for what msgspec writes as something else: NaN as null, 1 as a name, bytes."""
    if isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                raise TypeError("the names in an object are texts")
            if type(part) is not str:
                _check_json(part)
    elif isinstance(value, list | tuple):
        for part in value:
            _check_json(part)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no number in JSON")
    elif isinstance(value, datetime):
        check_time(value, "a time in bot_config")
    elif value is not None and not isinstance(value, str | int | UUID):
        raise TypeError(f"{type(value).__name__} is no JSON")


def _plain(value: object) -> str | int | float:
    """The value of a subclass of such a type, which msgspec does not know."""
    if isinstance(value, str):
        return str.__str__(value)
    return int(value) if isinstance(value, int) else float(value)  # type: ignore[arg-type]


_encode_config = msgspec.json.Encoder(enc_hook=_plain).encode


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
