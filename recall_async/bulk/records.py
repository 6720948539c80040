"""Actions and their results as JSON, for action files, journals, and jobs in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Literal, TypeAlias

import msgspec

from .. import checks, errors
from ..errors import APIError, ConfigurationError, RecallError
from ..resources.fields import encode_bot_config
from .actions import Action, Outcome, RemoveBot, ScheduleBot, Status, event_of

Kind: TypeAlias = Literal["schedule", "remove"]


class Result(msgspec.Struct, omit_defaults=True):
    """The result of one action: a line of a journal, and of a job's results. docs/bulk.md"""

    event_id: str
    action: Kind
    deduplication_key: str | None
    status: Status
    bots: msgspec.Raw
    """The event's bots after the action, from the API's response."""
    error: dict[str, Any] | None
    attempts: int
    at: str
    config: str | None = None
    """A hash of `bot_config`."""
    job: str | None = None
    """The id of the action's plan."""

    @property
    def identity(self) -> tuple[str, Kind, str | None, str | None]:
        """The values that are equal for equal actions."""
        return self.event_id, self.action, self.deduplication_key, self.config


_encode = msgspec.json.Encoder().encode
_result = msgspec.json.Decoder(Result)


class _Written(msgspec.Struct):
    """The types of an action's JSON."""

    event_id: str
    deduplication_key: str | None = None
    bot_config: dict[str, Any] | None = None
    start_time: str | None = None
    end_time: str | None = None


_check = msgspec.json.Decoder(_Written).decode


def write_action(action: Action) -> bytes:
    """Encode an action as one JSON object. Raises `ConfigurationError` for an invalid action."""
    fields: dict[str, Any] = {"action": "remove", "event_id": plain_text(action.event_id)}
    try:
        if isinstance(action, ScheduleBot):
            config = encode_bot_config({} if action.bot_config is None else action.bot_config)
            fields["action"] = "schedule"
            # Not `str()`: the key "None" would be shared by all events without a key.
            fields["deduplication_key"] = _string("deduplication_key", action.deduplication_key)
            fields["bot_config"] = msgspec.Raw(config)
        for name in ("start_time", "end_time"):
            if (when := getattr(action, name)) is not None:
                fields[name] = _exact(when) if isinstance(when, datetime) else _string(name, when)
        text = _encode(fields)
        _check(text)  # JSON that cannot be decoded again would end every worker that reads it
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigurationError(f"the action on event {action.event_id!s:.80} cannot be written: {error}") from None
    return text


def read_action(fields: Mapping[str, Any]) -> Action:
    """Build an action from the decoded JSON of `write_action`, without checking it."""
    event, start, end = fields["event_id"], fields.get("start_time"), fields.get("end_time")
    if fields["action"] == "remove":
        return RemoveBot(event, start, end)
    return ScheduleBot(event, fields.get("deduplication_key") or "", fields.get("bot_config") or {}, start, end)


def conflict_keys(action: Action) -> list[object]:
    """Return the keys that no two actions in progress may share: the event and the deduplication key.

    The API responds with 409 to parallel requests with one key. On one event, the last request determines the bot.
    """
    if isinstance(action, ScheduleBot):
        return [event_of(action), ("key", plain_text(action.deduplication_key))]
    return [event_of(action)]


def identity_of(action: Action) -> tuple[str, Kind, str | None, str | None]:
    """Return the values that identify an action: event, kind, deduplication key and configuration, not the times.

    Raises `ConfigurationError` for a `bot_config` that cannot be serialized.
    """
    event_id = _text(action.event_id).lower()
    if not isinstance(action, ScheduleBot):
        return event_id, "remove", None, None
    config = msgspec.json.decode(encode_bot_config({} if action.bot_config is None else action.bot_config))
    canonical = msgspec.json.encode(config, order="deterministic")
    return event_id, "schedule", _text(action.deduplication_key), blake2b(canonical, digest_size=16).hexdigest()


def result_of(outcome: Outcome, *, job: str | None = None) -> Result:
    """Return the result of an outcome."""
    try:
        event_id, kind, key, config = identity_of(outcome.action)
    except ConfigurationError:
        assert isinstance(outcome.action, ScheduleBot)
        event_id, kind = _text(outcome.action.event_id).lower(), "schedule"
        key, config = _text(outcome.action.deduplication_key), None
    return Result(
        event_id=event_id,
        action=kind,
        deduplication_key=key,
        status=outcome.status,
        bots=msgspec.Raw(_encode(outcome.event.bots if outcome.event is not None else ())),
        error=_document(outcome.error) if outcome.error is not None else None,
        attempts=outcome.attempts,
        at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        config=config,
        job=job,
    )


def error_in(result: Result) -> RecallError | None:
    """Return the error of a result as an exception: a plain `RecallError` if its type is unknown."""
    if result.error is None:
        return None
    fields = dict(result.error)
    kind = getattr(errors, str(fields.pop("type", "")), RecallError)
    message = str(fields.pop("message", ""))
    try:
        error = kind(message, attempts=result.attempts, **fields)
    except TypeError:
        error = None
    return error if isinstance(error, RecallError) else RecallError(message, attempts=result.attempts)


def write_result(result: Result) -> bytes:
    """Encode a result as one JSON object."""
    return _encode(result)


def read_result(text: bytes | str) -> Result:
    """Decode a result. Raises `msgspec.DecodeError`, `UnicodeDecodeError` or `RecursionError`."""
    return _result.decode(text)


def why_not_json(error: Exception) -> str:
    """Return why a text cannot be decoded, in words that do not depend on the decoder."""
    if isinstance(error, RecursionError):
        return "invalid JSON: nested too deeply"
    text = str(error)
    if "truncated" in text:
        return "invalid JSON: unexpected end of input"
    if isinstance(error, UnicodeDecodeError) or "utf-8" in text.lower():
        return "invalid JSON: not UTF-8"
    if isinstance(error, msgspec.ValidationError):
        return text[:1].lower() + text[1:]
    return "invalid JSON: " + text.removeprefix("JSON is malformed: ")


def plain_text(value: object) -> str:
    """Return a string's text, and `str()` of anything else."""
    return checks.plain(value) if isinstance(value, str) else str(value)


def _string(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise checks.invalid(name, "a string", value)
    return checks.plain(value)


def _exact(when: datetime) -> datetime:
    """Return the same time, not as an instance of a subclass, which msgspec cannot encode."""
    return when if type(when) is datetime else datetime.combine(when.date(), when.timetz())


def _text(value: object) -> str:
    """Return a value that was passed as text in a form that can be encoded, whatever its type."""
    return plain_text(value).encode(errors="replace").decode()


def _document(error: RecallError) -> dict[str, Any]:
    document: dict[str, Any] = {"type": type(error).__name__, "message": str(error), "operation": error.operation}
    if isinstance(error, APIError):
        document |= {"status": error.status, "code": error.code, "detail": error.detail}
    return document
