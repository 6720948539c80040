"""Decode responses: the requested object, or how long to wait.

https://docs.recall.ai/reference/rate-limits
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec
from msgspec.structs import force_setattr

from .errors import ResponseDecodeError
from .lenient import repaired
from .models import Calendar, CalendarEvent, Page
from .operations import OPERATIONS, Operation
from .secrecy import one_line

T = TypeVar("T")

FOR_EVER: Final = 1e9
"""The longest wait in seconds, about thirty years: clocks and timers have limits."""
MAX_REPAIRED: Final = 2**21
"""The largest body, in bytes, that is repaired if it cannot be decoded: this takes about 0.3 s per MiB."""
UNPROVEN: Final = frozenset({408, 499, 502, 503, 504, *range(520, 600)})
"""Statuses that a gateway may send itself: they do not prove that the application received the request."""


class Response:
    """The server's response to one request."""

    __slots__ = ("_content", "headers", "status")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status: int = status
        self.headers: Mapping[str, str] = headers
        """By lower-case name."""
        self._content = msgspec.Raw(body)  # a `Raw` does not show its content

    @property
    def body(self) -> bytes:
        """The body of the response."""
        return bytes(self._content)

    def decode(self, decoder: msgspec.json.Decoder[T]) -> T:
        """Decode the body without repairing it."""
        return decoder.decode(self._content)

    @property
    def size(self) -> int:
        """The size of the body in bytes."""
        return memoryview(self._content).nbytes

    def __repr__(self) -> str:
        return f"<Response {self.status}, {self.size} bytes>"


_ANYTHING = msgspec.json.Decoder()
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_PAGE = msgspec.json.Decoder(Page[dict[str, msgspec.Raw]])
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {
    object: _ANYTHING,
    **{operation.answer: msgspec.json.Decoder(operation.answer) for operation in OPERATIONS.values()},
}


def decode(operation: Operation[T], response: Response, masked: Callable[[str], str]) -> T:
    """Decode the object in a successful response; `None` if the operation has none.

    Raises `ResponseDecodeError`, with the API key hidden by `masked`.
    """
    if operation.answer is type(None) or (operation.answer is object and response.size == 0):
        return None  # type: ignore[return-value]
    decoder: msgspec.json.Decoder[T] = _DECODERS[operation.answer]
    try:
        return response.decode(decoder)
    except msgspec.ValidationError as error:
        reason = str(error)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error)
        if response.size <= MAX_REPAIRED:
            # One invalid value in one event must not make a page of a hundred events unreadable.
            try:
                return decoder.decode(repaired(response.body))
            except msgspec.ValidationError as error:
                reason = str(error)
            except (msgspec.DecodeError, RecursionError):
                pass
    # Not chained to the decoder's exception, which may quote the body.
    raise ResponseDecodeError(_undecodable(operation, response, masked(reason), masked))


def keep_extra(answer: Any, response: Response) -> None:
    """Store response fields that the model does not know as `extra` of the objects."""
    one = not isinstance(answer, Page)
    decoder: msgspec.json.Decoder[Any] = _FIELDS if one else _PAGE
    try:
        found = response.decode(decoder)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = decoder.decode(repaired(response.body))
    for item, fields in [(answer, found)] if one else zip(answer.results, found.results, strict=True):
        if isinstance(item, CalendarEvent | Calendar):
            extra = {name: value for name, value in fields.items() if name not in item.__struct_encode_fields__}
            if extra:
                force_setattr(item, "raw_extra", msgspec.Raw(msgspec.json.encode(extra)))


def _undecodable(operation: Operation[Any], response: Response, reason: str, masked: Callable[[str], str]) -> str:
    effect = "" if operation.method == "GET" else " The request has most likely taken effect."
    said = (
        f"{operation.name} got a {response.status} that differs from the API's documentation: {one_line(reason, 150)}."
    )
    if response.size == 0:
        return f"{said} The body has 0 bytes.{effect} Check whether base_url leads to the API, or to a proxy."
    body = f"The body has {response.size} bytes"
    if not operation.secret:
        body += f" and begins with {one_line(masked(response.body[:400].decode('utf-8', 'replace')), 60)!r}"
    return f"{said} {body}.{effect} Check base_url, and whether a newer recall_async knows the response."


_NUMBERS = re.compile(r"[\d\s.]+(,[\d\s.]+)+", re.ASCII)


def told(headers: Iterable[tuple[str, str]], masked: Callable[[str], str]) -> dict[str, str]:
    """Return headers by lower-case name, without the API key. Of several `Retry-After`, keep the longest."""
    found: dict[str, str] = {}
    waits: list[str] = []
    for name, value in headers:
        name, value = masked(name).lower(), masked(value)
        if name == "retry-after":
            waits += value.split(",") if _NUMBERS.fullmatch(value) else [value]  # a proxy may have joined several
        found[name] = value
    if len(waits) > 1:
        found["retry-after"] = max(waits, key=lambda text: _wait(text, found, None) or 0.0).strip()
    return found


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """Return the seconds of `Retry-After`, or `None`: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after"""
    return _wait(headers.get("retry-after", ""), headers, now)


def _wait(text: str, headers: Mapping[str, str], now: datetime | None) -> float | None:
    text = text.strip()
    if not text:
        return None
    if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
        return min(float(text), FOR_EVER)
    when = _http_date(text)
    if when is None:
        return None
    since = _http_date(headers.get("date", "")) or now or datetime.now(UTC)
    return min(max(0.0, (when - since).total_seconds()), FOR_EVER)


def _http_date(text: str) -> datetime | None:
    from email.utils import parsedate_to_datetime  # rarely needed, and slow to import

    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
