"""Check and encode the fields of requests: deduplication key, start time, `bot_config`, and `extra` fields."""

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
"""The most characters: https://docs.recall.ai/reference/calendar_events_bot_create"""

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def check_deduplication_key(value: str) -> str:
    """Check a deduplication key as the API does. Raises `ConfigurationError`."""
    return checks.plain(checks.text("deduplication_key", value, at_most=MAX_DEDUPLICATION_KEY))


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


def merged(body: bytes, extra: Mapping[str, Any] | None) -> bytes:
    """Add fields that this package does not know to the JSON object of a request's body.

    Raises `ConfigurationError` for a field that it contains.
    """
    if not extra:
        return body
    added, named = _FIELDS.decode(encode_object("extra", extra)), _FIELDS.decode(body)
    for name in added:
        if name in named:
            raise ConfigurationError(f"extra must not hold {name!r}, which has a parameter of its own")
    return msgspec.json.encode({**named, **added})


def _check_json(where: str, value: object) -> None:
    """Raise `TypeError` or `ValueError` for values that msgspec would convert: NaN, names that are not strings, bytes."""
    if isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                raise TypeError("the names in an object must be strings")
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
        return checks.plain(value)
    if isinstance(value, datetime):
        return checks.moment_text("a time", value)
    return int(value) if isinstance(value, int) else float(value)  # type: ignore[arg-type]


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
