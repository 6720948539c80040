"""Answers of status 200: they are decoded, or raise `ResponseDecodeError`; all that an object tells can be read."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec

from recall_async.answers import Response, decode, keep_extra
from recall_async.bot_models import Bot
from recall_async.errors import ResponseDecodeError
from recall_async.models import Calendar, CalendarEvent, Page
from recall_async.operations import OPERATIONS
from recall_async.sync.policy import RecordingPolicy
from tests.fuzz.inputs import check_message, documents

_OPERATIONS = sorted(OPERATIONS.values(), key=lambda operation: operation.name)
_encode = msgspec.json.Encoder().encode
_POLICY = RecordingPolicy()


def seeds() -> list[bytes]:
    """Each document for each operation."""
    return [bytes([number]) + document for number in range(len(_OPERATIONS)) for document in documents()]


def check(data: bytes) -> None:
    """Decode `data`, whose first byte chooses the operation."""
    operation = _OPERATIONS[(data[0] if data else 0) % len(_OPERATIONS)]
    response = Response(200, {}, data[1:])
    try:
        answer: Any = decode(operation, response, str)
    except ResponseDecodeError as error:
        check_message(error)
        return
    if answer is None:
        return
    keep_extra(answer, response)
    if isinstance(answer, Page):
        assert answer.next_cursor is None or isinstance(answer.next_cursor, str)
    for item in answer.results if isinstance(answer, Page) else [answer]:
        look_at(item)
    assert pickle.loads(pickle.dumps(answer)) == answer


def look_at(item: Any) -> None:
    """Read every property, and write the object."""
    for name in dir(type(item)):
        if not name.startswith("_") and isinstance(getattr(type(item), name), property):
            getattr(item, name)
    repr(item)
    hash(item)
    _encode(item)
    if isinstance(item, CalendarEvent):
        item.raw_document()
        calendar = Calendar(
            id=item.calendar_id, platform=item.platform, created_at=item.created_at, updated_at=item.updated_at
        )
        _POLICY(item, calendar)
        assert all(isinstance(attendee.email, str | None) for attendee in item.attendees)
    if isinstance(item, Bot):
        for recording in item.recordings:
            assert all(isinstance(url, str) for url in recording.download_urls.values())
