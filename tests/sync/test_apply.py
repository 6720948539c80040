"""recall.apply: what was planned, and nothing that is out of date."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from recall_async import (
    AuthenticationError,
    BotSpec,
    ConfigurationError,
    Deduplication,
    Outcome,
    Plan,
    RecordingPolicy,
    ScheduleBot,
    ServerError,
)
from recall_async.sandbox import RecallSandbox
from tests.sync.conftest import connected, sent

EVERYTHING = RecordingPolicy(bot_config={"bot_name": "Notes"})


async def outcomes(recall, plan, **options) -> list[Outcome]:
    return [outcome async for outcome in recall.apply(plan, **options)]


async def test_a_plan_is_applied(sandbox, recall):
    """Bots are missing after a plan was applied, or requests were sent that it does not have."""
    plan = await recall.plan(policy=EVERYTHING)
    done = await outcomes(recall, plan)
    assert Counter(outcome.status for outcome in done) == {"done": plan.requests}
    assert {outcome.event.id for outcome in done} == {change.event_id for change in plan}
    assert sent(sandbox) == {"schedule_bot": plan.requests, "remove_bot": 0}
    assert sandbox.report()["bots"] == len({change.deduplication_key for change in plan})
    again = await recall.plan(policy=EVERYTHING)
    assert (len(again), again.counts["keep"]) == (0, plan.requests)


async def test_bots_are_removed_and_moved(sandbox, recall):
    """A changed policy or a moved meeting leaves bots behind."""
    await outcomes(recall, await recall.plan(policy=EVERYTHING))
    before = sent(sandbox)["schedule_bot"]
    sandbox.mutate(40)
    policy = RecordingPolicy(accepted_only=True)
    plan = await recall.plan(policy=policy)
    assert min(plan.counts[kind] for kind in ("schedule", "reschedule", "remove")) > 0
    await outcomes(recall, plan)
    assert sent(sandbox) == {
        "schedule_bot": before + plan.counts["schedule"] + plan.counts["reschedule"],
        "remove_bot": plan.counts["remove"],
    }
    assert not await recall.plan(policy=policy)


async def test_a_stored_plan(recall):
    """A plan that was written to a file cannot be applied, or does something else."""
    plan = Plan.from_json((await recall.plan(policy=EVERYTHING)).to_json())
    assert {outcome.status for outcome in await outcomes(recall, plan)} == {"done"}
    assert not await recall.plan(policy=EVERYTHING)


async def test_a_plan_that_is_applied_late(sandbox, recall):
    """A bot is sent to where a meeting was when the plan was made."""
    plan = await recall.plan(policy=EVERYTHING)
    planned = {change.event_id for change in plan}
    changes = sandbox.mutate(25)
    changed = {event_id for change in changes for event_id in change["event_ids"]} & planned
    deleted = {event_id for change in changes if change["kind"] == "delete" for event_id in change["event_ids"]}
    done = await outcomes(recall, plan)
    skipped = {str(outcome.action.event_id): outcome for outcome in done if outcome.status == "skipped"}
    assert set(skipped) == changed
    assert len(done) == plan.requests
    for event_id, outcome in skipped.items():
        assert ("was deleted" if event_id in deleted else "changed") in outcome.reason
        assert "plan again" in outcome.reason
        assert (outcome.event, outcome.error, outcome.attempts) == (None, None, 0)
    assert sent(sandbox)["schedule_bot"] == plan.requests - len(changed)
    later = {change.event_id for change in await recall.plan(policy=EVERYTHING)}
    assert changed - deleted <= later <= {event_id for change in changes for event_id in change["event_ids"]} - deleted


async def test_a_bot_that_joins_at_another_time(sandbox, recall):
    """A policy's new `join_at` never reaches the bots: their requests are skipped as already done, plan after plan."""

    def joining(minutes: int) -> Any:
        def policy(event, calendar):
            spec = EVERYTHING(event, calendar)
            return spec and BotSpec(spec.deduplication_key, {"join_at": event.start_time - timedelta(minutes=minutes)})

        return policy

    await outcomes(recall, await recall.plan(policy=joining(1)))
    plan = await recall.plan(policy=joining(2))
    assert {change.reason for change in plan} == {"moved"}
    assert {outcome.status for outcome in await outcomes(recall, plan)} == {"done"}
    assert not await recall.plan(policy=joining(2))


@pytest.mark.parametrize("slow", [0, 60])
async def test_events_that_change_while_a_plan_is_applied(sandbox, recall, slow):
    """In a job that takes an hour, events are scheduled as they were at its beginning."""
    plan = await recall.plan(policy=EVERYTHING)
    last = list(plan)[-1]
    done = []
    async for outcome in recall.apply(plan, recheck=1e-9, concurrency=1):
        if not done:
            state = sandbox._server.workspace.state
            state.touch(state.event(last.event_id), datetime.now(UTC) - timedelta(seconds=slow))
        done.append(outcome)
    assert [str(outcome.action.event_id) for outcome in done if outcome.status == "skipped"] == [last.event_id]
    assert len(done) == plan.requests


async def test_a_plan_of_which_everything_is_out_of_date(sandbox, recall):
    """A job in which nothing is left to send hangs, or says nothing."""
    plan = await recall.plan(policy=EVERYTHING)
    state = sandbox._server.workspace.state
    for change in plan:
        state.touch(state.event(change.event_id), datetime.now(UTC))
    done = await outcomes(recall, plan)
    assert [outcome.status for outcome in done] == ["skipped"] * plan.requests


async def test_looking_again_can_be_left_out(sandbox, recall):
    """Callers that learn of changes otherwise pay for listings."""
    plan = await recall.plan(policy=EVERYTHING)
    before = sandbox.report()["operations"]["calendar_events.list"]["accepted"]
    await outcomes(recall, plan, recheck=None)
    assert sandbox.report()["operations"]["calendar_events.list"]["accepted"] == before


def requests_of(sandbox: RecallSandbox, name: str) -> int:
    return sandbox.report()["operations"][f"calendar_events.{name}"]["accepted"]


async def test_looking_again_is_cheap(sandbox, recall):
    """Every action is paid for with a request of its own."""
    plan = await recall.plan(policy=EVERYTHING)
    before = requests_of(sandbox, "list")
    await outcomes(recall, plan)
    assert len(plan) > 90
    assert requests_of(sandbox, "list") - before <= 4
    assert requests_of(sandbox, "retrieve") == 0


async def test_a_few_changes_among_many_are_looked_at_one_by_one(sandbox, recall):
    """A plan of two changes lists the events of a month."""
    await outcomes(recall, await recall.plan(policy=EVERYTHING))
    upcoming = (await recall.plan(policy=EVERYTHING)).decisions
    for decision in (upcoming[30], upcoming[-1]):
        await recall.calendar_events.remove_bot(decision.event_id)
    plan = await recall.plan(policy=EVERYTHING)
    before = requests_of(sandbox, "list")
    assert [outcome.status for outcome in await outcomes(recall, plan)] == ["done"] * len(plan)
    assert requests_of(sandbox, "list") == before
    assert requests_of(sandbox, "retrieve") == len(plan) <= 2


async def test_only_the_plans_calendars_are_looked_at(sandbox, recall):
    """A plan for one calendar lists the changes of a thousand others."""
    calendar_id = (await recall.calendars.list_page()).results[0].id
    plan = await recall.plan(policy=EVERYTHING, calendars=[calendar_id])
    sandbox.mutate(50)
    done = await outcomes(recall, plan)
    assert {outcome.status for outcome in done} == {"done", "skipped"}
    later = await recall.plan(policy=EVERYTHING, calendars=[calendar_id])
    assert {outcome.status for outcome in await outcomes(recall, later)} == {"done"}
    assert not await recall.plan(policy=EVERYTHING, calendars=[calendar_id])


async def test_an_empty_plan(sandbox, recall):
    """Applying a plan without changes costs requests."""
    plan = await recall.plan(policy=lambda event, calendar: None)
    before = sandbox.report()["operations"]["calendar_events.list"]["accepted"]
    assert await outcomes(recall, plan) == []
    assert sandbox.report()["operations"]["calendar_events.list"]["accepted"] == before


async def test_progress_counts_what_is_skipped(sandbox, recall):
    """A progress bar never reaches its end."""
    plan = await recall.plan(policy=EVERYTHING)
    sandbox.mutate(20)
    seen = []
    run = recall.apply(plan, on_progress=seen.append)
    async for _ in run:
        pass
    assert [progress.finished for progress in seen] == list(range(1, plan.requests + 1))
    assert {progress.total for progress in seen} == {plan.requests}
    assert run.progress.skipped > 0


async def test_a_list_of_changes_that_cannot_be_read_ends_the_job(sandbox, recall):
    """Without knowing what changed, a plan is applied as if nothing had."""
    plan = await recall.plan(policy=EVERYTHING)
    sandbox.fault("calendar_events.list", status=500)
    with pytest.raises(ServerError):
        await outcomes(recall, plan)
    assert sent(sandbox)["schedule_bot"] == 0


async def test_a_refused_key_ends_the_job(sandbox, recall):
    """A thousand requests are sent with a key that is wrong."""
    plan = await recall.plan(policy=EVERYTHING)
    sandbox.fault("calendar_events.schedule_bot", status=401, times=None)
    with pytest.raises(AuthenticationError):
        await outcomes(recall, plan)


async def test_a_failed_request_is_planned_again(sandbox, recall):
    """One failure stops the others, or is forgotten."""
    plan = await recall.plan(policy=EVERYTHING)
    sandbox.fault("calendar_events.schedule_bot", status=400, times=3)
    done = await outcomes(recall, plan)
    failed = {str(outcome.action.event_id) for outcome in done if outcome.status == "failed"}
    assert len(failed) == 3
    assert {change.event_id for change in await recall.plan(policy=EVERYTHING)} == failed


async def test_a_journal_goes_on_where_it_ended(sandbox, recall, tmp_path):
    """A job that was interrupted sends again what it had done."""
    plan = await recall.plan(policy=EVERYTHING)
    journal = tmp_path / "results.jsonl"
    run = recall.apply(plan, journal=journal, concurrency=4)
    async for _ in run:
        if run.progress.finished == 20:
            break
    await run.aclose()
    done = await outcomes(recall, plan, journal=journal)
    assert Counter(outcome.status for outcome in done) == {"done": plan.requests}
    assert sum(outcome.resumed for outcome in done) >= 20
    assert plan.requests <= sent(sandbox)["schedule_bot"] <= plan.requests + 4
    lines = [json.loads(line)["event_id"] for line in journal.read_text().splitlines()]
    assert set(lines) == {change.event_id for change in plan}
    assert not await recall.plan(policy=EVERYTHING)


@pytest.mark.parametrize("journal", [True, False])
async def test_a_change_of_two_requests_goes_on_after_the_first(sandbox, recall, tmp_path, journal):
    """An event would be left without a bot, because apply was killed between the removal and the new bot."""
    await outcomes(recall, await recall.plan(policy=EVERYTHING))
    plan = await recall.plan(policy=RecordingPolicy(deduplication=Deduplication.EVENT), remove_foreign=True)
    change = replace(next(iter(plan)), detach=True)
    plan = replace(plan, decisions=(change,))
    options = {"journal": tmp_path / "results.jsonl"} if journal else {}
    async with recall.apply(plan, concurrency=1, **options) as killed:
        assert (await anext(killed)).action == change.actions[0]
    await recall.calendar_events.remove_bot(change.event_id)  # the second request may have been sent, too
    assert {outcome.status for outcome in await outcomes(recall, plan, **options)} == {"done"}
    event = await recall.calendar_events.retrieve(change.event_id)
    assert [bot.deduplication_key for bot in event.bots] == [change.deduplication_key]


async def test_cancelled_at_any_moment(sandbox, recall):
    """A job that is cancelled leaves tasks behind, or the next one finds another state than it should."""
    plan = await recall.plan(policy=EVERYTHING)
    sandbox.set_latency(0.002, 0.002)
    before = asyncio.all_tasks()
    for pause in (0, 0.001, 0.005, 0.02, 0.05):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(pause):
                await outcomes(recall, await recall.plan(policy=EVERYTHING), concurrency=2)
    assert asyncio.all_tasks() - before == set() or await _settle(before)
    plan = await recall.plan(policy=EVERYTHING)
    await outcomes(recall, plan)
    assert not await recall.plan(policy=EVERYTHING)


async def _settle(before: set[asyncio.Task[object]]) -> bool:
    """Connections of the sandbox end a moment later than the client's tasks."""
    async with asyncio.timeout(30):
        while any("bulk" in str(task.get_coro()) for task in asyncio.all_tasks() - before):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return True


@pytest.mark.parametrize("wrong", [None, [ScheduleBot("x", "y")], "plan"])
async def test_what_is_no_plan(recall, wrong):
    """Something else than a plan is taken for one, or ends in an error that says nothing."""
    with pytest.raises(ConfigurationError, match="plan must be a Plan, made by RecallSession"):
        recall.apply(wrong)


async def test_settings_that_cannot_be(recall):
    """A `recheck` that makes no sense is noticed after the first minute."""
    plan = await recall.plan(policy=lambda event, calendar: None)
    for recheck in (0, -1, float("nan")):
        with pytest.raises(ConfigurationError, match="recheck"):
            recall.apply(plan, recheck=recheck)


async def test_at_the_real_quota_nobody_is_throttled():
    """Planning and applying together overrun one of the quotas."""
    async with RecallSandbox(events=60, calendars=2) as sandbox, connected(sandbox, quotas=None) as recall:
        await outcomes(recall, await recall.plan(policy=EVERYTHING))
        assert not await recall.plan(policy=EVERYTHING)
        assert {row["throttled"] for row in sandbox.report()["operations"].values()} == {0}
