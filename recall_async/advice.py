"""Make the exception for an error response: what happened, whether it took effect, and what to do next.

https://docs.recall.ai/reference/errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from . import errors
from .answers import UNPROVEN, Response
from .errors import APIError, RecallError
from .models import SECRET_FIELDS
from .operations import (
    CREATE_ACCESS_TOKEN,
    CREATE_CALENDAR,
    LIST_BOTS,
    LIST_CALENDARS,
    LIST_EVENTS,
    REMOVE_BOT,
    SCHEDULE_BOT,
    Operation,
)
from .secrecy import KeyMask, Secret, SecretBytes, one_line

MAX_PAGE: Final = 10_000
"""Maximum number of bytes of an HTML page to search for text, because the search may take quadratic time."""
MAX_DETAIL: Final = 500
"""Maximum number of characters of `APIError.detail`."""

RAISED: dict[int, type[APIError]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    402: errors.InsufficientCreditError,
    403: errors.RequestBlockedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    429: errors.RateLimitedError,
    507: errors.BotPoolExhaustedError,
}

_NO_API = "base_url may not lead to the API: it must not have a path of its own, unless a proxy needs one."
_ENDED = re.compile(
    r"\b(?:event|meeting)s?\b[^.;]{0,40}\bha(?:s|ve) (?:already )?ended\b|\b(?:event|meeting)\b[^.;]{0,40}\balready over\b",
    re.IGNORECASE,
)
_FIELD = re.compile(r"[a-z][a-z_]{0,39}")

ADVICE: dict[type[APIError], str] = {
    errors.EventEndedError: "Leave out events whose end time has passed.",
    errors.AuthenticationError: "Either the key is wrong, or it belongs to another region: keys work in one region only.",
    errors.InsufficientCreditError: "Add credit to the workspace, then try again.",
    errors.RequestBlockedError: "A firewall in front of the API refused the request: look at its body and your network.",
    errors.NotFoundError: "Check the id, and that it belongs to this workspace and region.",
    errors.BotAlreadyDispatchedError: (
        "The bot is joining the meeting or in it, so it cannot be removed any more. To end its call, use "
        "recall.bots.leave_call(bot_id) with the bot_id of the event's `bots`, or `recall-async bots leave`."
    ),
    errors.ConflictError: "Another request with the same deduplication key is in progress: try again later.",
    errors.RateLimitedError: "Another client uses the workspace's quota, too.",
    errors.BotPoolExhaustedError: "No bot is free this shortly before the meeting: try again, or schedule earlier.",
    errors.ServerError: "The API failed: try again later.",
}
"""Advice for each kind of error, unless more specific advice applies."""

_BY_STATUS: dict[int, str] = {
    304: "A cache responded, although this library sends no conditional requests: check the proxies in between.",
    405: f"The server does not know this request. {_NO_API}",
    406: "The server does not offer JSON here: check base_url.",
    408: "The server did not receive the request in time: check the network, then try again.",
    410: "The object was deleted.",
    413: "The body is too large for the server: make the bot's configuration smaller.",
    422: "The request is invalid: correct what the response names.",
}

_REFUSED = "The server refused the request without a reason: check base_url, and the proxies on the way."
_EARLIER = "An earlier attempt had no response"

IN_DETAIL: Final = "The API's own message may contain secrets; it is in the exception's `detail`."
SAFE_TO_REPEAT: Final = "Calling it again is safe."


def effect_of(operation: Operation[Any]) -> str:
    """Return a sentence that says whether a request without a response may have taken effect, and how to repeat it."""
    if operation.method == "GET":
        return SAFE_TO_REPEAT
    if operation is CREATE_CALENDAR:
        return (
            "The calendar may have been created: look for it with calendars.list before you call again, or pass the same "
            "idempotency_key within the hour."
        )
    if operation.answer is object:
        return (
            "The request may have taken effect: look before you send it again, or pass the same idempotency_key within the "
            "hour."
        )
    return "The request may have taken effect; calling it again is safe."


def earlier_effect_of(operation: Operation[Any]) -> str:
    """Return what to say of an earlier attempt without a response."""
    return f"{_EARLIER}. {effect_of(operation)}"


def add_sentence(error: RecallError, sentence: str) -> None:
    """Add a sentence to an error's message."""
    error.args = (one_line(f"{str(error).rstrip('. ')}. {sentence}"),)


def api_error(
    operation: Operation[Any],
    attempts: int,
    response: Response,
    after: float | None = None,
    mask: KeyMask | None = None,
    *,
    cursor: bool = False,
    sent: bytes | None = None,
    in_doubt: bool = False,
) -> APIError:
    """Return the exception for an unsuccessful response.

    `mask` hides the API key in the response. `sent` is the body of the request; its secrets are hidden, too. `cursor` is
    true if the request was for a later page of a list, `in_doubt` if an earlier attempt may have taken effect.
    """
    masks = [] if mask is None else [mask]
    if operation.secret and sent is not None:
        masks += [KeyMask(Secret(value)) for value in _secrets_in(sent)]
    body = response.body
    for hidden in masks:
        body = hidden.body(body)
    code, detail, complaints = _explain(body)
    for hidden in masks:
        code, detail, complaints = hidden.document([code, detail, complaints])
    kind = _kind(operation, response.status, code, detail)
    said = ""
    named = code is not None and (not operation.secret or _FIELD.fullmatch(code) is not None)
    detail = detail and detail[:MAX_DETAIL]
    if operation.secret:
        # The response may quote the request.
        fields = ", ".join(name for name in complaints if _FIELD.fullmatch(name))
        said = f": it refuses {fields}" if fields and 400 <= response.status < 500 else ""
        detail, complaints, body = _secret(detail), _secret(complaints), SecretBytes(body)
        code = code if named else _secret(code)
    elif detail:
        said = f": {one_line(detail, 200).rstrip('. ')}"
    message = f"{operation.name} failed with {response.status}"
    if code and named:
        message += f" ({one_line(code, 60)})"
    if attempts > 1:
        message += f" after {attempts} attempts"
    message += said
    if after is not None:
        message += f" (Retry-After: {after:g} s)"
    advice = _advice(operation, response, kind, code, detail, cursor)
    if in_doubt and operation.method != "GET" and effect_of(operation) not in advice:
        if response.status in (404, 410) and operation.method == "DELETE" and operation is not REMOVE_BOT:
            advice = f"{_EARLIER} and has most likely taken effect: the object is gone."
        else:
            advice = f"{advice} {earlier_effect_of(operation)}".strip()
    if operation.secret and detail and 400 <= response.status < 500:
        advice = f"{IN_DETAIL} {advice}".strip()
    if advice:
        message += f". {advice}"
    return kind(
        message,
        operation=operation.name,
        attempts=attempts,
        status=response.status,
        code=code,
        detail=detail,
        errors=complaints,
        headers=response.headers,
        body=body,
        retry_after=after,
    )


def _kind(operation: Operation[Any], status: int, code: str | None, detail: str | None) -> type[APIError]:
    if status == 400 and code == "cannot_delete_bot":
        return errors.BotAlreadyDispatchedError
    if status == 400 and _ENDED.search(detail or ""):
        return errors.EventEndedError
    if status == 405 and operation in (SCHEDULE_BOT, REMOVE_BOT):
        return errors.BotAlreadyDispatchedError
    return RAISED.get(status) or (errors.ServerError if status >= 500 else APIError)


def _advice(
    operation: Operation[Any],
    response: Response,
    kind: type[APIError],
    code: str | None,
    detail: str | None,
    cursor: bool,
) -> str:
    status = response.status
    a_list = operation in (LIST_EVENTS, LIST_CALENDARS, LIST_BOTS)
    on_a_bot = operation in (SCHEDULE_BOT, REMOVE_BOT)
    if 300 <= status < 400 and status != 304:
        where = response.headers.get("location")
        to = f"It redirects to {one_line(where, 120)!r}, which is not followed" if where else "It redirects to nowhere"
        return f"{to}: check base_url."
    if status == 404 and cursor:
        return "The cursor is invalid or has expired, or the page does not exist: read the list from its beginning."
    if status == 404 and (a_list or operation is CREATE_CALENDAR):
        return _NO_API
    if (
        status == 403
        and re.search(r"\bpermission|not allowed\b", detail or "", re.IGNORECASE)
        and code != "request_blocked"
    ):
        return "The API key may not do this: look at its permissions in the dashboard."
    if status == 409 and not on_a_bot:
        return "Another request with the same idempotency key is in progress: try again later."
    if status == 507 and operation is not SCHEDULE_BOT:
        return "The API has no room for the request: try again later."
    if status == 400 and operation is CREATE_ACCESS_TOKEN and code in ("no_oauth_credentials", "bad_refresh_token"):
        return "Connect the calendar again: its OAuth credentials are missing or no longer valid."
    if status in UNPROVEN or (status >= 500 and operation.method != "GET" and kind is errors.ServerError):
        return f"{_BY_STATUS.get(status, ADVICE[errors.ServerError])} {effect_of(operation)}"
    advice = ADVICE.get(kind) or _BY_STATUS.get(status, "")
    return advice if advice or detail else _REFUSED


def _secrets_in(sent: bytes) -> list[str]:
    fields = msgspec.json.decode(sent)
    return [value for name, value in fields.items() if name in SECRET_FIELDS and isinstance(value, str)]


def _secret(value: Any) -> Any:
    """Return the same value with its strings hidden in representations."""
    if isinstance(value, str):
        return Secret(value)
    if isinstance(value, Mapping):
        return {name if _FIELD.fullmatch(name) else Secret(name): _secret(part) for name, part in value.items()}
    return [_secret(part) for part in value] if isinstance(value, list) else value


def _explain(body: bytes) -> tuple[str | None, str | None, dict[str, Any]]:
    """Return the code, one line of text, and the messages by field. The API has several forms for them."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        page = body[:MAX_PAGE].decode("utf-8", "replace")
        text = re.sub(r"<(style|script|head)\b.*?</\1>|<[^>]*>", " ", page, flags=re.S | re.I)
        return None, one_line(" ".join(text.split()), 200) or None, {}
    if not isinstance(document, dict):
        return None, one_line(str(document), 200) if document else None, {}
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
