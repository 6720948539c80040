"""Read the three signed headers of a delivery, in the form that any web framework passes them.

Headers are a mapping, an object with `items()`, or pairs of name and value (ASGI's `scope["headers"]`). Names may
have any case, be bytes, or have the form of a WSGI environment. A value is text, bytes, a list of values, or one
value that was split at its commas. If a header occurs several times, all its values are used.

The time is linear in the size of the headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

from ..errors import WebhookVerificationError


class Items(Protocol):
    """Headers that can list their names and values."""

    def items(self) -> Iterable[tuple[Any, Any]]:
        """Return pairs of name and value."""


Headers = Items | Iterable[Iterable[Any]]
"""The headers of a request, as any web framework passes them."""

_PREFIXES = ("webhook", "svix")
_NAMES = frozenset(f"{prefix}-{part}" for prefix in _PREFIXES for part in ("id", "timestamp", "signature"))
_LONGEST_NAME = len("HTTP_WEBHOOK_TIMESTAMP")
_SINGLE = (str, bytes, bytearray, memoryview, int)
"""The types of a single value."""


class Signed(NamedTuple):
    """The signed headers of a delivery."""

    message_id: str
    timestamp: str
    signatures: list[bytes]
    """The base64 text of every v1 signature."""


def read_signed(headers: Headers) -> Signed:
    """Find the signed headers.

    Raises `WebhookVerificationError` if one is missing, `TypeError` if `headers` has none of the supported forms.
    """
    found: dict[str, list[str]] = {name: [] for name in _NAMES}
    for name, value in _pairs(headers):
        if (plain := _plain_name(name)) in _NAMES:
            found[plain] += _values(value)
    for prefix in _PREFIXES:
        # A proxy may repeat a header: equal values count once, different values match no signature.
        message_id, timestamp = (",".join(dict.fromkeys(found[f"{prefix}-{part}"])) for part in ("id", "timestamp"))
        signature = ",".join(found[f"{prefix}-signature"])
        if message_id and timestamp and signature:
            break
    else:
        raise WebhookVerificationError(
            "the delivery is not signed: it needs the headers webhook-id, webhook-timestamp and webhook-signature (or "
            "svix-...). Recall.ai signs deliveries once a secret was created in its dashboard"
        )
    if not re.fullmatch("[0-9]{1,11}", timestamp):
        raise WebhookVerificationError(
            f"{prefix}-timestamp must be a number of seconds since 1970, got {timestamp!r:.40}"
        )
    # Base64 contains neither commas nor spaces, so each v1 is followed by its signature however the value was split.
    words = [word for word in re.split(r"[,\s]+", signature) if word]
    return Signed(message_id, timestamp, [encoded(second) for first, second in pairwise(words) if first == "v1"])


def encoded(text: str) -> bytes:
    """Encode a header's text, whatever characters it contains."""
    return text.encode("utf-8", "backslashreplace")


def _pairs(headers: Headers) -> Iterator[tuple[Any, Any]]:
    items = getattr(headers, "items", None)
    source = items() if callable(items) else headers
    if isinstance(source, str | bytes | bytearray) or not isinstance(source, Iterable):
        raise TypeError(f"headers must be a mapping or pairs of name and value, got {type(headers).__name__}")
    for pair in source:
        try:
            name, value = pair
        except (TypeError, ValueError):
            raise TypeError(f"headers must be pairs of name and value, got {type(pair).__name__} among them") from None
        yield name, value


def _plain_name(name: object) -> str:
    """Return the name in lower case with hyphens; empty if it cannot be one of the signed headers."""
    if not isinstance(name, str | bytes | bytearray) or len(name) > _LONGEST_NAME:
        return ""
    return _text(name).lower().replace("_", "-").removeprefix("http-")


def _values(value: object) -> Iterator[str]:
    """Yield the non-empty strings in a value."""
    parts = value if isinstance(value, Iterable) and not isinstance(value, _SINGLE) else (value,)
    for part in parts:
        if isinstance(part, _SINGLE) and (text := _text(part).strip()):
            yield text


def _text(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).decode("latin-1")
    return str(value)
