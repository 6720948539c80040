"""Bots are found again by their tags, also when the process that scheduled them was killed before it noted them."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recall_async import CalendarEvent, ConfigurationError, Deduplication, RecallSession, tagged
from recall_async.sandbox import RecallSandbox
from recall_async.sandbox.embedded import API_KEY
from tests.bots.job import action
from tests.webhooks.receiver import until

ROOT = Path(__file__).parents[2]
SCHEDULE = "calendar_events.schedule_bot"
EVENT = "9eaeb16c-f112-4d79-b2f5-f448185ebbe8"


async def upcoming(recall: RecallSession) -> list[CalendarEvent]:
    soon = datetime.now(UTC) + timedelta(minutes=10)
    found = recall.calendar_events.list(start_time__gte=soon, is_deleted=False)
    return [event async for event in found if event.meeting_url]


async def test_by_event_and_by_key() -> None:
    """The bot of an event is not found, or that of another event is."""
    async with RecallSandbox(events=80) as sandbox, RecallSession(API_KEY, base_url=sandbox.url) as recall:
        events = await upcoming(recall)
        for place, event in enumerate(events[:3]):
            key = f"key {min(place, 1)} & more"
            config = tagged({"metadata": {"team": "sales"}}, event_id=event.id, deduplication_key=key)
            await recall.calendar_events.schedule_bot(event.id, deduplication_key=key, bot_config=config)
        (first,) = await recall.bots.find(event_id=events[0].id)
        assert first.metadata["team"] == "sales"
        assert await recall.bots.find(deduplication_key="key 0 & more") == (first,)
        (shared,) = await recall.bots.find(deduplication_key="key 1 & more")
        assert await recall.bots.find(event_id=events[2].id) == (shared,)
        assert await recall.bots.find(event_id=events[0].id, deduplication_key="key 1 & more") == ()
        assert await recall.bots.find(event_id=EVENT) == ()
        sandbox.advance((events[0].end_time - datetime.now(UTC)).total_seconds() + 3600)
        assert await recall.bots.find(event_id=events[0].id) == ()
        with pytest.raises(ConfigurationError, match="got neither"):
            await recall.bots.find()


@pytest.mark.parametrize(
    ("config", "arguments", "told"),
    [
        ([], {}, "bot_config must be a mapping"),
        ({"metadata": "x"}, {}, "metadata"),
        ({}, {"event_id": "5"}, "event_id must be a UUID"),
        ({}, {"deduplication_key": ""}, "deduplication_key must not be empty"),
    ],
)
def test_tags_of_nonsense(config: Any, arguments: dict[str, str], told: str) -> None:
    """A wrong tag is noticed only when a bot is not found."""
    with pytest.raises(ConfigurationError, match=told):
        tagged(config, **{"event_id": EVENT, "deduplication_key": "k", **arguments})


def test_tagging_changes_nothing_else() -> None:
    """A configuration that many actions share collects the tags of all of them."""
    config = {"bot_name": "Notes", "metadata": {"team": "sales"}}
    result = tagged(config, event_id=EVENT.upper(), deduplication_key="k" * 2000)
    assert config == {"bot_name": "Notes", "metadata": {"team": "sales"}}
    assert result["metadata"].keys() == {"team", "recall_async_event", "recall_async_key", "recall_async_config"}
    again = tagged(result, event_id=EVENT, deduplication_key="k" * 2000)
    assert again == result
    assert result["metadata"]["recall_async_event"] == EVENT
    assert all(isinstance(value, str) and len(value) <= 40 for value in result["metadata"].values())


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_killed_between_the_request_and_its_line(kills: int, tmp_path: Path) -> None:
    """A bot that nobody noted is lost, or a second one is sent into the same meeting."""
    async with RecallSandbox(events=150) as sandbox, RecallSession(API_KEY, base_url=sandbox.url) as recall:
        events = {Deduplication.MEETING(event): event for event in await upcoming(recall)}
        assert len(events) >= kills
        for number, (key, event) in enumerate(list(events.items())[:kills]):
            journal = tmp_path / f"journal-{number}"
            sandbox.fault(SCHEDULE, kind="hang", applied=True)  # the bot is there, and the process does not learn of it
            command = [sys.executable, "-m", "tests.bots.job", sandbox.url, event.id, key, str(journal)]
            process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
            await until(lambda number=number: len(sandbox.snapshot()["bots"]) == number + 1)
            process.kill()
            await process.wait()
            sandbox.clear_faults()
            assert not journal.exists() or b"done" not in journal.read_bytes()

            asked = sandbox.report()["operations"]["bots.list"]["accepted"]
            (bot,) = await recall.bots.find(event_id=event.id)
            assert sandbox.report()["operations"]["bots.list"]["accepted"] == asked + 1
            (outcome,) = [outcome async for outcome in recall.bulk([action(event.id, key)], journal=journal)]
            assert outcome.event is not None
            assert [reference.bot_id for reference in outcome.event.bots] == [bot.id]
        snapshot = sandbox.snapshot()
        assert len(snapshot["bots"]) == kills
        assert all(len(bot["event_ids"]) == 1 for bot in snapshot["bots"])
        references = [bot["bot_id"] for event in snapshot["events"] for bot in event["bots"]]
        assert sorted(references) == sorted(bot["id"] for bot in snapshot["bots"])
