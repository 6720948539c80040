"""The operations on calendars."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from .documents import CalendarDocument, StatusChange
from .fields import LONGEST_TEXT, Request, identifier, metadata, problem_of_text
from .listing import PLATFORMS
from .replies import Refusal, Reply, reply
from .state import State

_REQUIRED = ("oauth_client_id", "oauth_client_secret", "oauth_refresh_token", "platform")
_CERTIFICATE = ("oauth_client_certificate", "oauth_client_private_key")
"""For Microsoft, these replace the client secret."""
_LONGEST_CERTIFICATE = 20_000
_WRITABLE = (*_REQUIRED, *_CERTIFICATE, "webhook_url", "oauth_email")
_RECONNECTS = ("oauth_refresh_token", "oauth_client_secret", *_CERTIFICATE)
"""Changing one of these reconnects a disconnected calendar."""


def create(state: State, request: Request) -> Reply:
    fields = _fields(request.body.document(), new=True)
    calendar = CalendarDocument(
        id=state.generator.identifier(),
        platform_email=None,
        status="connecting",
        status_changes=[StatusChange("connecting", request.now)],
        created_at=request.now,
        updated_at=request.now,
        **fields,
    )
    state.calendars[calendar.id] = calendar
    state.connect_later(calendar, request.now + timedelta(seconds=request.connect_after))
    return reply(201, calendar)


def retrieve(state: State, request: Request) -> Reply:
    return reply(200, _calendar_of(state, request))


def update(state: State, request: Request) -> Reply:
    calendar = _calendar_of(state, request)
    fields = _fields(request.body.document(), new=False)
    for name, value in fields.items():
        setattr(calendar, name, value)
    calendar.updated_at = request.now
    if calendar.status == "disconnected" and not fields.keys().isdisjoint(_RECONNECTS):
        state.set_status(calendar, "connected", request.now)
    state.tell(calendar)
    return reply(200, calendar)


def delete(state: State, request: Request) -> Reply:
    state.disconnect(_calendar_of(state, request), request.now)
    return Reply(204, b"")


def create_access_token(state: State, request: Request) -> Reply:
    calendar = _calendar_of(state, request)
    if calendar.status == "disconnected":
        raise Refusal(400, {"code": "bad_refresh_token", "message": "The calendar is disconnected."})
    token = f"sandbox-token-{state.generator.identifier()}"
    return reply(200, {"token": token, "expires_at": request.now + timedelta(hours=1)})


def _calendar_of(state: State, request: Request) -> CalendarDocument:
    return state.calendar(identifier(request.id))


def _fields(document: dict[str, Any], *, new: bool) -> dict[str, Any]:
    """Return the writable fields in the document. Raises a refusal: 400 that names all invalid fields."""
    if not document.get("oauth_client_secret") and all(document.get(name) for name in _CERTIFICATE):
        document = {name: value for name, value in document.items() if name != "oauth_client_secret"}
    errors = {name: ["This field is required."] for name in (_missing(document) if new else ())}
    fields = {name: document[name] for name in _WRITABLE if name in document}
    for name, value in fields.items():
        if problem := _problem(name, value):
            errors[name] = [problem]
    if "metadata" in document:
        try:
            fields["metadata"] = metadata(document["metadata"], "metadata")
        except Refusal as refusal:
            errors |= refusal.document
    if errors:
        raise Refusal(400, errors)
    return fields


def _missing(document: dict[str, Any]) -> list[str]:
    missing = [name for name in _REQUIRED if name not in document]
    given = [name for name in _CERTIFICATE if name in document]
    if document.get("platform") == "microsoft_outlook" and given and "oauth_client_secret" in missing:
        missing.remove("oauth_client_secret")
        missing += [name for name in _CERTIFICATE if name not in given]
    return missing


def _problem(name: str, value: Any) -> str | None:
    longest = _LONGEST_CERTIFICATE if name in _CERTIFICATE else LONGEST_TEXT
    if problem := problem_of_text(value, longest):
        return problem
    if name == "platform" and value not in PLATFORMS:
        return f'"{value}" is not a valid choice.'
    if name == "oauth_email" and "@" not in value:
        return "Enter a valid email address."
    if name == "webhook_url" and not value.startswith(("http://", "https://")):
        return "Enter a valid URL."
    return None
