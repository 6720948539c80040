"""What an answer says: the object that was asked for, or when to come back and which exception it is.

https://docs.recall.ai/reference/errors and https://docs.recall.ai/reference/rate-limits
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import msgspec

from . import errors
from .errors import APIError, ResponseDecodeError
from .operations import OPERATIONS, Operation


class Answer(NamedTuple):
    """What the server answered to one attempt."""

    status: int
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    def __repr__(self) -> str:  # without the body, which may be large, or private
        return f"<Answer {self.status}, {len(self.body)} bytes>"


FOR_EVER = 1e9
"""Seconds, some thirty years: no wait is longer, since clocks and timers have limits."""
MAX_PAGE = 10_000
"""Bytes of a page of HTML that are searched for its text: the search takes quadratic time on the most hostile."""

_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    operation.name: msgspec.json.Decoder(operation.answer) for operation in OPERATIONS.values() if operation.answer
}

RAISED: dict[int, type[APIError]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    402: errors.InsufficientCreditError,
    403: errors.RequestBlockedError,
    404: errors.NotFoundError,
    405: errors.BotAlreadyDispatchedError,
    409: errors.ConflictError,
    429: errors.RateLimitedError,
    507: errors.BotPoolExhaustedError,
}

ADVICE: dict[type[APIError], str] = {
    errors.EventEndedError: "Leave out events whose end time has passed.",
    errors.AuthenticationError: "Either the key is wrong, or it belongs to another region: keys work in one region only.",
    errors.InsufficientCreditError: "Add credit to the workspace, then try again.",
    errors.RequestBlockedError: "A firewall in front of the API refused the request: look at its body and your network.",
    errors.NotFoundError: "Check the id, and that it belongs to this workspace and region.",
    errors.BotAlreadyDispatchedError: "The bot is on its way or in the meeting: end it with the Bot API's leave_call.",
    errors.ConflictError: "Another request with the same deduplication key is being worked on: try again later.",
    errors.RateLimitedError: "Somebody outside this session uses the workspace's quota too.",
    errors.BotPoolExhaustedError: "No bot is free this shortly before the meeting: try again, or schedule earlier.",
    errors.ServerError: "The API failed: try again later.",
}


def decode(operation: Operation, answer: Answer, masked: Callable[[str], str]) -> Any:
    """The object that a success brought, or `None` where there is none to bring.

    Raises `ResponseDecodeError`, in which `masked` hides what nobody may read.
    """
    decoder = _DECODERS.get(operation.name)
    if decoder is None:
        return None
    try:
        return decoder.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error)
    begins = masked(answer.body[:1000].decode("utf-8", "replace"))[:80]
    # Not from the decoder's exception: one of them quotes the body.
    raise ResponseDecodeError(
        f"{operation.name} was answered {answer.status}, but not as the API documents: {reason}. "
        f"The body has {len(answer.body)} bytes and begins with {begins!r}."
    )


def retry_after(headers: dict[str, str], now: datetime | None = None) -> float | None:
    """Seconds that the server asks us to wait, if it does: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after"""
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
        return min(float(text), FOR_EVER)
    when = _http_date(text)
    if when is None:
        return None
    since = _http_date(headers.get("date", "")) or now or datetime.now(UTC)
    return max(0.0, (when - since).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        when = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def api_error(operation: str, attempt: int, answer: Answer, after: float | None = None) -> APIError:
    """The exception for an answer that is not a success."""
    code, detail, complaints = _explain(answer)
    kind = RAISED.get(answer.status) or (errors.ServerError if answer.status >= 500 else APIError)
    if answer.status == 400:
        if code == "cannot_delete_bot":
            kind = errors.BotAlreadyDispatchedError
        elif re.search(r"\bha(s|ve) (already )?ended\b|\balready (ended|over)\b", detail or "", re.IGNORECASE):
            kind = errors.EventEndedError
    detail = detail and detail[:500]
    advice = ADVICE.get(kind, "")
    if 300 <= answer.status < 400:
        advice = (
            f"It redirects to {answer.headers.get('location', 'nowhere')!r}, which is not followed: check base_url."
        )
    times = f" after {attempt} attempts" if attempt > 1 else ""
    said = f": {detail}" if detail else ""
    message = f"{operation} was answered {answer.status}{f' ({code})' if code else ''}{times}{said}"
    if after is not None:
        message += f" (Retry-After: {after:g} s)"
    return kind(
        f"{message}. {advice}".rstrip() if advice else message,
        operation=operation,
        attempts=attempt,
        status=answer.status,
        code=code,
        detail=detail,
        errors=complaints,
        headers=answer.headers,
        body=answer.body,
        retry_after=after,
    )


def _explain(answer: Answer) -> tuple[str | None, str | None, dict[str, Any]]:
    """The code, a line of text and the complaints by field, in whichever of its forms the API put them."""
    try:
        document = msgspec.json.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        page = answer.body[:MAX_PAGE].decode("utf-8", "replace")
        text = re.sub(r"<(style|script|head)\b.*?</\1>|<[^>]*>", " ", page, flags=re.S | re.I)
        return None, " ".join(text.split())[:200] or None, {}
    if not isinstance(document, dict):
        return None, str(document)[:200], {}
    code = document.get("code")
    complaints = document.get("errors")
    if not isinstance(complaints, dict):
        known = ("code", "message", "detail", "errors")
        complaints = (
            {k: v for k, v in document.items() if k not in known} if complaints is None else {"errors": complaints}
        )
    lines = [str(document[name]) for name in ("message", "detail") if document.get(name)]
    for field, complaint in complaints.items():
        text = " ".join(map(str, complaint)) if isinstance(complaint, list) else str(complaint)
        lines.append(text if field == "non_field_errors" else f"{field}: {text}")
    return (
        code if isinstance(code, str) else None,
        "; ".join(dict.fromkeys(line.rstrip(". ") for line in lines)) or None,
        complaints,
    )
