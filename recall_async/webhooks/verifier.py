"""`WebhookVerifier`: verify that deliveries are authentic.

Deliveries are signed as Standard Webhooks defines, with three headers: `webhook-id`, `webhook-timestamp` and
`webhook-signature`, or the same with `svix-` for accounts from before December 2025. The signature is the base64 of
the HMAC-SHA256 of `{id}.{timestamp}.{body}`, with the raw bytes of the body.

Documentation: https://docs.recall.ai/docs/authenticating-requests-from-recallai and https://www.standardwebhooks.com
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Literal, NoReturn, Self

from .. import checks
from ..errors import ConfigurationError, WebhookVerificationError
from .events import WebhookEvent, decode
from .headers import Headers, encoded, read_signed

Prefix = Literal["webhook", "svix"]
SHORTEST_SECRET = 16
"""Bytes. A shorter secret is a typing mistake or can be guessed."""


class WebhookVerifier:
    """Verify webhook deliveries, and decode those that are authentic.

    - `secrets`: one secret, or, during a rotation, all secrets in use. Each is `whsec_` and the base64 of at least 16
      bytes, as the dashboard shows it.
    - `tolerance`: the largest difference in seconds between a delivery's timestamp and the clock, in either direction.
    - `clock`: returns the seconds since 1970; for tests.

    Raises `ConfigurationError` for an invalid secret or tolerance. docs/webhooks.md
    """

    __slots__ = ("_clock", "_keys", "_tolerance")

    def __init__(
        self, secrets: str | Iterable[str], tolerance: float = 300.0, *, clock: Callable[[], float] = time.time
    ) -> None:
        if not isinstance(secrets, str | Iterable) or isinstance(secrets, bytes | bytearray):
            raise ConfigurationError(f"secrets must be one webhook secret or several, got {type(secrets).__name__}")
        self._keys = [_key(secret) for secret in ([secrets] if isinstance(secrets, str) else secrets)]
        if not self._keys:
            raise ConfigurationError("secrets must hold at least one webhook secret, got none")
        self._tolerance = checks.seconds("tolerance", tolerance, endless=True)
        self._clock = clock

    def verify(self, headers: Headers, body: bytes | bytearray | memoryview) -> WebhookEvent:
        """Verify a delivery and return its decoded event.

        `headers` are the request's headers, in the form that any web framework passes them. `body` is the raw body:
        JSON that was decoded and encoded again would not match the signature.

        Raises `WebhookVerificationError` for a delivery that is not authentic: respond with status 400. Raises
        `WebhookDecodeError` for an authentic delivery that cannot be decoded: log it and respond with status 204,
        because Recall.ai disables an endpoint whose deliveries keep failing.
        """
        if not isinstance(body, bytes | bytearray | memoryview):
            raise TypeError(f"body must be the raw bytes of the request, got {type(body).__name__}")
        body = bytes(body)
        message_id, timestamp, signatures = read_signed(headers)
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
                "no signature matches: the secret belongs to another endpoint, or the body is not the bytes that were sent"
            )
        return decode(body, message_id, datetime.fromtimestamp(int(timestamp), UTC))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a WebhookVerifier cannot be pickled, because its secrets would be: create one in each process")

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
    """Return the headers that sign `body`, for tests. `timestamp` is in seconds since 1970, by default now.

    Raises `ConfigurationError` for an invalid secret. docs/webhooks.md
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
    if len(key) < SHORTEST_SECRET:
        # The message must not contain the secret.
        raise ConfigurationError(
            f"a webhook secret must be whsec_ and base64 of at least {SHORTEST_SECRET} bytes, as the dashboard shows it; "
            + (f"this one has {len(key)} bytes" if key else "this one is not")
        )
    return key


def _signature(key: bytes, message_id: str, timestamp: str, body: bytes) -> bytes:
    signed = b"%b.%b.%b" % (encoded(message_id), timestamp.encode(), body)
    return b64encode(hmac.digest(key, signed, hashlib.sha256))
