"""The payloads of deliveries: a type for every kind that Recall.ai documents, the JSON object for all others.

Documentation: https://docs.recall.ai/docs/calendar-v2-webhooks and https://docs.recall.ai/docs/bot-status-change-events
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from ..errors import WebhookDecodeError
from ..lenient import parse_time


class CalendarSyncEvents(Struct, frozen=True):
    """`calendar.sync_events`: events of the calendar changed at `last_updated_ts` or later."""

    calendar_id: str
    last_updated_ts: datetime


class CalendarUpdate(Struct, frozen=True):
    """`calendar.update`: the calendar itself changed; it may be disconnected."""

    calendar_id: str


class Subject(Struct, frozen=True):
    """The bot, recording or transcript that a delivery is about."""

    id: str
    metadata: dict[str, Any] = field(default_factory=dict)
    """The `metadata` of the bot's `bot_config`, or the recording's or transcript's own."""


class BotChange(Struct, frozen=True, kw_only=True):
    """`bot.*`: a bot has a new status, such as `joining_call`, `in_call_recording`, `done` or `fatal`.

    https://docs.recall.ai/docs/bot-status-change-events
    """

    bot: Subject
    code: str
    """The status. New ones may be added."""
    sub_code: str | None = None
    """The reason, if there is one: `meeting_not_started`, `bot_kicked_from_waiting_room` and others."""
    updated_at: datetime
    message: str | None = None
    """Only in `bot.status_change`."""


class BotLog(Struct, frozen=True, kw_only=True):
    """`bot.log` and `bot.output_log`: a line of a bot's log."""

    bot_id: str | None = None
    job_id: str | None = None
    level: str
    message: str
    output_id: str | None = None
    created_at: datetime


class RecordingChange(Struct, frozen=True, kw_only=True):
    """`recording.*`: a recording is `processing`, `paused`, `done`, `failed` or `deleted`."""

    recording: Subject
    bot: Subject | None = None
    code: str
    sub_code: str | None = None
    updated_at: datetime


class TranscriptChange(Struct, frozen=True, kw_only=True):
    """`transcript.*`: a transcript is `processing`, `done`, `failed` or `deleted`."""

    transcript: Subject
    recording: Subject | None = None
    bot: Subject | None = None
    code: str
    sub_code: str | None = None
    updated_at: datetime


Payload = CalendarSyncEvents | CalendarUpdate | BotChange | BotLog | RecordingChange | TranscriptChange | dict[str, Any]


class WebhookEvent(Struct, frozen=True):
    """An authentic delivery. A repeated delivery has the same `id` and a new `timestamp`."""

    event: str
    """The kind of event, such as `calendar.sync_events` or `bot.done`."""
    data: Payload
    """The payload; for kinds that this version does not know, the JSON object as received."""
    id: str = ""
    timestamp: datetime | None = None


def decode(body: bytes, message_id: str, timestamp: datetime) -> WebhookEvent:
    """Decode the body of an authentic delivery. Raises `WebhookDecodeError`."""
    kind = None
    try:
        envelope = _envelopes.decode(body)
        kind = envelope.event
        raw = b"{}" if envelope.data is UNSET else envelope.data
        data = _READERS.get(kind, _read_object)(raw)
    except (ValueError, OverflowError, RecursionError) as error:  # msgspec's errors are ValueErrors
        failure = WebhookDecodeError(
            f"the delivery is authentic, but cannot be decoded: {str(error)[:200]}. Respond with status 204 and report "
            "it: a repeated delivery would fail, too"
        )
        failure.event, failure.message_id = kind, message_id
        raise failure from error
    return WebhookEvent(kind, data, message_id, timestamp)


# The forms on the wire. Times are text, because the documentation does not say whether they have an offset.


class _Envelope(Struct):
    event: str
    data: msgspec.Raw | UnsetType = UNSET


class _SyncEvents(Struct):
    calendar_id: str
    last_updated_ts: str


class _Subject(Struct):
    id: str
    metadata: dict[str, Any] | None = None

    def subject(self) -> Subject:
        return Subject(self.id, self.metadata or {})


class _Status(Struct):
    code: str
    updated_at: str
    sub_code: str | None = None


class _Change(Struct):
    data: _Status
    bot: _Subject | None = None
    recording: _Subject | None = None
    transcript: _Subject | None = None


class _OldStatus(Struct):
    code: str
    created_at: str
    sub_code: str | None = None
    message: str | None = None


class _OldChange(Struct):
    bot_id: str
    status: _OldStatus


class _LogLine(Struct):
    level: str
    message: str
    created_at: str
    output_id: str | None = None


class _Log(Struct):
    log: _LogLine
    bot_id: str | None = None
    job_id: str | None = None


_envelopes = msgspec.json.Decoder(_Envelope)
_syncs = msgspec.json.Decoder(_SyncEvents)
_updates = msgspec.json.Decoder(CalendarUpdate)
_changes = msgspec.json.Decoder(_Change)
_old_changes = msgspec.json.Decoder(_OldChange)
_logs = msgspec.json.Decoder(_Log)
_objects = msgspec.json.Decoder(dict[str, Any] | None)


def _read_sync(raw: bytes) -> Payload:
    sync = _syncs.decode(raw)
    return CalendarSyncEvents(sync.calendar_id, parse_time(sync.last_updated_ts))


def _read_old_bot(raw: bytes) -> Payload:
    change = _old_changes.decode(raw)
    status = change.status
    return BotChange(
        bot=Subject(change.bot_id),
        code=status.code,
        sub_code=status.sub_code,
        updated_at=parse_time(status.created_at),
        message=status.message,
    )


def _read_log(raw: bytes) -> Payload:
    said = _logs.decode(raw)
    line = said.log
    return BotLog(
        bot_id=said.bot_id,
        job_id=said.job_id,
        level=line.level,
        message=line.message,
        output_id=line.output_id,
        created_at=parse_time(line.created_at),
    )


def _reader_of(kind: Callable[..., Payload], about: str, *parents: str) -> Callable[[bytes], Payload]:
    """Return the reader of a change of `about`, which the delivery must name, unlike those that it belongs to."""

    def read(raw: bytes) -> Payload:
        change = _changes.decode(raw)
        named = {name: getattr(change, name) for name in (about, *parents)}
        if named[about] is None:
            raise ValueError(f"Object missing required field `{about}`")
        return kind(
            **{name: subject.subject() for name, subject in named.items() if subject is not None},
            code=change.data.code,
            sub_code=change.data.sub_code,
            updated_at=parse_time(change.data.updated_at),
        )

    return read


def _read_object(raw: bytes) -> Payload:
    return _objects.decode(raw) or {}


_BOT_CODES = (
    "joining_call", "in_waiting_room", "in_call_not_recording", "recording_permission_allowed",
    "recording_permission_denied", "in_call_recording", "call_ended", "done", "fatal",
)  # fmt: skip
_READERS: dict[str, Callable[[bytes], Payload]] = {
    "calendar.sync_events": _read_sync,
    "calendar.update": _updates.decode,
    **{f"bot.{code}": _reader_of(BotChange, "bot") for code in _BOT_CODES},
    "bot.status_change": _read_old_bot,
    "bot.log": _read_log,
    "bot.output_log": _read_log,
    **{
        f"recording.{code}": _reader_of(RecordingChange, "recording", "bot")
        for code in ("processing", "paused", "done", "failed", "deleted")
    },
    **{
        f"transcript.{code}": _reader_of(TranscriptChange, "transcript", "recording", "bot")
        for code in ("processing", "done", "failed", "deleted")
    },
}
