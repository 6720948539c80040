"""What the sandbox answers: a status with a JSON body, and the refusals that the API documents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer, ready to be sent, and to be sent again."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(status: int, document: Any, headers: Mapping[str, str] | None = None) -> Answer:
    """`document` as a JSON answer."""
    return Answer(status, encode(document), headers or {})


class Refusal(Exception):
    """A request that the API turns down; `answer` says how."""

    def __init__(self, status: int, document: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status, document)
        self.document = document
        self.answer = answer(status, document, headers)


def field_error(name: str, message: str) -> Refusal:
    """400 in the form `{"field": ["message"]}`."""
    return Refusal(400, {name: [message]})


INVALID_DATA = "Unable to process request because invalid data was submitted. Check `errors` field for more details."


def invalid_data(message: str) -> Refusal:
    """400 in the form `{"code", "message", "errors"}`, as the API documents it for events that have ended."""
    errors = {"non_field_errors": [message]}
    return Refusal(400, {"code": "invalid_request_data", "message": INVALID_DATA, "errors": errors})


def coded_error(status: int, code: str, message: str) -> Refusal:
    """A refusal in the form `{"code", "detail"}`."""
    return Refusal(status, {"code": code, "detail": message})


def detail(status: int, message: str, headers: Mapping[str, str] | None = None) -> Refusal:
    """A refusal in the form `{"detail"}`."""
    return Refusal(status, {"detail": message}, headers)


def not_found() -> Refusal:
    """404, for ids that do not exist and for those that are not UUIDs."""
    return detail(404, "Not found.")


def printable(text: str) -> str:
    """The text without what no JSON can hold: headers and URLs may carry bytes that are no UTF-8."""
    return text.encode("utf-8", "replace").decode()
