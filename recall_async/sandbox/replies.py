"""The sandbox's responses: a status with a JSON body, and the errors that the API documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished response. It can be sent more than once."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def reply(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Reply:
    """Make a response with `document` as its JSON body."""
    return Reply(status, encode(document), headers or {})


class Refusal(Exception):
    """Raised for a request that the API refuses, with the response in `reply`."""

    def __init__(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, document)
        self.document = document
        self.reply: Reply = reply(status, document, headers)


def field_error(name: str, message: str) -> Refusal:
    """Make a refusal: 400 in the form `{"field": ["message"]}`."""
    return Refusal(400, {name: [message]})


INVALID_DATA = "Unable to process request because invalid data was submitted. Check `errors` field for more details."


def invalid_data(message: str) -> Refusal:
    """Make a refusal: 400 in the form `{"code", "message", "errors"}`, as for events that have ended."""
    errors = {"non_field_errors": [message]}
    return Refusal(400, {"code": "invalid_request_data", "message": INVALID_DATA, "errors": errors})


def coded_error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """Make a refusal in the form `{"code", "detail"}`."""
    return Refusal(status, {"code": code, "detail": message}, headers)


def detail(status: int, message: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """Make a refusal in the form `{"detail"}`."""
    return Refusal(status, {"detail": message}, headers)


def not_found() -> Refusal:
    """Make a refusal: 404, for unknown ids and for invalid ones."""
    return detail(404, "Not found.")


def printable(text: str) -> str:
    """Replace characters that JSON cannot encode: headers and URLs may contain bytes that are not UTF-8."""
    return text.encode("utf-8", "replace").decode()
