"""Bots that live: they join, record, leave or fail when their time has come, and webhooks tell of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recall_async.webhooks import BotChange, RecordingChange, WebhookEvent, WebhookVerifier
from tests.sandbox.conftest import CALENDARS, Api, moment
from tests.webhooks.receiver import receiver, until
from tests.webhooks.test_sandbox import Inbox

LIFE = [
    "joining_call",
    "in_waiting_room",
    "in_call_not_recording",
    "recording_permission_allowed",
    "in_call_recording",
    "call_ended",
    "done",
]


def bot_of(api: Api) -> dict[str, Any]:
    (bot,) = api.sandbox.snapshot()["bots"]
    result: dict[str, Any] = bot
    return result


def codes(api: Api) -> list[str]:
    return [status["code"] for status in bot_of(api)["status_changes"]]


def seconds_until(api: Api, text: str) -> float:
    return (moment(text) - api.clock.now()).total_seconds()


async def test_a_bot_joins_records_and_leaves(api: Api) -> None:
    """A program that follows its bots would see none of them move, or at the wrong times."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "key")
    before = seconds_until(api, event["start_time"])
    api.sandbox.advance(before - 1)
    assert codes(api) == []
    api.sandbox.advance(1)
    assert codes(api) == LIFE[:1]
    api.sandbox.advance(60)
    assert codes(api) == LIFE[:5]
    assert [recording["status"]["code"] for recording in bot_of(api)["recordings"]] == ["processing"]
    api.sandbox.advance(seconds_until(api, event["end_time"]) - before + 100)
    changes = bot_of(api)["status_changes"]
    assert [change["code"] for change in changes] == LIFE
    times = [moment(change["created_at"]) for change in changes]
    assert times == sorted(times)
    assert times[0] == moment(event["start_time"])
    assert times[5] == moment(event["end_time"])
    (recording,) = bot_of(api)["recordings"]
    assert recording["status"]["code"] == "done"
    assert recording["media_shortcuts"]["video_mixed"]["data"]["download_url"].startswith("https://")


async def test_time_that_passes_by_itself_counts_too(api: Api) -> None:
    """Bots would move in tests that advance the clock, and stand still in a sandbox that is left alone."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "key")
    api.clock.seconds += seconds_until(api, event["start_time"]) + 9.9
    await api.event(event["id"])
    assert codes(api) == LIFE[:2]
    api.clock.seconds += 60
    await until(lambda: len(codes(api)) == 5)  # nobody asks


async def test_a_bot_that_is_told_to_fail(api: Api) -> None:
    """A program could not be tried on a bot that is not let in."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "key")
    reply = await api.send("POST", f"/_sandbox/fail?bot_id={bot_of(api)['id']}&sub_code=bot_kicked_from_waiting_room")
    assert reply.status == 200
    api.sandbox.advance(seconds_until(api, event["start_time"]) + 3600)
    assert codes(api) == ["joining_call", "in_waiting_room", "fatal"]
    assert bot_of(api)["status_changes"][-1]["sub_code"] == "bot_kicked_from_waiting_room"
    assert bot_of(api)["recordings"] == []


async def test_a_bot_follows_its_event_when_it_is_scheduled_again(api: Api) -> None:
    """A bot that was moved would join at its old time, or twice."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "key")
    later = moment(event["start_time"]) + timedelta(hours=5)
    api.state.move_event(api.state.events[event["id"]], later, api.clock.now())
    await api.schedule(event["id"], "key")
    api.sandbox.advance(seconds_until(api, event["start_time"]) + 3600)
    assert codes(api) == []
    api.sandbox.advance(4 * 3600 + 60)
    assert codes(api) == LIFE[:5]


async def test_a_removed_bot_never_joins(api: Api) -> None:
    """A bot would join a meeting that it was taken off."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "key")
    await api.remove(event["id"])
    api.sandbox.advance(seconds_until(api, event["end_time"]) + 3600)
    assert api.sandbox.snapshot()["bots"] == []


async def test_a_meeting_whose_bot_failed_gets_a_new_one(api: Api) -> None:
    """A second try, after the first bot was not let in, would get the bot that has failed."""
    event = api.upcoming()[0]
    first = (await api.schedule(event["id"], "key")).body["bots"]
    api.sandbox.fail_bot(first[0]["bot_id"])
    api.sandbox.advance(seconds_until(api, event["start_time"]) + 60)
    again = (await api.schedule(event["id"], "key")).body["bots"]
    assert [bot["bot_id"] for bot in again][:1] == [first[0]["bot_id"]]
    assert len({bot["bot_id"] for bot in again}) == 2
    api.sandbox.advance(30)
    codes = [bot["status_changes"][-1]["code"] for bot in api.sandbox.snapshot()["bots"]]
    assert codes == ["fatal", "in_call_recording"]


async def test_webhooks_tell_the_whole_life(start: Callable[..., Any]) -> None:
    """A program that waits for the webhooks of its bots would wait for ever, or get them in a form of the sandbox's own."""
    inbox = Inbox()
    documented = json.loads((Path(__file__).parent.parent / "data" / "webhooks.json").read_text())
    async with receiver(inbox) as url:
        api: Api = await start(webhook_url=url)
        event = api.upcoming()[0]
        await api.schedule(event["id"], "key", metadata={"event": event["id"]})
        api.sandbox.advance(seconds_until(api, event["end_time"]) + 3600)
        await until(lambda: not api.sandbox.webhooks()["pending"])
        verifier = WebhookVerifier(api.sandbox.webhook_secret)
        told: list[WebhookEvent] = [verifier.verify(headers, body) for headers, body in inbox.requests]
        for _, body in inbox.requests:
            document = json.loads(body)
            example = documented[document["event"]]["example"]
            assert {name: set(part) for name, part in document["data"].items()} == {
                name: set(part) for name, part in example["data"].items()
            }
    bots = sorted((e.data for e in told if isinstance(e.data, BotChange)), key=lambda change: change.updated_at)
    assert [change.code for change in bots] == LIFE
    assert {change.bot.metadata["event"] for change in bots} == {event["id"]}
    recordings = [e.data.code for e in told if isinstance(e.data, RecordingChange)]
    assert sorted(recordings) == ["done", "processing"]


@pytest.mark.parametrize("seconds", ["", "soon", "-1", "nan", "inf", "1e30", "1e400"])
async def test_time_goes_forward_only(api: Api, seconds: str) -> None:
    """The clock would stand at a time that is none, and every later request would break."""
    assert (await api.send("POST", f"/_sandbox/advance?seconds={seconds}")).status == 400
    reply = await api.send("POST", "/_sandbox/advance?seconds=600.5")
    assert moment(reply.body["now"]) == api.clock.now() + timedelta(seconds=600.5)
    with pytest.raises(ValueError, match="seconds must be"):
        api.sandbox.advance(-1)


async def test_quotas_and_keys_follow_the_clock(start: Callable[..., Any]) -> None:
    """A test that lets an hour pass would still be throttled for the minute before."""
    api: Api = await start(quotas={"calendars.list": (1, 60.0)})
    assert [(await api.send("GET", CALENDARS)).status for _ in range(2)] == [200, 429]
    api.sandbox.advance(60)
    assert (await api.send("GET", CALENDARS)).status == 200


async def test_many_changes_do_not_hold_requests_up(start: Callable[..., Any]) -> None:
    """While somebody makes a hundred thousand changes, the sandbox would answer nobody."""
    api: Api = await start(events=50)
    mutating = asyncio.create_task(api.send("POST", "/_sandbox/mutate?n=99999"))
    for _ in range(20):
        assert (await api.send("GET", CALENDARS)).status == 200
    assert not mutating.done()
    api.sandbox.reset()
    assert 0 < len((await mutating).body) < 99_999


async def test_shared_bots_can_be_updated_in_place(start: Callable[..., Any]) -> None:
    """Two calendars whose plans take turns for ever, as they would on the API, could not be tried."""
    for way, same in (("detach", False), ("update", True)):
        api: Api = await start(shared_bots=way)
        one, two = (event["id"] for event in api.upcoming()[:2])
        first = (await api.schedule(one, "old")).body["bots"][0]
        assert (await api.schedule(two, "old")).body["bots"][0]["bot_id"] == first["bot_id"]
        changed = (await api.schedule(one, "new")).body["bots"][0]
        (other,) = (await api.event(two))["bots"]
        assert (changed["bot_id"] == other["bot_id"] == first["bot_id"]) is same
        assert other["deduplication_key"] == ("new" if same else "old")
        assert len(api.sandbox.snapshot()["bots"]) == (1 if same else 2)
