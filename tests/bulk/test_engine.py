"""A bulk job in its good days: order, races, failures, priorities, the quota."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recall_async import (
    BadRequestError,
    ConfigurationError,
    EventEndedError,
    NotFoundError,
    Outcome,
    Priority,
    Quota,
    RecallSession,
    RemoveBot,
    RetryPolicy,
    ScheduleBot,
)
from recall_async.bulk.actions import Action
from recall_async.bulk.engine import LOOK_AHEAD
from tests.bulk.conftest import OPERATIONS
from tests.bulk.world import Asked, World, event_id

SOON = datetime.now(UTC) + timedelta(days=1)


def schedule(number: int, key: str | None = None, **options: Any) -> ScheduleBot:
    return ScheduleBot(event_id(number), key or f"key-{number}", {"bot_name": "Notes"}, **options)


async def test_one_outcome_for_each_action(world: World, recall: RecallSession) -> None:
    """Would lose an action, or do one twice."""
    actions: list[Action] = [schedule(number) for number in range(300)]
    actions += [RemoveBot(event_id(number)) for number in range(300, 400)]
    outcomes = [outcome async for outcome in recall.bulk(actions)]
    assert len(outcomes) == len({id(outcome.action) for outcome in outcomes}) == 400
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert all(outcome.event is not None and outcome.event.id == outcome.action.event_id for outcome in outcomes)
    assert {outcome.attempts for outcome in outcomes} == {1}
    assert len(world.asked) == 400
    assert world.bots[7] == {"key-7": {"bot_name": "Notes"}}


async def test_no_actions(recall: RecallSession) -> None:
    """Would hang on a job in which there is nothing to do."""
    assert [outcome async for outcome in recall.bulk([])] == []
    assert [outcome async for outcome in recall.bulk(iter(()))] == []


async def test_asynchronous_input(world: World, recall: RecallSession) -> None:
    """Would not take actions as they come from a database or a queue."""

    async def actions() -> AsyncIterator[Action]:
        for number in range(50):
            await asyncio.sleep(0)
            yield schedule(number)

    outcomes = [outcome async for outcome in recall.bulk(actions())]
    assert len(outcomes) == len(world.asked) == 50


async def test_slow_input_is_worked_on_as_it_comes(world: World, recall: RecallSession) -> None:
    """Would collect a slow input before anything is done."""
    more = asyncio.Event()

    async def actions() -> AsyncIterator[Action]:
        yield schedule(0)
        yield schedule(1)
        await more.wait()
        yield schedule(2)

    run = recall.bulk(actions())
    first = {(await anext(run)).action.event_id, (await anext(run)).action.event_id}
    assert first == {event_id(0), event_id(1)}
    more.set()
    assert [outcome.action.event_id async for outcome in run] == [event_id(2)]


async def test_a_collection_goes_soonest_first(world: World, recall: RecallSession) -> None:
    """Would keep the meeting that is about to start waiting behind the one next week."""
    hours = [5, 3, None, 9, 1, 7]
    actions = [
        schedule(number, start_time=None if hour is None else SOON + timedelta(hours=hour))
        for number, hour in enumerate(hours)
    ]
    async for _ in recall.bulk(actions, concurrency=1):
        pass
    assert [asked.event for asked in world.asked] == [4, 1, 0, 5, 3, 2]
    # One action that knows when its event starts is enough for all actions on it.
    world.asked.clear()
    later = schedule(7, start_time=SOON + timedelta(hours=1))
    async for _ in recall.bulk([later, schedule(8, start_time=SOON), RemoveBot(event_id(8))], concurrency=1):
        pass
    assert [asked.event for asked in world.asked] == [8, 8, 7]


@pytest.mark.parametrize("length", [10, None])
async def test_progress_bars(world: World, recall: RecallSession, length: int | None) -> None:
    """Would read the generator in a progress bar twice and find nothing to do, or fail because it has no length."""

    class Bar:
        actions = (schedule(number) for number in range(10))

        def __len__(self) -> int:
            return length  # type: ignore[return-value]

        def __contains__(self, item: object) -> bool:
            return item in self.actions

        def __iter__(self) -> Iterator[Action]:
            yield from self.actions

    run = recall.bulk(Bar())
    assert run.progress.total == length
    assert len([outcome async for outcome in run]) == 10


async def test_a_stream_goes_in_its_own_order(world: World, recall: RecallSession) -> None:
    """Would need all of a stream to begin."""
    actions = [schedule(number, start_time=SOON - timedelta(minutes=number)) for number in range(20)]
    async for _ in recall.bulk(iter(actions), concurrency=1):
        pass
    assert [asked.event for asked in world.asked] == list(range(20))


async def test_an_events_actions_keep_their_order(world: World, recall: RecallSession) -> None:
    """Would remove a bot before it is scheduled, because of a start time that only one of the actions knows."""
    actions = [schedule(0), RemoveBot(event_id(0), SOON), schedule(1, start_time=SOON), RemoveBot(event_id(1))]
    upper = RemoveBot(event_id(10).upper())
    async for _ in recall.bulk([*actions, schedule(10), upper]):
        pass
    assert {event: dict(bots) for event, bots in world.bots.items()} == {0: {}, 1: {}, 10: {}}
    assert world.overlaps == 0


@pytest.mark.parametrize("stream", [False, True])
async def test_keys_never_race_nor_hold_up_others(world: World, recall: RecallSession, stream: bool) -> None:
    """Would meet 409 for parallel requests with one key, or leave the pool idle behind them."""
    world.gate.clear()
    actions: list[Action] = [schedule(number, "shared") for number in range(10)]
    actions += [schedule(number) for number in range(10, 13)]
    run = recall.bulk(iter(actions) if stream else actions, concurrency=4)
    first = asyncio.ensure_future(anext(run))
    await world.arrived(4)  # one of the shared key, and the three others
    assert sorted(asked.event for asked in world.asked) == [0, 10, 11, 12]
    world.gate.set()
    await first
    assert len([outcome async for outcome in run]) == 12
    assert world.overlaps == 0
    assert [asked.event for asked in world.asked if asked.key == "shared"] == list(range(10))


async def test_look_ahead_is_bounded(world: World, recall: RecallSession) -> None:
    """Would pull a stream into memory when its actions hold each other up, or when nobody fetches outcomes."""
    pulled = 0

    def actions(key: str | None) -> Iterator[Action]:
        nonlocal pulled
        for number in range(100_000):
            pulled += 1
            yield schedule(number, key)

    world.gate.clear()
    for key, most in ((None, 8), ("shared", LOOK_AHEAD * 8 + 1)):
        pulled, before = 0, len(world.asked)
        async with recall.bulk(actions(key), concurrency=8) as run:
            first = asyncio.ensure_future(anext(run))
            await world.arrived(before + 1 if key else before + 8)
            assert pulled == most
            world.gate.set()
            await first
        world.gate.clear()


async def test_outcomes_nobody_fetches_hold_the_job(world: World, recall: RecallSession) -> None:
    """Would work through the whole input, and keep every outcome, for a consumer that does not keep up."""
    run = recall.bulk((schedule(number) for number in range(10_000)), concurrency=4)
    await anext(run)
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    while any("Engine" in repr(task) for task in tasks):
        tasks = {task for task in tasks if not task.done()}
        await asyncio.sleep(0.001)
    assert len(world.asked) <= 1 + 2 * 4
    await run.aclose()


async def test_concurrency(world: World, recall: RecallSession) -> None:
    """Would send more at once than was asked for, or fewer."""
    world.latency = 0.005
    async for _ in recall.bulk((schedule(number) for number in range(60)), concurrency=7):
        pass
    assert world.most_in_flight == 7


async def test_a_failure_stops_nobody(world: World, recall: RecallSession) -> None:
    """Would end a job of thousands because of one event that is gone."""

    def answers(asked: Asked) -> int:
        return {3: 404, 5: 400, 7: 503}.get(asked.event, 200)

    world.statuses = answers
    outcomes = {o.action.event_id: o async for o in recall.bulk([schedule(number) for number in range(20)])}
    statuses = [outcomes[event_id(number)].status for number in range(20)]
    assert statuses == ["failed" if n in (3, 7) else "skipped" if n == 5 else "done" for n in range(20)]
    assert isinstance(outcomes[event_id(3)].error, NotFoundError)
    ended = outcomes[event_id(5)]
    assert isinstance(ended.error, EventEndedError)
    assert ended.reason is not None
    assert (outcomes[event_id(7)].attempts, outcomes[event_id(7)].event) == (2, None)
    assert not isinstance(outcomes[event_id(3)].error, BadRequestError)


async def test_meetings_that_are_over_cost_no_request(world: World, recall: RecallSession) -> None:
    """Would spend quota on meetings that ended long ago."""
    past = datetime.now(UTC) - timedelta(hours=1)
    actions: list[Action] = [
        schedule(0, start_time=past),
        RemoveBot(event_id(1), past.isoformat()),
        schedule(2, start_time=past, end_time=SOON),
        schedule(3, end_time=past),
    ]
    outcomes = {o.action.event_id: o async for o in recall.bulk(actions)}
    assert [outcomes[event_id(number)].status for number in range(4)] == ["skipped", "skipped", "done", "skipped"]
    assert [asked.event for asked in world.asked] == [2]
    skipped = outcomes[event_id(0)]
    assert (skipped.error, skipped.event, skipped.attempts) == (None, None, 0)
    assert "started" in (skipped.reason or "")


@pytest.mark.parametrize(
    "action",
    [
        ScheduleBot("../calendars", "key"),
        ScheduleBot(event_id(0), ""),
        ScheduleBot(event_id(0), "\ud800"),
        ScheduleBot(event_id(0), ["list"]),  # type: ignore[arg-type]
        ScheduleBot(event_id(0), "key", {"x": object()}),
        ScheduleBot(event_id(0), "key", {}, "tomorrow"),
        RemoveBot(event_id(0), None, datetime(2031, 1, 1)),
    ],
)
@pytest.mark.parametrize("journal", [False, True])
async def test_what_the_api_could_not_take(
    world: World, recall: RecallSession, action: Action, journal: bool, tmp_path: Any
) -> None:
    """Would send nonsense, or end the whole job because of it."""
    path = tmp_path / "journal" if journal else None
    outcomes = [outcome async for outcome in recall.bulk([action, schedule(1)], journal=path)]
    failed = next(outcome for outcome in outcomes if outcome.action is action)
    assert isinstance(failed.error, ConfigurationError)
    assert (failed.status, failed.attempts) == ("failed", 0)
    assert [asked.event for asked in world.asked] == [1]


async def test_not_an_action(world: World, recall: RecallSession) -> None:
    """Would fail with an AttributeError somewhere inside, after half of the job is done."""
    with pytest.raises(ConfigurationError, match="dict"):
        async for _ in recall.bulk([schedule(0), {"event_id": event_id(1)}]):  # type: ignore[list-item]
            pass
    assert world.asked == []
    for settings in ({"concurrency": 0}, {"concurrency": 1.5}, {"journal": 7}, {"on_progress": 1}, {"journal": ""}):
        with pytest.raises(ConfigurationError, match=f"(?i){next(iter(settings))}"):
            recall.bulk([], **settings)  # type: ignore[arg-type]

    async def on_progress(progress: object) -> None: ...

    with pytest.raises(ConfigurationError, match="plain function"):
        recall.bulk([], on_progress=on_progress)
    with pytest.raises(ConfigurationError, match="ScheduleBot"):
        recall.bulk(schedule(0))  # type: ignore[arg-type]


async def test_bulk_leaves_room_for_people(world: World, connect: Callable[..., RecallSession]) -> None:
    """Would let a job take the slots and the turn of somebody who waits for an answer."""
    recall = connect(quotas=dict.fromkeys(OPERATIONS, Quota(10, 3600, burst=10, reserve=2)))
    run = recall.bulk([schedule(number) for number in range(20)])
    for _ in range(8):
        await anext(run)
    lane = recall.statistics()["calendar_events.schedule_bot"]
    assert (lane.taken, lane.free, lane.waiting[Priority.BULK]) == (8, 2, 12)
    await recall.calendar_events.schedule_bot(event_id(99), deduplication_key="now", deadline=5)
    await run.aclose()


async def test_the_policys_deadline_is_not_for_jobs(world: World, connect: Callable[..., RecallSession]) -> None:
    """Would fail the actions that wait longer for the quota than one call may take."""
    recall = connect(
        quotas=dict.fromkeys(OPERATIONS, Quota(20, 0.5, burst=2)), retry=RetryPolicy(deadline=0.1, attempts=1)
    )
    outcomes = [outcome async for outcome in recall.bulk([schedule(number) for number in range(15)])]
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert max(outcome.waited for outcome in outcomes) > 0.1


async def test_two_consumers(world: World, recall: RecallSession) -> None:
    """Would end the run for one of the tasks that share its outcomes, or give an outcome to both."""
    run = recall.bulk(schedule(number) for number in range(100))

    async def consume() -> list[Outcome]:
        return [outcome async for outcome in run]

    first, second = await asyncio.gather(consume(), consume())
    assert {o.action.event_id for o in first + second} == {event_id(number) for number in range(100)}
    assert len(first + second) == 100


async def test_two_jobs_at_once(world: World, recall: RecallSession) -> None:
    """Would mix up the outcomes of two jobs in one session, or let their keys race."""

    async def work(numbers: range) -> list[Outcome]:
        return [o async for o in recall.bulk([schedule(number, f"key-{number % 50}") for number in numbers])]

    first, second = await asyncio.gather(work(range(50)), work(range(50, 100)))
    assert {o.action.event_id for o in first} == {event_id(number) for number in range(50)}
    assert {o.action.event_id for o in second} == {event_id(number) for number in range(50, 100)}
    assert world.overlaps == 0
