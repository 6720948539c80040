"""What the sandbox answers and tells, against the JSON schemas of the API's reference (`tests/data`).

The schemas are the reference's own, cut down to what this client reads. `raw` is any object there: what the reference
says of it leaves out most of what the calendar platforms send.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker

from recall_async.operations import OPERATIONS
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


def problems(schema: dict[str, Any], document: Any) -> list[str]:
    """What is wrong with a document, and where."""
    validator = Draft202012Validator({**schema, "$defs": CONTRACT["$defs"]}, format_checker=FORMATS)
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
    for event in events:
        bot = {
            "deduplication_key": event["id"],
            "bot_config": {"bot_name": "Notes", "metadata": {"event": event["id"]}},
        }
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
