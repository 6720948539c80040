"""The operations on calendar events, and on the bots that are scheduled for them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from recall_async import operations as table

from .documents import Event
from .fields import LONGEST_TEXT, Request, identifier, metadata, moment, problem_of_text
from .replies import Refusal, Reply, coded_error, field_error, invalid_data, reply
from .state import State

_REQUIRED = "This field is required."
_LONGEST_NAME = 100


def contended_keys(operation: table.Operation[Any], state: State, request: Request) -> frozenset[str]:
    """Return the deduplication keys that the request uses. Concurrent requests with them conflict."""
    try:
        if operation.name == table.SCHEDULE_BOT.name:
            key = request.body.document().get("deduplication_key")
            return frozenset() if problem_of_text(key) else frozenset([str(key)])
        if operation.name == table.REMOVE_BOT.name:
            return state.keys_of(identifier(request.id))
    except Refusal:
        pass  # the operation raises it again
    return frozenset()


def schedule_bot(state: State, request: Request) -> Reply:
    event, (key, config) = _event_of(state, request), _bot_of(request.body.document())
    document = event.document
    if document.is_deleted:
        raise invalid_data("Cannot schedule bot as calendar event has been deleted.")
    if document.end_time <= request.now:
        raise invalid_data("Cannot schedule bot as calendar event has ended.")
    meeting_url = config.get("meeting_url")
    if not _is_meeting(meeting_url):
        raise field_error("bot_config", "meeting_url: Not a valid meeting URL.")
    if config.get("bot_name") is not None and (problem := problem_of_text(config["bot_name"], _LONGEST_NAME)):
        raise field_error("bot_config", f"bot_name: {problem}")
    if not (meeting_url or document.meeting_url):
        raise invalid_data("Cannot schedule bot as calendar event has no meeting URL.")
    start_time = _join_at(config)
    if "metadata" in config:
        config["metadata"] = metadata(config["metadata"], "bot_config", "metadata: ")
    if document.start_time - request.now < state.pool_exhausted_within:
        raise coded_error(507, "out_of_bots", "No bot is available at the moment.", state.pool_headers)
    state.schedule(event, key, config, start_time=start_time, meeting_url=meeting_url, now=request.now)
    return reply(200, document)


def remove_bot(state: State, request: Request) -> Reply:
    event = _event_of(state, request)
    state.remove(event, request.now)
    return reply(200, event.document)


def retrieve(state: State, request: Request) -> Reply:
    return reply(200, _event_of(state, request).document)


def _event_of(state: State, request: Request) -> Event:
    return state.event(identifier(request.id))


def _bot_of(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the deduplication key and the configuration. Raises a refusal: 400 that names all invalid fields."""
    errors: dict[str, list[str]] = {}
    key, config = body.get("deduplication_key"), body.get("bot_config")
    if problem := _REQUIRED if key is None else problem_of_text(key, LONGEST_TEXT):
        errors["deduplication_key"] = [problem]
    if config is None:
        errors["bot_config"] = [_REQUIRED]
    elif not isinstance(config, dict):
        errors["bot_config"] = [f'Expected a dictionary of items but got type "{type(config).__name__}".']
    if errors:
        raise Refusal(400, errors)
    return str(key), dict(config or {})


def _is_meeting(url: Any) -> bool:
    """Return whether a `bot_config` may have this `meeting_url`; `None` is allowed."""
    if isinstance(url, dict):
        return isinstance(url.get("platform"), str) and all(
            part is None or isinstance(part, str) for part in url.values()
        )
    return url is None or isinstance(url, str)


def _join_at(config: dict[str, Any]) -> datetime | None:
    text = config.get("join_at")
    if text is None:
        return None
    try:
        if "T" not in text.upper() or datetime.fromisoformat(text).tzinfo is None:
            raise ValueError("no time with an offset")
        return moment(text)
    except (ValueError, TypeError, AttributeError):
        raise field_error("bot_config", "join_at: Datetime has wrong format.") from None
