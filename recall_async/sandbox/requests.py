"""The ten operations: from a request's path, query and body to the API's answer, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import msgspec

from recall_async import operations as table

from .answers import Answer, Refusal, answer, coded_error, detail, field_error, not_found
from .documents import CalendarDocument, Event, StatusChange
from .listing import list_calendars, list_events
from .state import State

LONGEST_TEXT = 2000
"""Characters that the API accepts in a deduplication key or a credential."""
_REQUIRED = ("oauth_client_id", "oauth_client_secret", "oauth_refresh_token", "platform")
_WRITABLE = (*_REQUIRED, "webhook_url", "oauth_email")
_PLATFORMS = ("google_calendar", "microsoft_outlook")
_AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True)
class Request:
    """What an operation needs to know of a request."""

    url: str
    """Scheme, host and path, without the query."""
    id: str
    """The `{id}` of the path as it was sent; empty where there is none."""
    query: Mapping[str, str]
    body: bytes
    now: datetime

    def document(self) -> dict[str, Any]:
        """The body as a JSON object, or 400."""
        try:
            document = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise detail(400, f"JSON parse error - {error}") from None
        if not isinstance(document, dict):
            raise field_error("non_field_errors", "Invalid data. Expected a dictionary.")
        return document


def perform(operation: table.Operation, state: State, request: Request) -> Answer:
    """The answer to a request that passed authentication and quota."""
    try:
        return _HANDLERS[operation.name](state, request)
    except Refusal as refusal:
        return refusal.answer


def contended_key(operation: table.Operation, request: Request) -> str | None:
    """The deduplication key that no other request may use at the same time; `None` if the request has no valid one."""
    if operation.name != table.SCHEDULE_BOT.name:
        return None
    try:
        return _deduplication_key(request.document())
    except Refusal:
        return None


def _schedule_bot(state: State, request: Request) -> Answer:
    event, body = _event_of(state, request), request.document()
    key, config = _deduplication_key(body), body.get("bot_config")
    if config is None:
        raise field_error("bot_config", "This field is required.")
    if not isinstance(config, dict):
        raise field_error("bot_config", f'Expected a dictionary of items but got type "{type(config).__name__}".')
    document = event.document
    if document.is_deleted:
        raise coded_error(400, "invalid", "Cannot schedule a bot: the calendar event was deleted.")
    if document.end_time <= request.now:
        raise coded_error(400, "invalid", "Cannot schedule a bot: the calendar event has ended.")
    meeting_url = config.get("meeting_url")
    if meeting_url is not None and not isinstance(meeting_url, str | dict):
        raise field_error("bot_config", "meeting_url: Not a valid meeting URL.")
    if not (meeting_url or document.meeting_url):
        raise coded_error(400, "invalid", "Cannot schedule a bot: the calendar event has no meeting URL.")
    if document.start_time - request.now < state.pool_exhausted_within:
        raise Refusal(507, {"code": "out_of_bots", "detail": "No bot is available at the moment."}, state.pool_headers)
    state.schedule(event, key, config, start_time=_join_at(config), meeting_url=meeting_url, now=request.now)
    return answer(200, document)


def _remove_bot(state: State, request: Request) -> Answer:
    event = _event_of(state, request)
    state.remove(event, request.now)
    return answer(200, event.document)


def _retrieve_event(state: State, request: Request) -> Answer:
    return answer(200, _event_of(state, request).document)


def _list_events(state: State, request: Request) -> Answer:
    return list_events(state, request.query, request.url)


def _create_calendar(state: State, request: Request) -> Answer:
    fields = _calendar_fields(request.document(), required=_REQUIRED)
    calendar = CalendarDocument(
        id=state.generator.identifier(),
        platform_email=fields.get("oauth_email"),
        status="connected",
        status_changes=[StatusChange("connecting", request.now), StatusChange("connected", request.now)],
        created_at=request.now,
        updated_at=request.now,
        **fields,
    )
    state.calendars[calendar.id] = calendar
    return answer(201, calendar)


def _retrieve_calendar(state: State, request: Request) -> Answer:
    return answer(200, _calendar_of(state, request))


def _list_calendars(state: State, request: Request) -> Answer:
    return list_calendars(state, request.query, request.url)


def _update_calendar(state: State, request: Request) -> Answer:
    calendar = _calendar_of(state, request)
    fields = _calendar_fields(request.document(), required=())
    for name, value in fields.items():
        setattr(calendar, name, value)
    calendar.updated_at = request.now
    if "oauth_refresh_token" in fields:
        state.set_status(calendar, "connected", request.now)
    return answer(200, calendar)


def _delete_calendar(state: State, request: Request) -> Answer:
    state.disconnect(_calendar_of(state, request), request.now)
    return Answer(204, b"")


def _create_access_token(state: State, request: Request) -> Answer:
    calendar = _calendar_of(state, request)
    if calendar.status == "disconnected":
        raise Refusal(400, {"code": "bad_refresh_token", "message": "The calendar is disconnected."})
    token = f"sandbox-token-{state.generator.identifier()}"
    return answer(200, {"token": token, "expires_at": request.now + timedelta(hours=1)})


def _event_of(state: State, request: Request) -> Event:
    return state.event(_uuid(request.id))


def _calendar_of(state: State, request: Request) -> CalendarDocument:
    return state.calendar(_uuid(request.id))


def _deduplication_key(body: dict[str, Any]) -> str:
    key = body.get("deduplication_key")
    if key is None:
        raise field_error("deduplication_key", "This field is required.")
    if not isinstance(key, str):
        raise field_error("deduplication_key", "Not a valid string.")
    if not key.strip():
        raise field_error("deduplication_key", "This field may not be blank.")
    if len(key) > LONGEST_TEXT:
        raise field_error("deduplication_key", f"Ensure this field has no more than {LONGEST_TEXT} characters.")
    return key


def _calendar_fields(document: dict[str, Any], required: tuple[str, ...]) -> dict[str, str]:
    """The writable fields of a calendar that the document holds; 400 names all that are wrong."""
    errors: dict[str, list[str]] = {name: ["This field is required."] for name in required if name not in document}
    fields = {name: document[name] for name in _WRITABLE if name in document}
    for name, value in fields.items():
        if not isinstance(value, str):
            errors[name] = ["Not a valid string."]
        elif not value:
            errors[name] = ["This field may not be blank."]
        elif len(value) > LONGEST_TEXT:
            errors[name] = [f"Ensure this field has no more than {LONGEST_TEXT} characters."]
        elif name == "platform" and value not in _PLATFORMS:
            errors[name] = [f'"{value}" is not a valid choice.']
        elif name == "oauth_email" and "@" not in value:
            errors[name] = ["Enter a valid email address."]
        elif name == "webhook_url" and not value.startswith(("http://", "https://")):
            errors[name] = ["Enter a valid URL."]
    if errors:
        raise Refusal(400, errors)
    return fields


def _join_at(config: dict[str, Any]) -> datetime | None:
    if config.get("join_at") is None:
        return None
    try:
        moment: datetime = msgspec.convert(config["join_at"], _AwareTime)
    except msgspec.ValidationError:
        raise field_error("bot_config", "join_at: Datetime has wrong format.") from None
    return moment


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise not_found() from None


_HANDLERS: dict[str, Callable[[State, Request], Answer]] = {
    table.SCHEDULE_BOT.name: _schedule_bot,
    table.REMOVE_BOT.name: _remove_bot,
    table.RETRIEVE_EVENT.name: _retrieve_event,
    table.LIST_EVENTS.name: _list_events,
    table.CREATE_CALENDAR.name: _create_calendar,
    table.RETRIEVE_CALENDAR.name: _retrieve_calendar,
    table.LIST_CALENDARS.name: _list_calendars,
    table.UPDATE_CALENDAR.name: _update_calendar,
    table.DELETE_CALENDAR.name: _delete_calendar,
    table.CREATE_ACCESS_TOKEN.name: _create_access_token,
}
