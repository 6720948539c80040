"""Changes of the calendars' data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.sandbox.conftest import CALENDARS, Api, moment


def by_id(api: Api) -> dict[str, dict[str, Any]]:
    return {event["id"]: event for event in api.events()}


async def test_changes_are_what_they_say(api: Api) -> None:
    """The list of changes would not tell what changed: a sync tested with it would be judged by wrong expectations."""
    for _ in range(120):
        before = by_id(api)
        api.clock.seconds += 3600
        (change,) = (await api.send("POST", "/_sandbox/mutate?n=1")).body
        after = by_id(api)
        changed = {event_id for event_id in after if after[event_id] != before.get(event_id)}
        assert changed == set(change["event_ids"])
        assert {after[event_id]["calendar_id"] for event_id in changed} == set(change["calendar_ids"])
        for event_id in changed:
            new, old = after[event_id], before.get(event_id)
            assert moment(new["updated_at"]) == api.clock.now()
            if old is None:
                assert change["kind"] == "create"
                assert api.is_upcoming(new)
                continue
            differs = {name for name in new if new[name] != old[name]}
            assert (
                differs - {"updated_at", "raw"}
                == {
                    "move": {"start_time", "end_time"},
                    "relink": {"meeting_url"} | ({"meeting_platform"} & differs),
                    "decline": set(),
                    "delete": {"is_deleted"},
                }[change["kind"]]
            )
            assert "raw" in differs


async def test_every_kind_of_change_occurs_and_all_copies_of_a_meeting_move(api: Api) -> None:
    """A kind would never be tried; or a meeting would move in one of its calendars only."""
    changes = api.sandbox.mutate(200)
    assert {change["kind"] for change in changes} == {"move", "relink", "decline", "delete", "create"}
    assert any(len(change["calendar_ids"]) > 1 for change in changes if change["kind"] == "move")
    assert all(len(change["event_ids"]) == 1 for change in changes if change["kind"] in ("decline", "delete", "create"))


async def test_raw_follows_the_change(api: Api) -> None:
    """Policies that read `raw` would not see that the owner declined, that the meeting moved or was cancelled."""
    seen = set()
    for _ in range(100):
        (change,) = api.sandbox.mutate(1)
        kind, event = change["kind"], by_id(api)[change["event_ids"][0]]
        google, raw = event["platform"] == "google_calendar", event["raw"]
        seen.add((kind, google))
        match kind:
            case "delete":
                assert raw["status"] == "cancelled" if google else raw["isCancelled"] is True
            case "decline" if google:
                assert [person["responseStatus"] for person in raw["attendees"] if person.get("self")] == ["declined"]
            case "decline":
                assert raw["responseStatus"]["response"] == "declined"
            case "move":
                assert raw["start"]["dateTime"][:19] == event["start_time"][:19]
            case "relink" if isinstance(event["meeting_url"], str):
                assert event["meeting_url"] in msgspec.json.encode(raw).decode()
    assert len(seen) == 10


async def test_perpetual_events_move_for_ever(api: Api) -> None:
    """An event that is moved forward again and again, and so collects bots, would never occur."""
    perpetual = {event.document.id for event in api.state.events.values() if event.meeting.perpetual}
    api.clock.seconds += 30 * 24 * 3600
    changes = api.sandbox.mutate(40)
    moved = {event_id for change in changes if change["kind"] == "move" for event_id in change["event_ids"]}
    assert perpetual & moved
    assert all(moment(event["start_time"]) > api.clock.now() for event in api.events() if event["id"] in moved)


async def test_changes_touch_no_bots_except_of_deleted_events(api: Api) -> None:
    """The server would move bots on its own, which is the client's work."""
    for event in api.upcoming():
        await api.schedule(event["id"], event["id"])
    before = by_id(api)
    for change in api.sandbox.mutate(60):
        for event_id in change["event_ids"]:
            event = by_id(api)[event_id]
            expected = [] if event["is_deleted"] or event_id not in before else before[event_id]["bots"]
            assert event["bots"] == expected


async def test_same_seed_gives_the_same_changes(start: Callable[..., Any]) -> None:
    """A failure after some changes could not be reproduced."""
    one, two = await start(seed=3), await start(seed=3)
    assert one.sandbox.mutate(50) == two.sandbox.mutate(50)
    assert one.events() == two.events()


@pytest.mark.parametrize("number", ["x", "-1", "", "1.5", "999999", "٣"])
async def test_a_number_that_is_none_is_refused(api: Api, number: str) -> None:
    """The server would break, or be kept busy for hours."""
    assert (await api.send("POST", "/_sandbox/mutate", params={"n": number})).status == 400


async def test_without_calendars_or_events_nothing_breaks(start: Callable[..., Any]) -> None:
    """An empty sandbox would fail instead of filling up; one without connected calendars would fail instead of resting."""
    api: Api = await start(events=0, calendars=1)
    assert api.sandbox.mutate(1)[0]["kind"] == "create"
    assert len(api.sandbox.mutate(30)) == 30
    await api.send("DELETE", f"{CALENDARS}{api.sandbox.snapshot()['calendars'][0]['id']}/")
    assert api.sandbox.mutate(5) == []
