"""Checks of what a caller passes, made before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from .. import checks
from ..errors import ConfigurationError

MAX_DEDUPLICATION_KEY = 2000
"""Characters: https://docs.recall.ai/reference/calendar_events_bot_create"""


def check_id(value: str | UUID, name: str) -> str:
    """Write an id as it stands in a path. Raises `ConfigurationError` for anything but a UUID."""
    return checks.uuid(name, value)


def check_deduplication_key(value: str) -> str:
    """Check a deduplication key as the API does. Raises `ConfigurationError`."""
    return checks.text("deduplication_key", value, at_most=MAX_DEDUPLICATION_KEY)


def encode_bot_config(config: Mapping[str, Any]) -> bytes:
    """A bot configuration as JSON; aware datetimes become RFC 3339 text. Raises `ConfigurationError`."""
    if not isinstance(config, dict):
        config = dict(checks.instance("bot_config", config, Mapping, "a mapping such as {'bot_name': 'Notes'}"))
    try:
        _check_json(config)
        return _encode_config(config)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"bot_config must be JSON: {error}") from None


def check_time(value: datetime | str, name: str) -> str:
    """Write a time as RFC 3339 text. Raises `ConfigurationError` for a naive datetime, or text that is not such a time."""
    return checks.moment_text(name, value)


def parse_time(value: datetime | str, name: str) -> datetime:
    """Read a time as an aware datetime. Raises `ConfigurationError` as `check_time` does."""
    return checks.moment(name, value)


def encode_query(values: Mapping[str, str | UUID | datetime | bool | None]) -> dict[str, str]:
    """The filters of a list as they stand in a query; those that are `None` are left out."""
    return {name: _filter(name, value) for name, value in values.items() if value is not None}


def _filter(name: str, value: Any) -> str:
    if name.endswith("_id"):
        return check_id(value, name)
    if name.partition("__")[0] in ("start_time", "updated_at", "created_at"):
        return check_time(value, name)
    if name.startswith("is_"):
        return "true" if checks.flag(name, value) else "false"
    if name == "cursor" and "cursor=" in checks.text(name, value):
        raise checks.invalid("cursor", "the `cursor` parameter of a page's `next`, not the whole URL", value)
    return checks.text(name, value, empty=True)


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
