"""What the sandbox answers and tells, against the JSON schemas of the API's reference (`tests/data`).

The schemas are the reference's own, cut down to what this client reads. `raw` is any object in them: what the reference
says of it leaves out most of what the calendar platforms send. A sandbox with `documented=True` sends just that.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from recall_async.operations import OPERATIONS
from recall_async.sandbox import RecallSandbox
from tests.sandbox.conftest import CALENDARS, EVENTS, Api, moment
from tests.webhooks.receiver import receiver, until
from tests.webhooks.test_sandbox import Inbox

DATA = Path(__file__).parent.parent / "data"
CONTRACT: dict[str, Any] = json.loads((DATA / "responses.json").read_text())
WEBHOOKS: dict[str, Any] = json.loads((DATA / "webhooks.json").read_text())
BOTS = "/api/v1/bot/"
CALENDAR = {
    "oauth_client_id": "id",
    "oauth_client_secret": "secret",
    "oauth_refresh_token": "refresh",
    "platform": "google_calendar",
    "oauth_email": "ada@northwind.example",
    "webhook_url": "https://hooks.example/recall",
    "metadata": {"team": "sales"},
}

FORMATS = FormatChecker(formats=())


@FORMATS.checks("uuid", raises=ValueError)
def is_uuid(value: object) -> bool:
    return not isinstance(value, str) or str(UUID(value)) == value


@FORMATS.checks("date-time", raises=ValueError)
def is_time(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


def problems(schema: dict[str, Any], document: Any, *, raw: Any = None) -> list[str]:
    """What is wrong with a document, and where; `raw` is the schema of payloads."""
    known = CONTRACT["$defs"]
    if raw is not None:
        event = known["CalendarEvent"]
        known = {**known, "CalendarEvent": {**event, "properties": {**event["properties"], "raw": raw}}}
    validator = Draft202012Validator({**schema, "$defs": known}, format_checker=FORMATS)
    return [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(document)]


def test_the_validator_finds_what_is_wrong() -> None:
    """Every document would be as the reference says, because nothing is looked at."""
    token = {"$ref": "#/$defs/CalendarAccessToken"}
    assert problems(token, {"token": "t", "expires_at": "2025-06-10T12:00:00Z"}) == []
    assert len(problems(token, {"token": 7, "expires_at": "2025-06-10T12:00:00"})) == 2
    assert problems({"$ref": "#/$defs/CalendarEventBot"}, {"bot_id": "5"})
    assert CONTRACT["responses"].keys() == OPERATIONS.keys() - {"calendars.delete"}


async def test_every_operation_answers_as_the_reference_says(start: Callable[..., Any]) -> None:
    """A client that is made from the reference would not understand the sandbox, or the sandbox prove nothing about it."""
    api: Api = await start(events=260, calendars=2, url_objects=False)
    answered: dict[str, Any] = {}

    async def send(name: str, method: str, path: str, document: Any = None) -> Any:
        reply = await api.send(method, path, json=document)
        assert reply.status == (201 if name == "calendars.create" else 204 if name == "calendars.delete" else 200), (
            reply
        )
        answered[name] = reply.body
        if name in CONTRACT["responses"]:
            schema = {"$ref": f"#/$defs/{CONTRACT['responses'][name]}"}
            assert problems(schema, reply.body) == [], name
        return reply.body

    events = api.upcoming()[:60]
    for number, event in enumerate(events):
        config = {"bot_name": "Notes", "metadata": {"event": event["id"]}}
        recording = {"transcript": {"provider": {"meeting_captions": {}}}} if number % 2 else {}
        bot = {"deduplication_key": event["id"], "bot_config": {**config, "recording_config": recording}}
        await send("calendar_events.schedule_bot", "POST", f"{EVENTS}{event['id']}/bot/", bot)
        await send("calendar_events.retrieve", "GET", f"{EVENTS}{event['id']}/")
    await send("calendar_events.remove_bot", "DELETE", f"{EVENTS}{events[-1]['id']}/bot/")
    page = await send("calendar_events.list", "GET", EVENTS)
    await send("calendar_events.list", "GET", page["next"])

    calendar = await send("calendars.create", "POST", CALENDARS, CALENDAR)
    certificate = {"oauth_client_certificate": "c", "oauth_client_private_key": "k", "platform": "microsoft_outlook"}
    fields = {name: value for name, value in CALENDAR.items() if name != "oauth_client_secret"}
    await send("calendars.create", "POST", CALENDARS, {**fields, **certificate})
    path = f"{CALENDARS}{calendar['id']}/"
    await send("calendars.retrieve", "GET", path)
    api.sandbox.advance(2)
    await send("calendars.retrieve", "GET", path)
    await send("calendars.list", "GET", CALENDARS)
    await send("calendars.update", "PATCH", path, {"oauth_email": "bo@northwind.example"})
    await send("calendars.create_access_token", "POST", f"{path}access-token/")
    await send("calendars.delete", "DELETE", path)
    refused = await api.send("POST", f"{path}access-token/")
    assert problems({"$ref": "#/$defs/CalendarAccountAccessTokenError"}, refused.body) == []

    bots = [bot["id"] for bot in api.sandbox.snapshot()["bots"]]
    api.sandbox.fail_bot(bots[1])
    for _ in range(6):
        for bot_id in bots[:3]:
            await send("bots.retrieve", "GET", f"{BOTS}{bot_id}/")
        await send("bots.list", "GET", BOTS)
        api.sandbox.advance(15 if answered["bots.retrieve"]["status_changes"] else 6 * 3600)
    waiting = next(bot for bot in api.sandbox.snapshot()["bots"] if not bot["status_changes"])
    now = moment((await api.send("POST", "/_sandbox/advance?seconds=0")).body["now"])
    api.sandbox.advance((moment(waiting["start_time"]) - now).total_seconds() + 60)
    await send("bots.leave_call", "POST", f"{BOTS}{waiting['id']}/leave_call/")
    assert answered.keys() == OPERATIONS.keys()


RAW = {"oneOf": [{"$ref": f"#/$defs/CalendarEventRaw{name}"} for name in ("MicrosoftOutlook", "GoogleCalendar")]}


async def test_documented_events_are_as_the_reference_says_to_the_last_field(start: Callable[..., Any]) -> None:
    """A generated client that validates what it gets cannot be tried on the sandbox."""
    api: Api = await start(events=300, calendars=4, documented=True)
    page = {"$ref": "#/$defs/PaginatedCalendarEventList"}
    usual = await start(events=300, calendars=4)
    reply = await usual.send("GET", EVENTS)
    assert problems(page, reply.body, raw=RAW), "the schema finds nothing wrong with anything"

    api.sandbox.mutate(30)
    created = await api.send("POST", CALENDARS, json=CALENDAR)
    api.sandbox.advance(5)
    link: str | None = EVENTS
    calendars = set()
    while link is not None:
        reply = await api.send("GET", link)
        assert problems(page, reply.body, raw=RAW) == []
        calendars |= {event["calendar_id"] for event in reply.body["results"]}
        link = reply.body["next"]
    assert created.body["id"] in calendars
    with pytest.raises(ValueError, match="unusual must be 0"):
        RecallSandbox(documented=True, unusual=0.5)


async def test_a_transcript_names_its_provider(start: Callable[..., Any]) -> None:
    """A generated client refuses a transcript, whose provider has six fields that are required."""
    api: Api = await start()
    event = api.upcoming()[0]
    provider = {"deepgram_streaming": {"model": "nova-3"}}
    await api.schedule(event["id"], "k", recording_config={"transcript": {"provider": provider}})
    api.sandbox.advance(40 * 24 * 3600)
    [bot] = (await api.send("GET", BOTS)).body["results"]
    transcript = bot["recordings"][0]["media_shortcuts"]["transcript"]
    assert problems({"$ref": "#/$defs/TranscriptArtifactShortcut"}, transcript) == []
    assert {name: value for name, value in transcript["provider"].items() if value is not None} == provider


async def test_every_webhook_is_as_the_reference_says(start: Callable[..., Any]) -> None:
    """A handler that is made from the reference would not understand the sandbox's deliveries."""
    inbox = Inbox()
    async with receiver(inbox) as url:
        api: Api = await start(webhook_url=url)
        events = api.upcoming()[:4]
        config = {"recording_config": {"transcript": {"provider": {"recallai_streaming": {}}}}}
        bots = [(await api.schedule(e["id"], e["id"], **config)).body["bots"][-1]["bot_id"] for e in events]
        api.sandbox.fail_bot(bots[0])
        api.sandbox.mutate(5)
        await api.send("POST", CALENDARS, json={**CALENDAR, "webhook_url": url})
        api.sandbox.advance(40 * 24 * 3600)
        await until(lambda: not api.sandbox.webhooks()["pending"])
    told = [json.loads(body) for _, body in inbox.requests]
    for document in told:
        assert problems(WEBHOOKS[document["event"]]["schema"], document) == []
    kinds = {document["event"] for document in told}
    assert {"calendar.sync_events", "calendar.update", "bot.fatal", "bot.done", "bot.call_ended"} < kinds
    assert {"recording.processing", "recording.done", "transcript.processing", "transcript.done"} < kinds
