"""Errors of a server that sends the API key back: no part of the exception shows it, however it was escaped."""

from __future__ import annotations

import html
import json
from typing import Any
from urllib.parse import unquote

from recall_async.advice import api_error
from recall_async.answers import Response, told
from recall_async.operations import OPERATIONS
from recall_async.secrecy import KeyMask, Secret
from tests.fuzz.inputs import KEY, check_message, documents

_OPERATIONS = sorted(OPERATIONS.values(), key=lambda operation: operation.name)
_STATUSES = (400, 401, 402, 403, 404, 405, 408, 409, 410, 422, 429, 500, 502, 503, 507, 302, 304, 418)
_MASK = KeyMask(Secret(KEY))
PLACE = b"KEY"
"""Where the key is put into the body."""


def seeds() -> list[bytes]:
    """Errors in every known form, with the key in them."""
    bodies = [
        b'{"detail": "Invalid token KEY."}', b'{"code": "KEY", "message": "KEY", "errors": {"KEY": ["KEY", {"a": "KEY"}]}}',
        b'{"KEY": ["KEY"]}', b"<html><script>KEY</script><p>Authorization: KEY</p></html>", b"KEY", b'["KEY"]',
        b'"KEY"', b'{"errors": "KEY", "detail": ["KEY"]}', b'{"a": {"b": {"c": "KEY', b'{"detail": "KE', b"\xff\xfeKEY",
        b'{"oauth_client_secret": ["KEY is wrong"], "code": "invalid"}',
    ]  # fmt: skip
    heads = [bytes([number, number % 18, number * 37 % 256]) for number in range(13)]
    return [head + body for head in heads for body in [*bodies, *documents()[:2]]]


def check(data: bytes) -> None:
    """Make the exception for a body; the first bytes choose operation, status and how the key is escaped."""
    number, status, escape = (*data[:3], 0, 0, 0)[:3]
    written = "".join(_written(char, escape >> place % 8 & 1, escape % 5) for place, char in enumerate(KEY))
    body = data[3:].replace(PLACE, written.encode())
    headers = told(
        [("X-Echo", written), (written, "x"), ("location", f"https://elsewhere.example/?{written}")], _MASK.text
    )
    operation = _OPERATIONS[number % len(_OPERATIONS)]
    error = api_error(operation, 1, Response(_STATUSES[status % len(_STATUSES)], headers, body), mask=_MASK)
    check_message(error)
    for shown in (str(error), repr(error), repr(vars(error)), error.code, error.detail, error.body.decode("latin-1")):
        hidden(shown or "")
    hidden(error.errors)
    hidden(error.headers)


def _written(char: str, escaped: int, form: int) -> str:
    if not escaped:
        return char
    code = ord(char)
    return (f"\\u{code:04x}", f"%{code:02X}", f"&#{code};", f"&#x{code:x};", f"\\u{code:04X}")[form]


def hidden(value: Any) -> None:
    """Fail if a text in the value is the key, as it is or unescaped."""
    if isinstance(value, dict):
        for name, part in value.items():
            hidden(name)
            hidden(part)
    elif isinstance(value, list):
        for part in value:
            hidden(part)
    elif isinstance(value, str):
        for text in (value, unquote(value), html.unescape(value), _from_json(value)):
            assert KEY.lower() not in text.lower(), ascii(text)


def _from_json(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text
