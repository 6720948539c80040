"""Webhooks: whether a delivery is authentic, and what it says. Nothing here does any I/O.

Deliveries are signed in the Standard Webhooks way: three headers, `webhook-id`, `webhook-timestamp` and
`webhook-signature`, or the same with `svix-` for accounts from before December 2025. The signature is the base64 of an
HMAC-SHA256 of `{id}.{timestamp}.{body}`, over the raw bytes of the body.

Documentation: https://docs.recall.ai/docs/authenticating-requests-from-recallai,
https://docs.recall.ai/docs/calendar-v2-webhooks and https://www.standardwebhooks.com
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

import msgspec
from msgspec import UNSET, Struct, UnsetType

from .errors import ConfigurationError, WebhookVerificationError

Prefix = Literal["webhook", "svix"]


class CalendarSyncEvents(Struct, frozen=True):
    """`calendar.sync_events`: events of the calendar changed at `last_updated_ts` or later."""

    calendar_id: str
    last_updated_ts: datetime


class CalendarUpdate(Struct, frozen=True):
    """`calendar.update`: the calendar itself changed; it may be disconnected."""

    calendar_id: str


class WebhookEvent(Struct, frozen=True):
    """An authentic delivery. One that is repeated has the same `id`, and a `timestamp` of its own."""

    event: str
    """What happened, such as `calendar.sync_events`."""
    data: CalendarSyncEvents | CalendarUpdate | dict[str, Any]
    """What it concerns; for kinds that are not of Calendar V2, the JSON object as it came."""
    id: str = ""
    timestamp: datetime | None = None


class Headers(Protocol):
    """The headers of a request, as any web framework gives them: multi-valued ones and WSGI's environment too."""

    def items(self) -> Iterable[tuple[str | bytes, str | bytes | Sequence[str | bytes]]]:
        """Names and values."""


class WebhookVerifier:
    """Tells authentic deliveries from others.

    `secrets`: one, or all that are in use while they are rotated; each `whsec_` and base64, as the dashboard shows it.
    `tolerance`: seconds by which a delivery's timestamp may be off, either way. `clock` gives seconds since 1970.

    Raises `ConfigurationError` for secrets that cannot be any.
    """

    __slots__ = ("_clock", "_keys", "_tolerance")

    def __init__(
        self, secrets: str | Iterable[str], tolerance: float = 300.0, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = [_key(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets or ())]
        if not self._keys:
            raise ConfigurationError("there is no webhook secret, so no delivery could be verified")
        if not tolerance > 0:
            raise ConfigurationError(f"tolerance is {tolerance!r}: it is a number of seconds above 0")
        self._tolerance = tolerance
        self._clock = clock

    def verify(self, headers: Headers, body: bytes | bytearray | memoryview) -> WebhookEvent:
        """What an authentic delivery says. `body` is the raw body: decoded and encoded again, it would not match.

        Raises `WebhookVerificationError` for any other delivery: answer it with status 400.
        """
        if not isinstance(body, bytes | bytearray | memoryview):
            raise TypeError(f"body is of type {type(body).__name__}: the signature covers the raw bytes of the request")
        body = bytes(body)
        message_id, timestamp, signatures = _signed_headers(headers)
        off = int(timestamp) - self._clock()
        if not abs(off) <= self._tolerance:
            raise WebhookVerificationError(
                f"the delivery's timestamp is {abs(off):.0f} s in the {'future' if off > 0 else 'past'}, "
                f"beyond the tolerance of {self._tolerance:g} s: it is a replay, or this clock is wrong"
            )
        expected = [_signature(key, message_id, timestamp, body) for key in self._keys]
        matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in signatures]
        if not any(matches):
            raise WebhookVerificationError(
                "no signature matches: the secret is another endpoint's, or the body is not the bytes that were sent"
            )
        return _decode(body, message_id, datetime.fromtimestamp(int(timestamp), UTC))

    def __repr__(self) -> str:
        return f"<WebhookVerifier secrets={len(self._keys)} tolerance={self._tolerance:g}>"


def sign(
    body: bytes,
    secret: str,
    *,
    message_id: str = "msg_test",
    timestamp: float | None = None,
    prefix: Prefix = "webhook",
) -> dict[str, str]:
    """The headers that make `body` an authentic delivery, for tests. `timestamp` is in seconds since 1970, by default now.

    Raises `ConfigurationError` for a secret that cannot be one.
    """
    moment = str(int(time.time() if timestamp is None else timestamp))
    signature = _signature(_key(secret), message_id, moment, body)
    return {
        f"{prefix}-id": message_id,
        f"{prefix}-timestamp": moment,
        f"{prefix}-signature": f"v1,{signature.decode()}",
    }


def _key(secret: str) -> bytes:
    try:
        key = b64decode(secret.strip().removeprefix("whsec_"), validate=True)
    except (AttributeError, TypeError, ValueError):
        key = b""
    if not key:
        # The secret itself has no place in a message.
        raise ConfigurationError("a webhook secret is whsec_ and base64, as the dashboard shows it: this one is not")
    return key


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> bytes:
    signed = b"%b.%b.%b" % (_encoded(message_id), timestamp.encode(), body)
    return b64encode(hmac.digest(key, signed, hashlib.sha256))


_PARTS = ("id", "timestamp", "signature")
_NAMES = frozenset(f"{prefix}-{part}" for prefix in ("webhook", "svix") for part in _PARTS)


def _signed_headers(headers: Headers) -> tuple[str, str, list[bytes]]:
    """The id, the timestamp, and the signatures of the version that is known."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        plain = _text(name).lower().replace("_", "-").removeprefix("http-")
        if plain in _NAMES:
            values = value if isinstance(value, list | tuple) else [value]
            found[plain] = " ".join([*filter(None, [found.get(plain)]), *map(_text, values)])
    for prefix in ("webhook", "svix"):
        message_id, timestamp, signature = (found.get(f"{prefix}-{part}", "") for part in _PARTS)
        if message_id and timestamp and signature:
            break
    else:
        raise WebhookVerificationError(
            "the delivery is not signed: webhook-id, webhook-timestamp and webhook-signature (or svix-...) belong to it. "
            "Recall.ai signs once a secret was created in its dashboard"
        )
    if not re.fullmatch("[0-9]{1,11}", timestamp):
        raise WebhookVerificationError(f"{prefix}-timestamp is not a number of seconds")
    return message_id, timestamp, [_encoded(text[3:]) for text in signature.split() if text.startswith("v1,")]


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


class _Envelope(Struct):
    event: str
    data: msgspec.Raw | UnsetType = UNSET


class _SyncEvents(Struct):
    calendar_id: str
    last_updated_ts: str


_envelopes = msgspec.json.Decoder(_Envelope)
_syncs = msgspec.json.Decoder(_SyncEvents)
_updates = msgspec.json.Decoder(CalendarUpdate)
_objects = msgspec.json.Decoder(dict[str, Any] | None)


def _decode(body: bytes, message_id: str, timestamp: datetime) -> WebhookEvent:
    data: CalendarSyncEvents | CalendarUpdate | dict[str, Any]
    try:
        envelope = _envelopes.decode(body)
        raw = b"{}" if envelope.data is UNSET else envelope.data
        match envelope.event:
            case "calendar.sync_events":
                sync = _syncs.decode(raw)
                data = CalendarSyncEvents(sync.calendar_id, _moment(sync.last_updated_ts))
            case "calendar.update":
                data = _updates.decode(raw)
            case _:
                data = _objects.decode(raw) or {}
    except (ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
        raise WebhookVerificationError(f"the delivery is authentic, but not what the API documents: {error}") from error
    return WebhookEvent(envelope.event, data, message_id, timestamp)


def _moment(text: str) -> datetime:
    """ISO 8601 with or without an offset, which the documentation leaves open."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
