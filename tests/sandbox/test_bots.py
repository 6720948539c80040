"""Scheduling and removing bots by the rules of the API."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import yarl

from tests.sandbox.conftest import EVENTS, Api, moment


def bot_ids(event: dict[str, Any]) -> list[str]:
    return [bot["bot_id"] for bot in event["bots"]]


async def test_schedule_answers_with_the_event_and_its_bot(api: Api) -> None:
    """A schedule request would not put a bot on the event, or would pass for a change of the event itself."""
    event = api.upcoming()[0]
    reply = await api.schedule(event["id"], "key", bot_name="Notes")
    assert reply.status == 200
    (bot,) = reply.body.pop("bots")
    assert event.pop("bots") == []
    assert reply.body == event
    assert bot == {
        "bot_id": bot["bot_id"],
        "start_time": event["start_time"],
        "deduplication_key": "key",
        "meeting_url": event["meeting_url"],
    }
    assert (await api.event(event["id"]))["bots"] == [bot]
    (stored,) = api.sandbox.snapshot()["bots"]
    assert stored["config"] == {"bot_name": "Notes"}
    assert api.sandbox.report()["bots"] == 1


async def test_same_key_again_keeps_the_bot_and_replaces_its_config(api: Api) -> None:
    """Schedule would not be an upsert: twin bots, or a bot with a mixture of two configurations."""
    event = api.upcoming()[0]
    first = await api.schedule(event["id"], "key", bot_name="Notes", extra=1)
    second = await api.schedule(event["id"], "key", bot_name="Other")
    assert bot_ids(first.body) == bot_ids(second.body)
    (stored,) = api.sandbox.snapshot()["bots"]
    assert stored["config"] == {"bot_name": "Other"}


async def test_another_key_replaces_the_bot(api: Api) -> None:
    """An event whose key changed would have two bots in its meeting."""
    event = api.upcoming()[0]
    first = await api.schedule(event["id"], "old")
    second = await api.schedule(event["id"], "new")
    assert [bot["deduplication_key"] for bot in second.body["bots"]] == ["new"]
    assert bot_ids(first.body) != bot_ids(second.body)
    assert api.sandbox.report()["bots"] == 1


async def test_events_share_a_bot_by_key(api: Api) -> None:
    """Events of one meeting would get a bot each, or lose the bot when one of them lets it go."""
    one, two, three = (event["id"] for event in api.upcoming()[:3])
    replies = [await api.schedule(event_id, "shared") for event_id in (one, two, three)]
    assert len({bot for reply in replies for bot in bot_ids(reply.body)}) == 1
    assert api.sandbox.report()["bots"] == 1
    assert (await api.remove(one)).body["bots"] == []
    assert bot_ids(await api.event(two)) == bot_ids(replies[0].body)
    await api.schedule(two, "another")
    assert bot_ids(await api.event(three)) == bot_ids(replies[0].body)
    assert api.sandbox.report()["bots"] == 2


async def test_a_moved_meeting_needs_a_request_to_move_its_bot(api: Api) -> None:
    """A client that never reschedules would look right."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "key")
    later = moment(event["start_time"]) + timedelta(hours=1)
    api.state.move_event(api.state.events[event["id"]], later, api.clock.now())
    moved = await api.event(event["id"])
    assert moment(moved["start_time"]) == later
    assert moved["bots"][0]["start_time"] == event["start_time"]
    again = (await api.schedule(event["id"], "key")).body
    assert again["bots"][0]["start_time"] == moved["start_time"]
    assert bot_ids(again) == bot_ids(moved)


@pytest.mark.parametrize("second_key", ["first", "second"])
async def test_a_perpetual_event_collects_bots(api: Api, second_key: str) -> None:
    """Nobody would notice code that takes `bots[0]` for its own, or that cannot remove the bot that is still to come."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "first")
    api.clock.seconds += (moment(event["start_time"]) - api.clock.now()).total_seconds() + 60
    api.state.move_event(api.state.events[event["id"]], api.clock.now() + timedelta(hours=2), api.clock.now())
    reply = await api.schedule(event["id"], second_key)
    assert [bot["deduplication_key"] for bot in reply.body["bots"]] == ["first", second_key]
    assert len(set(bot_ids(reply.body))) == 2
    for _ in range(2):
        removed = await api.remove(event["id"])
        assert removed.status == 200
        assert bot_ids(removed.body) == bot_ids(reply.body)[:1]


async def test_config_may_name_url_and_time(api: Api) -> None:
    """`meeting_url` and `join_at` of the configuration would be ignored, also for an event that has no URL."""
    event = api.events(lambda event: event["meeting_url"] is None and moment(event["end_time"]) > api.clock.now())[-1]
    reply = await api.schedule(event["id"], "k", meeting_url="https://zoom.us/j/1", join_at="2030-01-01T00:00:00Z")
    assert reply.status == 200
    assert reply.body["bots"][0]["meeting_url"] == "https://zoom.us/j/1"
    assert reply.body["bots"][0]["start_time"] == "2030-01-01T00:00:00Z"
    assert (await api.remove(event["id"])).body["bots"] == []
    assert api.sandbox.snapshot()["bots"] == []


async def test_remove_is_idempotent(api: Api) -> None:
    """A second remove would fail, or the bot would stay."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "key")
    replies = [await api.remove(event["id"]) for _ in range(2)]
    assert [(reply.status, reply.body["bots"]) for reply in replies] == [(200, []), (200, [])]
    assert api.sandbox.report()["bots"] == 0


async def test_a_dispatched_bot_cannot_be_removed(api: Api) -> None:
    """Code that tries to remove a bot from its meeting would never see the 405 that the API gives."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "key")
    api.clock.seconds += (moment(event["start_time"]) - api.clock.now()).total_seconds()
    reply = await api.remove(event["id"])
    assert reply.status == 405
    assert reply.body["code"] == "cannot_delete_bot"
    assert len((await api.event(event["id"]))["bots"]) == 1
    assert api.counts("calendar_events.remove_bot")["rejected"] == 1


async def test_bots_of_deleted_events_are_gone(api: Api) -> None:
    """A deleted meeting would keep its bot; one that is shared must stay for the others."""
    one, two = (event["id"] for event in api.upcoming()[:2])
    await api.schedule(one, "shared")
    await api.schedule(two, "shared")
    api.state.delete_event(api.state.events[one], api.clock.now())
    assert (await api.event(one))["bots"] == []
    assert len((await api.event(two))["bots"]) == 1
    api.state.delete_event(api.state.events[two], api.clock.now())
    assert api.sandbox.snapshot()["bots"] == []
    reply = await api.schedule(one, "shared")
    assert reply.status == 400


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"bot_config": {}}, "deduplication_key"),
        ({"deduplication_key": None, "bot_config": {}}, "deduplication_key"),
        ({"deduplication_key": "", "bot_config": {}}, "deduplication_key"),
        ({"deduplication_key": 5, "bot_config": {}}, "deduplication_key"),
        ({"deduplication_key": "k" * 2001, "bot_config": {}}, "deduplication_key"),
        ({"deduplication_key": "k"}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": []}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"join_at": "tomorrow"}}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"meeting_url": 5}}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"join_at": "0001-01-01T00:00:00"}}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"join_at": 7}}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"meeting_url": {"platform": 7}}}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"meeting_url": {"meeting_id": "1"}}}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"bot_name": [1]}}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"bot_name": "x" * 101}}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"metadata": []}}, "bot_config"),
        ({"deduplication_key": "k", "bot_config": {"metadata": {"a": {}}}}, "bot_config"),
        ([], "non_field_errors"),
    ],
)
async def test_wrong_fields_get_400_with_their_name(api: Api, document: Any, field: str) -> None:
    """A client that sends nonsense would not be told which field was wrong."""
    reply = await api.send("POST", f"{EVENTS}{api.upcoming()[0]['id']}/bot/", json=document)
    assert reply.status == 400
    assert list(reply.body) == [field]
    assert isinstance(reply.body[field][0], str)
    assert api.sandbox.report()["bots"] == 0


async def test_all_missing_fields_are_named(api: Api) -> None:
    """A client would learn of one missing field after the other."""
    for document in ({}, None):
        reply = await api.send("POST", f"{EVENTS}{api.upcoming()[0]['id']}/bot/", json=document)
        assert reply.status == 400
    reply = await api.send("POST", f"{EVENTS}{api.upcoming()[0]['id']}/bot/", json={})
    assert reply.body == {key: ["This field is required."] for key in ("deduplication_key", "bot_config")}


async def test_a_key_of_2000_characters_is_accepted(api: Api) -> None:
    """The limit would be off by one."""
    assert (await api.schedule(api.upcoming()[0]["id"], "k" * 2000)).status == 200


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff", b'{"deduplication_key": "\xff"}', b"[" * 100_000, b'{"a":' * 100_000, b"[" * 300 + b"]" * 300],
)
async def test_a_malformed_body_gets_400_with_detail(api: Api, body: bytes) -> None:
    """Broken JSON would be taken for something, or break the server."""
    headers = {"Content-Type": "application/json"}
    reply = await api.send("POST", f"{EVENTS}{api.upcoming()[0]['id']}/bot/", data=body, headers=headers)
    assert reply.status == 400
    assert list(reply.body) == ["detail"]


async def test_an_event_that_has_ended_gets_no_bot(api: Api) -> None:
    """Code that schedules bots for meetings that are over would look right."""
    event = api.events(lambda event: moment(event["end_time"]) < api.clock.now())[0]
    reply = await api.schedule(event["id"], "key")
    assert reply.status == 400
    assert reply.body == {
        "code": "invalid_request_data",
        "message": "Unable to process request because invalid data was submitted. Check `errors` field for more details.",
        "errors": {"non_field_errors": ["Cannot schedule bot as calendar event has ended."]},
    }


async def test_a_meeting_under_way_still_gets_a_bot(api: Api) -> None:
    """Events would count as ended when they start."""
    now = api.clock.now()
    under_way = api.events(
        lambda event: moment(event["start_time"]) < now < moment(event["end_time"]) and event["meeting_url"] is not None
    )
    assert (await api.schedule(under_way[0]["id"], "key")).status == 200
    assert api.sandbox.report()["bots"] == 1


async def test_an_event_without_a_url_gets_no_bot(api: Api) -> None:
    """Code that schedules bots for what is no meeting would look right."""
    event = api.events(lambda event: event["meeting_url"] is None and moment(event["end_time"]) > api.clock.now())[-1]
    reply = await api.schedule(event["id"], "key")
    assert reply.status == 400
    assert "meeting URL" in reply.body["errors"]["non_field_errors"][0]


@pytest.mark.parametrize("identifier", ["9eaeb16c-f112-4d79-b2f5-f448185ebbe8", "5", "{id}", "..%2F..", "%00", "%zz"])
async def test_unknown_and_malformed_ids_get_404(api: Api, identifier: str) -> None:
    """An id that is none would break the server, or reach something else."""
    for method, tail in (("GET", ""), ("DELETE", "bot/")):
        url = yarl.URL(f"{api.sandbox.url}{EVENTS}{identifier}/{tail}", encoded=True)
        async with api.http.request(method, url, headers={"Authorization": f"Token {api.sandbox.api_key}"}) as response:
            assert response.status == 404
            assert list(await response.json()) == ["detail"]


async def test_ids_may_be_written_in_any_case(api: Api) -> None:
    """UUIDs are equal whatever the case of their digits."""
    event = api.upcoming()[0]
    assert (await api.event(event["id"].upper()))["id"] == event["id"]


async def test_bots_that_are_over_are_not_counted(api: Api) -> None:
    """`bots` of the report would not be those now scheduled."""
    event = api.upcoming()[0]
    await api.schedule(event["id"], "key")
    api.clock.seconds += (moment(event["end_time"]) - api.clock.now()).total_seconds()
    assert api.sandbox.report()["bots"] == 0
