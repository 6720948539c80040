"""`recall.bots` against the sandbox: what became of a bot, lists and their filters, the end of a call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from recall_async import (
    BadRequestError,
    Bot,
    BotAlreadyDispatchedError,
    CalendarEvent,
    ConfigurationError,
    NotFoundError,
    Quota,
    RecallSession,
)
from recall_async.sandbox import RecallSandbox

NOWHERE = "9eaeb16c-f112-4d79-b2f5-f448185ebbe8"


class World:
    """A sandbox, a session on it, and the events that are to come."""

    def __init__(self, sandbox: RecallSandbox, recall: RecallSession, events: list[CalendarEvent]) -> None:
        self.sandbox = sandbox
        self.recall = recall
        self.events = events

    async def schedule(self, place: int = 0, **config: Any) -> str:
        """Put a bot on an event; its id."""
        event = self.events[place]
        scheduled = await self.recall.calendar_events.schedule_bot(
            event.id, deduplication_key=event.id, bot_config=config
        )
        return scheduled.bots[0].bot_id

    def start(self, place: int = 0, seconds: float = 60) -> None:
        """Let time pass until so many seconds after the event's start."""
        self.sandbox.advance((self.events[place].start_time - datetime.now().astimezone()).total_seconds() + seconds)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with (
        RecallSandbox(events=200, calendars=2, quota_scale=100) as sandbox,
        RecallSession(sandbox.api_key, base_url=sandbox.url) as recall,
    ):
        soon = datetime.now().astimezone() + timedelta(minutes=5)
        found = recall.calendar_events.list(start_time__gte=soon, is_deleted=False)
        yield World(sandbox, recall, [event async for event in found if event.meeting_url])


async def ids(bots: AsyncIterator[Bot]) -> set[str]:
    return {bot.id async for bot in bots}


async def test_a_bot_that_waits_joins_and_is_done(world: World) -> None:
    """A program that asks what became of its bot is told something else."""
    bot_id = await world.schedule(bot_name="Notes", metadata={"team": "sales"})
    bot = await world.recall.bots.retrieve(bot_id)
    assert (bot.id, bot.bot_name, bot.metadata) == (bot_id, "Notes", {"team": "sales"})
    assert (bot.status, bot.sub_code, bot.joined_at, bot.is_over) == ("ready", None, None, False)
    assert bot.join_at == world.events[0].start_time
    assert bot.recordings == ()
    world.start()
    bot = await world.recall.bots.retrieve(bot_id)
    assert (bot.status, bot.is_over) == ("in_call_recording", False)
    assert bot.joined_at == world.events[0].start_time + timedelta(seconds=10)
    assert [change.code for change in bot.status_changes][:2] == ["joining_call", "in_waiting_room"]
    (recording,) = bot.recordings
    assert (recording.status, recording.download_urls, recording.completed_at) == ("processing", {}, None)
    world.sandbox.advance(4 * 3600)
    bot = await world.recall.bots.retrieve(bot_id)
    assert (bot.status, bot.is_over) == ("done", True)
    (recording,) = bot.recordings
    assert recording.status == "done"
    assert recording.download_urls == {"video_mixed": f"https://media.example/{recording.id}.mp4"}
    assert recording.started_at is not None
    assert recording.completed_at is not None
    assert recording.started_at < recording.completed_at


async def test_why_a_bot_failed(world: World) -> None:
    """A bot that never joined looks like one that is still to come."""
    bot_id = await world.schedule()
    world.sandbox.fail_bot(bot_id, "meeting_not_started")
    world.start()
    bot = await world.recall.bots.retrieve(bot_id)
    assert (bot.status, bot.sub_code, bot.joined_at, bot.is_over) == ("fatal", "meeting_not_started", None, True)


async def test_filters(world: World) -> None:
    """A filter is not sent, or finds other bots than the API's."""
    first = await world.schedule(0, metadata={"team": "sales", "event": world.events[0].id})
    second = await world.schedule(1, metadata={"team": "sales"})
    last = await world.schedule(len(world.events) - 1, metadata={"team": "support"})
    bots, events = world.recall.bots, world.events
    assert await ids(bots.list()) == {first, second, last}
    assert await ids(bots.list(metadata={"event": events[0].id})) == {first}
    assert await ids(bots.list(metadata={"team": "sales"})) == {first, second}
    assert await ids(bots.list(metadata={"team": "sales", "event": "another & one=1"})) == set()
    assert await ids(bots.list(join_at_before=events[1].start_time)) == {first, second}
    assert await ids(bots.list(join_at_after=events[1].start_time + timedelta(seconds=1))) == {last}
    assert await ids(bots.list(status="ready")) == {first, second, last}
    world.start()
    assert await ids(bots.list(status=["in_call_recording", "done"])) >= {first}
    assert last not in await ids(bots.list(status=("in_call_recording", "done")))
    meetings = {bot: event.meeting_url for bot, event in ((first, events[0]), (second, events[1]), (last, events[-1]))}
    for url in filter(lambda url: isinstance(url, str), meetings.values()):
        assert await ids(bots.list(meeting_url=url)) == {bot for bot, other in meetings.items() if other == url}
    platforms = {event.meeting_platform for event in (events[0], events[1], events[-1])}
    assert await ids(bots.list(platform=sorted(filter(None, platforms)))) == {first, second, last}
    with pytest.raises(BadRequestError, match="status"):
        await ids(bots.list(status="dancing"))


async def test_pages(world: World) -> None:
    """A list of more than one page ends too early, loses its filters, or goes round."""
    expected = {await world.schedule(place, metadata={"all": "yes"}) for place in range(120)}
    await world.schedule(120)
    assert await ids(world.recall.bots.list(metadata={"all": "yes"})) == expected
    pages = [await world.recall.bots.list_page(metadata={"all": "yes"}, page=page) for page in (None, 1, 2)]
    assert [len(page.results) for page in pages] == [100, 100, 20]
    assert [bot.id for bot in pages[0].results] == [bot.id for bot in pages[1].results]
    with pytest.raises(NotFoundError):
        await world.recall.bots.list_page(page=3)


async def test_leaving_a_call(world: World) -> None:
    """A bot that was dispatched cannot be got out of a meeting, though the error says how."""
    bot_id = await world.schedule()
    with pytest.raises(BadRequestError) as early:
        await world.recall.bots.leave_call(bot_id)
    assert early.value.code == "cannot_command_unstarted_bot"
    world.start()
    with pytest.raises(BotAlreadyDispatchedError, match="leave_call"):
        await world.recall.calendar_events.remove_bot(world.events[0].id)
    bot = await world.recall.bots.leave_call(bot_id)
    assert (bot.status, bot.sub_code, bot.is_over) == ("call_ended", "bot_received_leave_call", True)
    with pytest.raises(BadRequestError) as late:
        await world.recall.bots.leave_call(bot_id)
    assert late.value.code == "cannot_command_completed_bot"
    with pytest.raises(NotFoundError):
        await world.recall.bots.leave_call(NOWHERE)


async def test_each_operation_has_a_lane_of_its_own(world: World) -> None:
    """Asking for bots uses up the quota for scheduling them, or goes by no quota at all."""
    bot_id = await world.schedule()
    before = world.recall.statistics()["calendar_events.retrieve"].free
    await world.recall.bots.retrieve(bot_id)
    await ids(world.recall.bots.list())
    statistics = world.recall.statistics()
    assert {name: row.quota for name, row in statistics.items() if name.startswith("bots.")} == {
        "bots.retrieve": Quota(300, 60.0),
        "bots.list": Quota(60, 60.0),
        "bots.leave_call": Quota(300, 60.0),
    }
    assert (statistics["bots.retrieve"].free, statistics["bots.list"].free) == (299, 59)
    assert statistics["calendar_events.retrieve"].free == before


@pytest.mark.parametrize(
    "filters",
    [
        {"join_at_after": "yesterday"},
        {"join_at_before": datetime(2025, 1, 1)},
        {"meeting_url": ""},
        {"platform": 7},
        {"status": [None]},
        {"status": b"done"},
        {"metadata": "team=sales"},
        {"metadata": {"team": 7}},
        {"metadata": {"": "x"}},
        {"metadata": {"team": "\ud800"}},
        {"page": 0},
        {"page": True},
    ],
)
async def test_wrong_filters_are_refused(world: World, filters: dict[str, Any]) -> None:
    """A wrong filter is sent, and finds bots that were not meant."""
    requests = world.sandbox.report()["operations"]["bots.list"]["peak"]
    with pytest.raises(ConfigurationError, match=next(iter(filters))):
        await world.recall.bots.list_page(**filters)
    for call in (world.recall.bots.retrieve, world.recall.bots.leave_call):
        with pytest.raises(ConfigurationError, match="bot_id must be a UUID"):
            await call("../calendars")
    assert world.sandbox.report()["operations"]["bots.list"]["peak"] == requests
