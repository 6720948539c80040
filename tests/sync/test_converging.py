"""Plans come to an end on any API, and what is applied is what holds at that moment."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recall_async import (
    BotSpec,
    Calendar,
    CalendarEvent,
    CalendarSyncer,
    Deduplication,
    Outcome,
    Plan,
    Quota,
    RecallSession,
    RecordingPolicy,
    RetryPolicy,
)
from recall_async.sync.memory import SETTLING_TIME
from tests.sync import api as behaviour
from tests.sync.api import Api
from tests.sync.conftest import GREEDY

EVERYTHING = RecordingPolicy(bot_config={"bot_name": "Notes"})


@asynccontextmanager
async def talking_to(api: Api, **settings: Any) -> AsyncIterator[RecallSession]:
    options = {"quotas": GREEDY, "retry": RetryPolicy(backoff=0.01), **settings}
    async with RecallSession("key", base_url=api.url, **options) as recall:
        yield recall


async def apply(recall: RecallSession, plan: Plan, **options: Any) -> list[Outcome]:
    return [outcome async for outcome in recall.apply(plan, **options)]


async def sync(recall: RecallSession, policy: Any = EVERYTHING, **options: Any) -> Plan:
    plan = await recall.plan(policy=policy, **options)
    await apply(recall, plan)
    return plan


FORMS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "without the fragment": {"url": behaviour.without_fragment},
    "host in another case": {"url": behaviour.lower_host},
    "a slash at the end": {"url": behaviour.with_slash},
    "as an object": {"url": behaviour.as_object},
    "to the minute": {"start": behaviour.to_the_minute},
    "to the second": {"start": behaviour.to_the_second},
    "updated_at changes with bots": {"touches": True},
    "in place": {"in_place": True},
    "in place, as an object, to the minute": {
        "in_place": True,
        "url": behaviour.as_object,
        "start": behaviour.to_the_minute,
    },
}


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
async def test_an_api_that_writes_otherwise(options: dict[str, Any]) -> None:
    """Every plan reschedules every bot, because the API writes its address or time in a form of its own."""
    async with Api(20, 2, **options) as api, talking_to(api) as recall:
        assert len(await sync(recall)) == 20
        assert not await recall.plan(policy=EVERYTHING)
        moved, linked, *_ = api.events.values()
        api.touch(moved, start=moved.start + timedelta(hours=1))
        api.touch(linked, url="https://us02web.zoom.us/j/99999999999")
        assert {change.event_id for change in await sync(recall)} == {moved.id, linked.id}
        assert not await recall.plan(policy=EVERYTHING)
        for event in api.events.values():
            bot = api.bots[event.bot or ""]
            assert (bot.start, bot.url) == (event.start, event.url)
        assert len(api.asked) == 22


async def test_a_bot_that_shows_later() -> None:
    """A bot that appears some seconds after its answer is scheduled twice."""
    async with Api(20, delay=0.3) as api, talking_to(api) as recall:
        await sync(recall)
        settling = await sync(recall)
        assert {(each.kind, each.reason) for each in settling.decisions} == {("keep", "settling")}
        await asyncio.sleep(0.35)
        assert {(each.kind, each.reason) for each in (await sync(recall)).decisions} == {("keep", None)}
        assert len(api.asked) == 20


async def test_a_bot_that_never_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bot that the API forgets is waited for, for ever."""
    monkeypatch.setattr("recall_async.sync.apply.SETTLING_TIME", 0.05)
    assert SETTLING_TIME == 60
    async with Api(1, delay=1e6) as api, talking_to(api) as recall:
        await sync(recall)
        await asyncio.sleep(0.06)
        assert len(await sync(recall)) == 1
        await asyncio.sleep(0.06)
        (flapping,) = (await sync(recall)).flapping
        assert flapping.event_id in api.events
        assert len(api.asked) == 2


async def test_a_late_bot_with_a_configuration_of_its_own_time() -> None:
    """A bot that shows some seconds after its answer is scheduled twice if the policy writes the time into bot_config."""
    numbers = iter(range(100))

    def stamped(event: CalendarEvent, calendar: Calendar) -> BotSpec:
        return BotSpec(Deduplication.MEETING(event), {"metadata": {"at": str(next(numbers))}})

    async with Api(2, delay=1e6) as api, talking_to(api) as recall:
        assert [len(await sync(recall, stamped)) for _ in range(3)] == [2, 0, 0]
        assert len(api.asked) == 2


async def test_what_comes_back_again_and_again_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    """An API that writes bots in a form that nobody foresaw gets the same requests in every round, and nobody is told."""
    async with Api(5, url=lambda url: f"https://elsewhere.example/{hash(url)}") as api, talking_to(api) as recall:
        rounds = [len(await sync(recall)) for _ in range(4)]
        assert rounds == [5, 5, 5, 0]
        plan = await recall.plan(policy=EVERYTHING)
        assert {each.event_id for each in plan.flapping} == set(api.events)
        assert "WARNING: 5 events are flapping" in str(plan)
        assert plan.skipped == {"flapping": 5}
        assert "did not last" in caplog.text
        outcomes = await apply(recall, plan)
        assert [outcome.status for outcome in outcomes] == ["skipped"] * 5
        assert all("flapping" in (outcome.reason or "") for outcome in outcomes)
        renamed = RecordingPolicy(bot_config={"bot_name": "Other"})
        assert len(await recall.plan(policy=renamed)) == 5
        event = next(iter(api.events.values()))
        api.touch(event, start=event.start + timedelta(hours=1))
        assert [change.event_id for change in await recall.plan(policy=EVERYTHING)] == [event.id]
        other = RecordingPolicy(deduplication="event")
        assert len(await recall.plan(policy=other)) == 5
    assert {record.levelno for record in caplog.records if "did not last" in record.message} == {logging.WARNING}


async def test_an_api_that_keeps_the_key() -> None:
    """A meeting that moves is rescheduled in every round, because its bot keeps the key of the old time."""
    async with Api(3, keeps_key=True) as api, talking_to(api) as recall:
        await sync(recall)
        event = next(iter(api.events.values()))
        api.touch(event, start=event.start + timedelta(hours=1))
        for _ in range(3):
            await sync(recall)
        assert not await recall.plan(policy=EVERYTHING)
        assert len(api.asked) <= 3 + 1 + 2


SHARED = {
    "one copy moves": ("start", 1),
    "both copies move": ("start", 2),
    "one copy of three moves": ("start", 1),
    "two copies of three move": ("start", 2),
    "one copy is relinked": ("url", 1),
    "both copies are relinked": ("url", 2),
}


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("by_calendar", [False, True])
@pytest.mark.parametrize("case", SHARED)
async def test_two_calendars_that_share_a_bot(case: str, by_calendar: bool, in_place: bool) -> None:
    """Two calendars take turns for ever in moving the bot that they share, or one meeting gets two bots."""
    name, number = SHARED[case]
    copies = 3 if "three" in case else 2
    async with Api(0, copies, in_place=in_place) as api, talking_to(api) as recall:
        first, *others = api.calendars
        event = api.create(first, timedelta(hours=3))
        events = [event, *(api.share(event, other) for other in others)]
        await sync(recall)
        assert len(api.bots) == 1
        new = event.start + timedelta(hours=1) if name == "start" else "https://us02web.zoom.us/j/99999999999"
        for changed in events[:number]:
            api.touch(changed, **{name: new})
        for _ in range(3):
            for calendars in [[each] for each in api.calendars] if by_calendar else [None]:
                await sync(recall, calendars=calendars)
        for each in events:
            bot = api.bots[each.bot or ""]
            assert (bot.start, bot.url) == (each.start, each.url)
        assert len(api.bots) == len({(each.start, each.url) for each in events})
        before = len(api.asked)
        assert not await sync(recall)
        assert len(api.asked) == before <= copies + 8


@pytest.mark.parametrize("by_calendar", [False, True])
@pytest.mark.parametrize("anew", [False, True])
async def test_two_meetings_that_become_one(by_calendar: bool, anew: bool) -> None:
    """Two events whose bots are changed in place get the same key, and two bots join one meeting."""
    async with Api(0, 2, in_place=True) as api, talking_to(api, workspace="first") as recall:
        first, second = api.calendars
        one, other = api.create(first, timedelta(hours=3)), api.create(second, timedelta(hours=4))
        await sync(recall)
        start = one.start + timedelta(hours=2)
        for event in (one, other):
            api.touch(event, start=start, url="https://us02web.zoom.us/j/99999999999")
        if anew:  # a process that cannot know how this API changes bots
            await sync(recall)
        async with talking_to(api, workspace="second" if anew else "first") as later:
            for _ in range(3):
                for calendars in ([first], [second]) if by_calendar else (None,):
                    await sync(later, calendars=calendars)
            assert len(api.bots) == 1
            assert one.bot == other.bot is not None
            assert not await later.plan(policy=EVERYTHING)
        assert len(api.asked) <= 2 + 4 + 2


# What is checked when a plan is applied


async def test_an_older_plan_does_not_undo_a_newer_one() -> None:
    """A plan that was made before the policy changed puts back the bots that a later plan took away."""
    async with Api(6) as api, talking_to(api) as recall:
        old = await sync(recall)
        new = await sync(recall, RecordingPolicy(title_excludes=["sync"]))
        assert (len(old), len(new), len(api.bots)) == (6, 6, 0)
        outcomes = await apply(recall, old)
        assert [outcome.status for outcome in outcomes] == ["skipped"] * 6
        assert all("a later plan" in (outcome.reason or "") for outcome in outcomes)
        assert len(api.bots) == 0


async def test_bots_that_changed_since() -> None:
    """A plan moves or removes a bot that somebody put there after the plan was made."""
    async with Api(3) as api, talking_to(api) as recall:
        plan = await recall.plan(policy=EVERYTHING)
        first, second, _ = api.events.values()
        api.schedule(first, "by hand", {})
        api.schedule(second, plan.decisions[1].deduplication_key or "", {})
        outcomes = {str(outcome.action.event_id): outcome for outcome in await apply(recall, plan)}
        assert outcomes[first.id].reason == "the event's bots changed after the plan was made: plan again"
        assert outcomes[second.id].reason == "the event is already as planned"
        assert [outcome.status for outcome in outcomes.values()].count("done") == 1
        assert api.bots[first.bot or ""].key == "by hand"


async def test_an_event_that_is_gone() -> None:
    """A plan that names an event that is not there any more fails, or ends the job."""
    async with Api(3) as api, talking_to(api) as recall:
        plan = await recall.plan(policy=EVERYTHING)
        del api.events[plan.decisions[0].event_id]
        statuses = [(outcome.status, outcome.reason) for outcome in await apply(recall, plan)]
        assert ("skipped", "the event no longer exists: plan again") in statuses
        assert [status for status, _ in statuses].count("done") == 2


async def test_a_meeting_that_began_meanwhile() -> None:
    """A plan that is applied late sends new bots into meetings that are under way, or nearer than the lead time."""
    async with Api(0) as api, talking_to(api) as recall:
        calendar_id = next(iter(api.calendars))
        await recall.plan(policy=EVERYTHING)  # connects
        soon = (datetime.now(UTC) - api.began).total_seconds() + 0.4
        begun, near, later = (api.create(calendar_id, timedelta(seconds=soon + each)) for each in (0, 600, 3600))
        loose = await recall.plan(policy=EVERYTHING)
        strict = await recall.plan(policy=RecordingPolicy(lead_time=600))
        assert (len(loose), len(strict)) == (3, 2)
        assert strict.lead_time == 600
        await asyncio.sleep(0.6)
        for recheck in (None, 60):
            reasons = {str(each.action.event_id): each.reason for each in await apply(recall, strict, recheck=recheck)}
            assert "within the lead time of 600 s" in (reasons[near.id] or "")
        reasons = {str(each.action.event_id): each.reason for each in await apply(recall, loose, recheck=None)}
        assert reasons[begun.id] == "the meeting has begun"
        assert api.bots.keys() == {near.bot, later.bot} - {None}
        assert begun.bot is None


async def test_a_bot_that_is_out_already() -> None:
    """A plan that is applied late takes a bot out of its meeting, or fails for it."""
    async with Api(0) as api, talking_to(api) as recall:
        await recall.plan(policy=EVERYTHING)  # connects
        soon = datetime.now(UTC) - api.began + timedelta(seconds=0.5)
        event = api.create(next(iter(api.calendars)), soon)
        await sync(recall)
        plan = await recall.plan(policy=RecordingPolicy(title_excludes=["sync"]))
        assert [change.kind for change in plan] == ["remove"]
        await asyncio.sleep(max(0.0, (event.start - datetime.now(UTC)).total_seconds()) + 0.05)
        for recheck in (None, 60):
            (outcome,) = await apply(recall, plan, recheck=recheck)
            assert (outcome.status, outcome.reason) == ("skipped", "the bot was already dispatched")
        assert event.bot is not None


@pytest.mark.parametrize("touches", [False, True])
async def test_a_plan_that_is_resumed(touches: bool, tmp_path: Any) -> None:
    """A job that goes on takes what it did itself for a change by others, and skips it, or sends it again."""
    async with Api(60, touches=touches) as api, talking_to(api) as recall:
        plan = await recall.plan(policy=EVERYTHING)
        journal = tmp_path / "results.jsonl"
        async with recall.apply(plan, journal=journal, concurrency=4) as run:
            async for _ in run:
                if run.progress.finished == 30:
                    break
        outcomes = await apply(recall, plan, journal=journal, concurrency=4)
        assert [outcome.status for outcome in outcomes] == ["done"] * 60
        assert sum(outcome.resumed for outcome in outcomes) >= 30
        assert len(api.bots) == 60
        again = await apply(recall, plan)
        assert {outcome.reason for outcome in again} == {"the event is already as planned"}
        assert len(api.asked) <= 60 + 4


async def test_a_plan_that_decides_twice_on_an_event() -> None:
    """A plan that was edited by hand schedules and removes one event's bot, in an order that nobody said."""
    async with Api(2) as api, talking_to(api) as recall:
        text = (await recall.plan(policy=EVERYTHING)).to_json()
        first, second = api.events
        with pytest.raises(ValueError, match="must decide once on each event"):
            recall.apply(Plan.from_json(text.replace(second, first)))


# Calendars that are connected again


@pytest.mark.parametrize("tells_status", [True, False])
async def test_a_calendar_that_was_connected_again(tells_status: bool) -> None:
    """Bots of a calendar that was revoked and connected again never come back: no event's `updated_at` tells of it."""
    async with Api(20, 2, tells_status=tells_status) as api, talking_to(api) as recall:
        first = next(iter(api.calendars))
        watermark = (await sync(recall)).watermark
        api.revoke(first)
        assert not await sync(recall, updated_since=watermark)
        api.reconnect(first)
        for calendars in (None, [first]):
            plan = await recall.plan(policy=EVERYTHING, updated_since=watermark, calendars=calendars)
            assert {change.calendar_id for change in plan} == {first}
            assert len(plan) == 10
        await apply(recall, plan)
        assert all(api.shown().values())


@pytest.mark.parametrize("tells_status", [True, False])
async def test_a_calendar_that_goes_and_comes_is_not_flapping(tells_status: bool) -> None:
    """A calendar that was connected anew for the third time gets no bots, because they did not last."""
    async with Api(3, tells_status=tells_status) as api, talking_to(api) as recall:
        for _ in range(4):
            assert len(await sync(recall)) == 3
            for calendar_id in api.calendars:
                api.revoke(calendar_id)
                await asyncio.sleep(0.002)
                api.reconnect(calendar_id)


# Ends


async def test_a_syncer_whose_quota_is_used_up_closes_in_time(caplog: pytest.LogCaptureFixture) -> None:
    """A program cannot end before its orchestrator kills it, because its bots wait for the quota."""
    quotas = {**GREEDY, "calendar_events.schedule_bot": Quota(1, 3600, burst=1)}
    async with Api(20) as api, talking_to(api, quotas=quotas) as recall:
        syncer = CalendarSyncer(recall, EVERYTHING)
        await syncer.catch_up(api.calendars)
        async with asyncio.timeout(20):
            while not api.asked:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        before = asyncio.get_running_loop().time()
        await syncer.aclose(timeout=0.1)
        assert asyncio.get_running_loop().time() - before < 10
        assert len(api.asked) == 1
        assert [calendar_id for calendar_id in api.calendars if calendar_id in caplog.text] == list(api.calendars)


async def test_no_log_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    """An API key stands in the log of every sync that fails."""
    secret = "a-key-that-nobody-may-see"
    caplog.set_level(logging.DEBUG)
    async with Api(3) as api:
        api.down = 1.0
        async with RecallSession(secret, base_url=api.url, retry=RetryPolicy(attempts=1)) as recall:
            syncer = CalendarSyncer(recall, EVERYTHING, backoff=0.01)
            await syncer.catch_up(api.calendars)
            async with asyncio.timeout(20):
                while "the sync failed" not in caplog.text:  # noqa: ASYNC110
                    await asyncio.sleep(0.005)
            await syncer.aclose(timeout=0)
    assert secret not in caplog.text


async def test_events_far_apart_are_read_at_their_own_turn() -> None:
    """Of meetings that are weeks apart, all are read before the first request, and changes meanwhile go unnoticed."""
    async with Api(0) as api, talking_to(api) as recall:
        calendar_id = next(iter(api.calendars))
        crowd = RecordingPolicy(title_includes=["sync"])
        for week in range(1, 13):
            api.create(calendar_id, timedelta(days=week))
            for number in range(60):
                api.create(calendar_id, timedelta(days=week, minutes=number + 1), None)
        plan = await recall.plan(policy=crowd)
        assert len(plan) == 12
        wanted = [api.events[change.event_id] for change in plan]
        api.looked.clear()
        statuses = []
        async for outcome in recall.apply(plan, concurrency=1):
            if not statuses:
                for event in wanted[4:]:
                    api.touch(event, start=event.start + timedelta(hours=1))
            statuses.append(outcome.status)
        assert statuses[-1] == "skipped"
        assert statuses.count("done") <= 4
        assert sum(api.shown()[event.id] is not None for event in wanted[4:]) == 0
        assert len(api.looked) == 12


async def test_a_list_that_takes_long_serves_for_a_while() -> None:
    """On a slow API each request is preceded by a new list of all events, and a job never ends."""
    async with Api(60) as api, talking_to(api) as recall:
        plan = await recall.plan(policy=EVERYTHING)
        api.looked.clear()
        outcomes = await apply(recall, plan, recheck=1e-6)
        assert {outcome.status for outcome in outcomes} == {"done"}
        assert len(api.looked) <= 2 * 60


async def test_events_that_a_list_does_not_show_are_read_once() -> None:
    """Each event that was moved out of the listed range costs a new list."""
    async with Api(60) as api, talking_to(api) as recall:
        plan = await recall.plan(policy=EVERYTHING)
        for event in list(api.events.values())[10:30]:
            api.touch(event, start=event.start + timedelta(days=3))
        api.looked.clear()
        statuses = [outcome.status for outcome in await apply(recall, plan)]
        assert statuses.count("skipped") == 20
        assert len(api.looked) <= 20 + 2
