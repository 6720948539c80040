"""recall.plan: of complete lists only, whatever the policy and the calendars are."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from recall_async import (
    APIError,
    BotSpec,
    CalendarEvent,
    ConfigurationError,
    Deduplication,
    NotFoundError,
    Quota,
    RecallSession,
    RecordingPolicy,
    ServerError,
)
from recall_async.sandbox import RecallSandbox
from tests.sync.api import Api
from tests.sync.conftest import connected, sent
from tests.sync.invitations import uuid

EVERYTHING = RecordingPolicy(bot_config={"bot_name": "Notes"})


async def applied(recall: RecallSession, plan) -> list:
    return [outcome async for outcome in recall.apply(plan)]


async def calendar_ids(recall: RecallSession) -> list[str]:
    return [calendar.id async for calendar in recall.calendars.list()]


async def upcoming(recall: RecallSession) -> list[CalendarEvent]:
    listed = recall.calendar_events.list(start_time__gte=datetime.now(UTC), is_deleted=False)
    return [event async for event in listed if event.meeting_url]


async def test_every_event_is_decided_on(sandbox, recall):
    """Events are left out of a plan, those on later pages or the deleted ones for instance."""
    plan = await recall.plan(policy=EVERYTHING)
    assert {decision.event_id for decision in plan.decisions} == {event["id"] for event in sandbox.snapshot()["events"]}
    assert plan.counts["skip"] == sum(plan.skipped.values())
    assert set(plan.skipped) == {"deleted", "ended", "no meeting URL", "started"}
    assert [change.kind for change in plan] == ["schedule"] * plan.requests
    assert plan.requests == len(plan.decisions) - plan.counts["skip"] > 90


async def test_soonest_meeting_first(recall):
    """A meeting that is about to begin waits behind those of next week."""
    starts = [change.start_time for change in await recall.plan(policy=EVERYTHING)]
    assert starts == sorted(starts)


async def test_planning_sends_nothing(sandbox, recall):
    """Looking at a plan changes bots."""
    await recall.plan(policy=EVERYTHING)
    assert sent(sandbox) == {"schedule_bot": 0, "remove_bot": 0}


async def test_time_at_the_quota(sandbox):
    """A plan promises another time than the quota allows."""
    quota = Quota(600, 60.0, burst=60)
    async with connected(sandbox, quotas={"calendar_events.schedule_bot": quota}) as recall:
        plan = await recall.plan(policy=EVERYTHING)
        assert plan.seconds == quota.seconds_for(plan.requests) > 5
        assert (await recall.plan(policy=lambda event, calendar: None)).seconds == 0


@pytest.mark.parametrize("later_first", [False, True])
async def test_event_that_is_listed_twice(later_first):
    """An event that moves while the list is read is decided on by its older version: a deleted one gets a bot."""

    class Moving(Api):
        def _listed(self, query):
            [event] = self.events.values()
            gone = replace(event, is_deleted=True, updated_at=event.updated_at + timedelta(seconds=1))
            return [gone, event] if later_first else [event, gone]

    async with Moving(events=1) as api, RecallSession("key", base_url=api.url) as recall:
        plan = await recall.plan(policy=EVERYTHING)
    assert plan.requests == 0
    assert plan.skipped == {"deleted": 1}


@pytest.mark.parametrize("page", [1, 2])
async def test_a_list_that_ends_early_makes_no_plan(sandbox, recall, page):
    """What is not seen is taken for not there, and gets a second bot."""

    async def slow(event, calendar):
        if not asked:
            sandbox.fault("calendar_events.list", status=500)
        asked.append(event)

    asked: list[object] = []
    if page == 1:
        sandbox.fault("calendar_events.list", status=500)
    with pytest.raises(ServerError):
        await recall.plan(policy=slow)
    assert bool(asked) is (page == 2)


async def test_calendars_that_cannot_be_listed_make_no_plan(sandbox, recall):
    """A plan is made without knowing whose events these are."""
    sandbox.fault("calendars.list", status=500)
    with pytest.raises(ServerError):
        await recall.plan(policy=EVERYTHING)


async def test_some_calendars(sandbox, recall):
    """A plan for one calendar touches others, or misses some of its own events."""
    first, second, *_ = await calendar_ids(recall)
    plan = await recall.plan(policy=EVERYTHING, calendars=[UUID(first), await recall.calendars.retrieve(second), first])
    expected = {event["id"] for event in sandbox.snapshot()["events"] if event["calendar_id"] in (first, second)}
    assert {decision.event_id for decision in plan.decisions} == expected
    assert plan.calendars == (first, second)
    assert (await recall.plan(policy=EVERYTHING, calendars=[])).decisions == ()


@pytest.mark.parametrize("calendars", ["one", UUID(uuid(1)), ["no id"], 7])
async def test_what_is_no_list_of_calendars(recall, calendars):
    """One id is read letter by letter."""
    with pytest.raises((ConfigurationError, TypeError)):
        await recall.plan(policy=EVERYTHING, calendars=calendars)


async def test_a_calendar_that_is_not_there(recall):
    """A calendar with a typing mistake gives an empty plan."""
    with pytest.raises(NotFoundError):
        await recall.plan(policy=EVERYTHING, calendars=[uuid(1)])


async def test_changes_since(sandbox, recall):
    """A plan of what changed looks at everything, or misses changes."""
    plan = await recall.plan(policy=EVERYTHING)
    changed = {event_id for change in sandbox.mutate(10) for event_id in change["event_ids"]}
    later = await recall.plan(policy=EVERYTHING, updated_since=plan.watermark)
    assert changed <= {decision.event_id for decision in later.decisions}
    assert len(later.decisions) < len(plan.decisions) / 2
    nothing = await recall.plan(policy=EVERYTHING, updated_since="2100-01-01T00:00:00Z")
    assert (nothing.decisions, nothing.watermark) == ((), datetime(2100, 1, 1, tzinfo=UTC))


async def test_watermark_is_before_what_may_have_been_missed(sandbox, recall):
    """An event on page one that changes while page two is read is never looked at again."""

    async def change_what_was_read(event, calendar):
        if not changed:
            changed.add(event.id)
            server = sandbox._server
            for event_id in (event.id, last):
                server.workspace.state.touch(server.workspace.state.event(event_id), datetime.now(UTC))

    changed: set[str] = set()
    last = max(sandbox.snapshot()["events"], key=lambda event: event["start_time"])["id"]
    plan = await recall.plan(policy=change_what_was_read)
    later = await recall.plan(policy=EVERYTHING, updated_since=plan.watermark)
    assert changed <= {decision.event_id for decision in later.decisions}


async def test_an_event_that_is_listed_twice_is_one(sandbox, recall):
    """An event that moves to a later page while the list is read gets two requests, or the first of its versions holds."""

    def move_what_was_read(event, calendar):
        state = sandbox._server.workspace.state
        if not moved and event.start_time > datetime.now(UTC):
            moved.append(event.id)
            state.move_event(state.event(event.id), event.start_time + timedelta(days=40), datetime.now(UTC))
        return EVERYTHING(event, calendar)

    moved: list[str] = []
    plan = await recall.plan(policy=move_what_was_read)
    (decision,) = [decision for decision in plan.decisions if decision.event_id in moved]
    assert decision.start_time > datetime.now(UTC) + timedelta(days=39)


async def test_an_event_that_changed_hands(sandbox, recall):
    """An event is judged by a calendar that it is no longer in, or by none."""
    ids = await calendar_ids(recall)
    state = sandbox._server.workspace.state
    event_id = (await upcoming(recall))[0].id
    other = next(calendar_id for calendar_id in ids if calendar_id != state.event(event_id).document.calendar_id)
    state.event(event_id).document.calendar_id = other
    seen = {}

    def judge(event, calendar):
        seen[event.id] = calendar.id

    await recall.plan(policy=judge)
    assert seen[event_id] == other
    plan = await recall.plan(policy=judge, calendars=[other])
    assert event_id in {decision.event_id for decision in plan.decisions}


async def test_a_calendar_that_is_connected_while_the_plan_is_made(sandbox, recall):
    """An event of a calendar that was not listed fails the plan, or is left out."""
    state = sandbox._server.workspace.state
    last = (await upcoming(recall))[-1]
    seen = {}

    async def judge(event, calendar):
        if not seen:
            credentials = dict.fromkeys(("oauth_client_id", "oauth_client_secret", "oauth_refresh_token"), "x")
            new = await recall.calendars.create(platform="google_calendar", **credentials)
            state.event(last.id).document.calendar_id = new.id
        seen[event.id] = calendar.id

    await recall.plan(policy=judge)
    assert seen[last.id] == state.event(last.id).document.calendar_id != last.calendar_id


async def test_a_calendar_that_is_nowhere(sandbox, recall):
    """Events of a calendar that the API does not find fail the plan, or are decided on without it."""
    calendar_id = (await calendar_ids(recall))[0]
    del sandbox._server.workspace.state.calendars[calendar_id]
    plan = await recall.plan(policy=EVERYTHING)
    assert plan.disconnected == (calendar_id,)
    reasons = {decision.reason for decision in plan.decisions if decision.calendar_id == calendar_id}
    assert reasons == {"calendar disconnected", "ended", "deleted"}


async def test_disconnected_calendars_are_left_alone(sandbox, recall):
    """Requests are made for events of which nobody knows whether they still take place."""
    await applied(recall, await recall.plan(policy=EVERYTHING))
    first = (await calendar_ids(recall))[0]
    sandbox.revoke(first)
    plan = await recall.plan(policy=EVERYTHING)
    assert (len(plan), plan.disconnected) == (0, (first,))
    assert plan.skipped["calendar disconnected"] > 10
    alone = await recall.plan(policy=EVERYTHING, calendars=[first])
    assert (alone.decisions, alone.disconnected) == ((), (first,))


async def test_policies_may_be_coroutines(recall):
    """A policy that asks a database cannot be used."""

    class Preferences:
        lead_time = 0

        async def __call__(self, event, calendar):
            await asyncio.sleep(0)
            return BotSpec(Deduplication.EVENT(event, calendar), {"bot_name": calendar.platform_email})

    plan = await recall.plan(policy=Preferences())
    assert {change.bot_config["bot_name"] for change in plan} <= {
        c.platform_email async for c in recall.calendars.list()
    }
    assert len(plan) > 90


async def test_policies_are_not_asked_in_vain(recall):
    """A policy that takes long is asked about events that cannot get a bot."""
    seen = []
    await recall.plan(policy=lambda event, calendar: seen.append(event))
    assert len(seen) > 90
    assert not any(event.is_deleted or event.end_time < datetime.now(UTC) for event in seen)


@pytest.mark.parametrize("answer", [True, "key", {"deduplication_key": "key"}])
async def test_policies_that_answer_something_else(recall, answer):
    """A policy that answers yes or no, and names no bot, is taken for one that names one."""
    with pytest.raises(ConfigurationError, match="a BotSpec or None"):
        await recall.plan(policy=lambda event, calendar: answer)


async def test_what_a_policy_raises_is_passed_on(recall):
    """A mistake in a policy makes a plan without the events that it concerns."""

    def wrong(event, calendar):
        raise LookupError(event.id)

    with pytest.raises(LookupError) as error:
        await recall.plan(policy=wrong)
    assert error.value.args[0] in error.value.__notes__[0]


async def test_what_is_no_policy(recall):
    """A missing policy is noticed with the first event."""
    with pytest.raises(ConfigurationError, match="policy must be"):
        await recall.plan(policy=None)


async def test_lead_time(recall):
    """Meetings that begin too soon get a bot, or the policy's own lead time goes before the one that was asked for."""
    day = timedelta(days=1)
    policy = RecordingPolicy(lead_time=day)
    soon = sum(event.start_time - datetime.now(UTC) < day for event in await upcoming(recall))
    assert (await recall.plan(policy=policy)).skipped["lead time"] == soon > 5
    assert "lead time" not in (await recall.plan(policy=policy, lead_time=0)).skipped
    assert (await recall.plan(policy=lambda e, c: policy(e, c), lead_time=86400.0)).skipped["lead time"] == soon
    with pytest.raises(ConfigurationError, match="lead_time"):
        await recall.plan(policy=policy, lead_time=-1)


async def test_refresh_sends_every_configuration_again(sandbox, recall):
    """A changed configuration, which the API does not show, never reaches the bots."""
    await applied(recall, await recall.plan(policy=EVERYTHING))
    other = RecordingPolicy(bot_config={"bot_name": "Minutes"})
    assert not await recall.plan(policy=other)
    plan = await recall.plan(policy=other, refresh=True)
    assert {change.reason for change in plan} == {"refresh"}
    await applied(recall, plan)
    assert {bot["config"]["bot_name"] for bot in sandbox.snapshot()["bots"]} == {"Minutes"}


async def test_a_plan_is_its_own(recall):
    """A plan changes when the policy's configuration does, or cannot be stored because of what is in it."""
    config = {"bot_name": "Notes", "join_at": datetime(2100, 1, 1, tzinfo=UTC)}
    plan = await recall.plan(policy=lambda event, calendar: BotSpec(event.id, config) if event.meeting_url else None)
    config["bot_name"] = "changed"
    change = next(iter(plan))
    assert change.bot_config == {"bot_name": "Notes", "join_at": "2100-01-01T00:00:00Z"}
    assert type(plan).from_json(plan.to_json()) == plan


async def test_a_configuration_is_kept_once(recall):
    """A plan of many events holds an image in its configuration as often."""
    image = "x" * 100_000
    plan = await recall.plan(
        policy=lambda event, calendar: BotSpec(event.id, {"image": image}) if event.meeting_url else None
    )
    assert len({id(change.bot_config) for change in plan}) == 1 < len(plan)
    assert plan.to_json().count(image) == 1


async def test_a_session_that_is_closed():
    """A plan with a closed session hangs or says something else."""
    async with RecallSandbox(events=20, calendars=1) as sandbox:
        async with connected(sandbox) as recall:
            pass
        with pytest.raises((APIError, RuntimeError), match="closed"):
            await recall.plan(policy=EVERYTHING)
