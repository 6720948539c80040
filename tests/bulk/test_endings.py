"""How a bulk job ends before its time: refused, interrupted, abandoned, cancelled; and that nothing of it stays."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from recall_async import (
    AuthenticationError,
    BulkRun,
    InsufficientCreditError,
    Outcome,
    Plan,
    Quota,
    RecallError,
    RecallSession,
    RequestBlockedError,
    RetryPolicy,
    ScheduleBot,
    SessionClosedError,
)
from recall_async.bulk.actions import Action
from tests.bulk.conftest import OPERATIONS
from tests.bulk.test_engine import schedule
from tests.bulk.world import World, event_id


def jobs() -> set[asyncio.Task[Any]]:
    """Tasks that belong to bulk jobs."""
    return {task for task in asyncio.all_tasks() if "Engine" in repr(task)}


async def rest() -> None:
    """Wait until no job has a task."""
    async with asyncio.timeout(30):
        while jobs():  # noqa: ASYNC110  # nothing tells when tasks are gone
            await asyncio.sleep(0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


ENDLESS = 100_000


def endless() -> Iterator[Action]:
    return (schedule(number) for number in range(ENDLESS))


@pytest.mark.parametrize(
    ("status", "kind", "most"),
    [(401, AuthenticationError, 1), (402, InsufficientCreditError, 5), (403, RequestBlockedError, 5)],
)
async def test_refusals_stop_the_job(
    world: World, recall: RecallSession, status: int, kind: type[RecallError], most: int, tmp_path: Path
) -> None:
    """Would send thousands of requests that are all refused, or pass over what was not done."""
    world.statuses = lambda asked: status if asked.event >= 10 else 404 if asked.event == 5 else 200
    outcomes: list[Outcome] = []
    path = tmp_path / "journal"
    with pytest.raises(kind) as caught:
        async for outcome in recall.bulk([schedule(number) for number in range(1000)], concurrency=4, journal=path):
            outcomes.append(outcome)  # noqa: PERF401  # what came before the error counts
    assert len(outcomes) == 10
    assert len(world.asked) <= 10 + most + 3
    assert caught.value.__notes__ == [
        "The bulk job stopped with 9 done, 1 failed, 0 skipped; 990 others are unfinished."
    ]
    assert len(lines(path)) == 10
    assert jobs() == set()


@pytest.mark.parametrize("status", [402, 403])
async def test_one_refusal_is_one_failure(world: World, recall: RecallSession, status: int, tmp_path: Path) -> None:
    """Would stop a job because the firewall dislikes one action's payload, again at every start."""
    actions = [schedule(number) for number in range(40)]
    world.statuses = lambda asked: status if asked.event == 7 else 200
    for concurrency in (1, 8):
        outcomes = [o async for o in recall.bulk(actions, concurrency=concurrency, journal=tmp_path / "journal")]
        assert [o.action.event_id for o in outcomes if o.status == "failed"] == [event_id(7)]
        assert len(outcomes) == 40
    assert len(world.asked) == 40


async def test_refusals_in_a_row_are_nobodys_failures(world: World, recall: RecallSession, tmp_path: Path) -> None:
    """Would note actions as failed because the sender's address is blocked, so that they are not done when it is not."""
    actions = [schedule(number) for number in range(40)]
    world.statuses = lambda asked: 403
    with pytest.raises(RequestBlockedError):
        await _drain(recall.bulk(actions, concurrency=8, journal=tmp_path / "journal"))
    assert len(world.asked) <= 5 + 7
    assert lines(tmp_path / "journal") == []
    world.statuses = lambda asked: 200
    outcomes = await _drain(recall.bulk(actions, journal=tmp_path / "journal"))
    assert [outcome.status for outcome in outcomes] == ["done"] * 40


@pytest.mark.parametrize("status", [402, 403])
async def test_a_skipped_action_between_refusals(
    world: World, recall: RecallSession, status: int, tmp_path: Path
) -> None:
    """Would note the refused ones as failed, because an action for which nothing was sent came between them."""
    world.statuses = lambda asked: status
    over = ScheduleBot(event_id(99), "over", start_time="2020-05-01T10:00:00Z")
    actions = [*map(schedule, range(4)), over, *map(schedule, range(4, 8))]
    with pytest.raises((InsufficientCreditError, RequestBlockedError)):
        await _drain(recall.bulk(iter(actions), concurrency=1, journal=tmp_path / "journal"))
    assert [line["status"] for line in lines(tmp_path / "journal")] == ["skipped"]
    world.statuses = lambda asked: 200
    outcomes = await _drain(recall.bulk(iter(actions), journal=tmp_path / "journal"))
    assert sum(outcome.status == "done" for outcome in outcomes) == 8


async def test_fewer_refusals_than_stop_a_job(world: World, recall: RecallSession) -> None:
    """Would lose the failures of a job that ends before it is known what they mean."""
    world.statuses = lambda asked: 403
    outcomes = await _drain(recall.bulk([schedule(number) for number in range(4)]))
    assert [outcome.status for outcome in outcomes] == ["failed"] * 4


async def test_refused_jobs_go_on(world: World, recall: RecallSession, tmp_path: Path) -> None:
    """Would take a refusal for a result, and never do the action."""
    actions = [schedule(number) for number in range(30)]
    world.statuses = lambda asked: 401 if asked.event >= 10 else 200
    with pytest.raises(AuthenticationError):
        async for _ in recall.bulk(actions, journal=tmp_path / "journal"):
            pass
    world.statuses = lambda asked: 200
    outcomes = [outcome async for outcome in recall.bulk(actions, journal=tmp_path / "journal")]
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert len(world.bots) == len(outcomes) == 30


async def test_requests_on_their_way_are_finished(world: World, connect: Callable[..., RecallSession]) -> None:
    """Would lose the outcomes of requests that were sent before the refusal, or send those that wait for the quota."""
    recall = connect(quotas=dict.fromkeys(OPERATIONS, Quota(4, 3600, burst=4, reserve=0)))
    world.gate.clear()
    world.statuses = lambda asked: 401 if asked.event == 0 else 200
    run = recall.bulk([schedule(number) for number in range(100)], concurrency=10)
    first = asyncio.ensure_future(anext(run))
    await world.arrived(4)
    world.gate.set()
    outcomes = [await first]
    with pytest.raises(AuthenticationError):
        outcomes += [outcome async for outcome in run]
    with pytest.raises(StopAsyncIteration):
        await anext(run)
    assert {o.action.event_id for o in outcomes} <= {event_id(number) for number in (1, 2, 3)}
    assert len(world.asked) == 4


async def test_a_closed_session(world: World, connect: Callable[..., RecallSession]) -> None:
    """Would leave a job waiting for ever for a session that is gone, or fail each of its actions."""
    recall = connect()
    run = recall.bulk(endless(), concurrency=4)
    await anext(run)
    world.gate.clear()
    rest_of_it = asyncio.create_task(_drain(run))
    await world.arrived(world.answered + 4)
    await recall.aclose()
    with pytest.raises(SessionClosedError) as caught:
        await rest_of_it
    assert "; the others are unfinished" in caught.value.__notes__[0]
    assert jobs() == set()
    with pytest.raises(SessionClosedError):
        await anext(recall.bulk(endless()))


async def _drain(run: AsyncIterator[Outcome]) -> list[Outcome]:
    return [outcome async for outcome in run]


async def test_break(world: World, recall: RecallSession, tmp_path: Path) -> None:
    """Would go on behind the back of a program that left the loop."""
    path = tmp_path / "journal"
    seen = 0
    async for _ in recall.bulk(endless(), concurrency=4, journal=path):
        seen += 1
        if seen == 20:
            break
    await rest()
    asked = len(world.asked)
    assert asked < 40
    assert len(lines(path)) >= 20
    # Nothing holds the file any more, and it tells of everything that was answered while the job went on.
    again = [o async for o in recall.bulk([schedule(number) for number in range(40)], journal=path)]
    assert sum(outcome.resumed for outcome in again) >= 20
    assert len(world.asked) <= 40 + 4


async def test_an_exception_in_the_loop(world: World, recall: RecallSession) -> None:
    """Would keep the job's tasks because a traceback holds on to the loop."""
    with pytest.raises(ZeroDivisionError) as caught:
        async for outcome in recall.bulk(endless(), concurrency=4):
            print(outcome.attempts / 0)
    await rest()
    assert caught.value


async def test_cancelled_while_waiting(world: World, recall: RecallSession) -> None:
    """Would leave tasks, or a lock on the journal, to a program whose job was cancelled."""
    world.gate.clear()
    task = asyncio.create_task(_drain(recall.bulk(endless(), concurrency=4)))
    await world.arrived(4)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert jobs() == set()


async def test_cancelled_before_it_began(recall: RecallSession, tmp_path: Path) -> None:
    """Would keep the journal open when the job is cancelled while it reads it."""
    path = tmp_path / "journal"
    actions = [schedule(number) for number in range(3000)]
    for turns in range(1, 5):
        task = asyncio.create_task(_drain(recall.bulk(actions, journal=path)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with recall.bulk(actions, journal=path) as run:
        await anext(run)


async def test_async_with_ends_it(world: World, recall: RecallSession) -> None:
    """Would need the program to wait until the garbage collector has come round."""
    async with recall.bulk(endless(), concurrency=4) as run:
        await anext(run)
        world.gate.clear()
        await asyncio.sleep(0)  # tasks that have ended are replaced
        while not jobs():
            await anext(run)
    assert jobs() == set()
    await run.aclose()
    assert [outcome async for outcome in run] == []


async def test_a_run_that_is_held_comes_to_rest(world: World, recall: RecallSession) -> None:
    """Would send request after request, or keep tasks, when the loop was left but the run is still known by a name."""
    run = recall.bulk(endless(), concurrency=4)
    async for _ in run:
        break
    await rest()
    asked = len(world.asked)
    assert asked <= 1 + 2 * 4
    await anext(run)
    await run.aclose()


async def test_dropped_in_another_loop() -> None:
    """Would warn of an unclosed file when the loop ended before the run was dropped."""
    # Run in a thread, because the run's loop must be closed before the run is dropped.

    def work(path: Path) -> None:
        async def begin() -> Any:
            async with World() as world, RecallSession("key", base_url=world.url) as recall:
                run = recall.bulk(endless(), journal=path)
                await anext(run)
                return run

        run = asyncio.run(begin())
        del run
        gc.collect()

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        await asyncio.to_thread(work, Path(folder) / "journal")


async def test_stop(world: World, connect: Callable[..., RecallSession], tmp_path: Path) -> None:
    """Would cut requests off that are on their way, or wait for those that have no slot yet."""
    recall = connect(quotas=dict.fromkeys(OPERATIONS, Quota(6, 3600, burst=6, reserve=0)))
    path = tmp_path / "journal"
    world.gate.clear()
    run = recall.bulk(endless(), concurrency=10, journal=path)
    outcomes = asyncio.create_task(_drain(run))
    await world.arrived(6)
    run.stop()
    world.gate.set()
    assert len(await outcomes) == 6
    assert len(lines(path)) == len(world.asked) == 6
    assert (run.progress.done, run.progress.total) == (6, None)


async def test_stop_with_a_timeout_tells_what_is_left(
    world: World, connect: Callable[..., RecallSession], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Would wait for a silent server and a used-up quota longer than any orchestrator does, or not tell what is left."""
    recall = connect(quotas=dict.fromkeys(OPERATIONS, Quota(2, 3600, burst=2, reserve=0)))
    path = tmp_path / "journal"
    world.gate.clear()
    run = recall.bulk([schedule(number) for number in range(5)], journal=path)
    outcomes = asyncio.create_task(_drain(run))
    await world.arrived(2)
    with caplog.at_level("INFO", "recall_async"):
        run.stop(timeout=0.05)
        async with asyncio.timeout(30):
            assert await outcomes == []
        assert [outcome async for outcome in run] == []
    cut, left = (record.getMessage() for record in caplog.records if "bulk job" in record.getMessage())
    assert "ended 0.05 s after it was stopped, with 2 requests in flight, which may have taken effect" in cut
    assert cut.endswith(f"Events: {', '.join(sorted(event_id(asked.event) for asked in world.asked))}")
    assert "5 others are unfinished. To resume it" in left
    assert left.endswith(str(path))


async def test_an_interrupted_program_tells_how_to_resume(
    world: World, connect: Callable[..., RecallSession], tmp_path: Path
) -> None:
    """Ctrl-C in a script would end in a traceback that does not say that, and how, the job can be resumed."""
    path = tmp_path / "journal"
    world.gate.clear()
    outcomes = asyncio.create_task(_drain(connect().bulk([schedule(number) for number in range(5)], journal=path)))
    await world.arrived(5)
    outcomes.cancel()  # as asyncio.run does
    with pytest.raises(asyncio.CancelledError) as raised:
        await outcomes
    assert raised.value.__notes__ == [
        f"The bulk job stopped with 0 done, 0 failed, 0 skipped; 5 others are unfinished. To resume it, run it again with "
        f"the journal {path}"
    ]


@pytest.mark.parametrize("status", [503, 507, 429, 409])
async def test_stop_during_a_retry(
    world: World, connect: Callable[..., RecallSession], status: int, tmp_path: Path
) -> None:
    """Would send everything that waits for a retry, a minute after the job was stopped."""
    recall = connect(retry=RetryPolicy(attempts=9, backoff=30.0))
    path = tmp_path / "journal"
    world.statuses = lambda asked: status
    run = recall.bulk(endless(), concurrency=8, journal=path)
    outcomes = asyncio.create_task(_drain(run))
    await world.arrived(1)
    while world.answered != len(world.asked):  # noqa: ASYNC110  # the server tells of arrivals only
        await asyncio.sleep(0.01)
    run.stop()
    async with asyncio.timeout(2):
        assert await outcomes == []
    asked = len(world.asked)
    assert lines(path) == []
    await asyncio.sleep(0)
    assert len(world.asked) == asked
    assert jobs() == set()


async def test_stop_while_the_input_is_slow(world: World, recall: RecallSession) -> None:
    """Would wait for an action that may never come."""

    async def actions() -> AsyncIterator[Action]:
        yield schedule(0)
        await asyncio.Event().wait()

    run = recall.bulk(actions())
    await anext(run)
    outcomes = asyncio.create_task(_drain(run))
    await asyncio.sleep(0)
    run.stop()
    assert await outcomes == []


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_an_exception_in_the_input(
    world: World, connect: Callable[..., RecallSession], asynchronous: bool
) -> None:
    """Would swallow what the input raises, or drop the actions that it gave before."""
    recall = connect(quotas=dict.fromkeys(OPERATIONS, Quota(100, 1, burst=5)))

    def actions() -> Iterator[Action]:
        yield from (schedule(number) for number in range(20))
        raise LookupError("the database is gone")

    async def slowly() -> AsyncIterator[Action]:
        for action in actions():
            await asyncio.sleep(0)
            yield action

    outcomes: list[Outcome] = []
    with pytest.raises(LookupError):
        async for outcome in recall.bulk(slowly() if asynchronous else actions()):
            outcomes.append(outcome)  # noqa: PERF401  # what came before the error counts
    assert len(outcomes) == len(world.bots) == 20


async def test_an_exception_about_an_outcome_that_was_given(world: World, recall: RecallSession) -> None:
    """Would leave the tasks of a job at work because the program's function raised on a skipped action."""
    given = Outcome(schedule(0), None, None, 0, 0.0, "it changed")

    def on_progress(progress: Any) -> None:
        if progress.skipped:
            raise LookupError("the terminal is gone")

    world.gate.clear()
    run = BulkRun(recall._client, iter([schedule(1), given, *map(schedule, range(2, 50))]), on_progress=on_progress)
    with pytest.raises(LookupError):
        await _drain(run)
    assert jobs() == set()


async def test_an_exception_in_on_progress(world: World, recall: RecallSession) -> None:
    """Would swallow what a program's own function raises."""

    def on_progress(progress: object) -> None:
        raise LookupError("the terminal is gone")

    with pytest.raises(LookupError):
        async for _ in recall.bulk(endless(), on_progress=on_progress):
            pass
    assert jobs() == set()


async def test_workers_cancelled_from_outside(world: World, recall: RecallSession) -> None:
    """Would lose an action without a word when somebody cancels every task there is."""
    world.gate.clear()
    outcomes = asyncio.create_task(_drain(recall.bulk([schedule(0), schedule(1)])))
    await world.arrived(2)
    for task in jobs() - {outcomes}:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await outcomes


async def test_awaited_run_is_a_summary(recall: RecallSession, world: World) -> None:
    """A program that needs no outcomes would have to write an empty loop, or would get a `TypeError`."""
    world.statuses = lambda asked: 404 if asked.event == 1 else 200
    run = recall.bulk([schedule(number) for number in range(5)])
    await anext(run)
    progress = await run
    assert (progress.done, progress.failed, progress.finished) == (4, 1, 5)
    assert str(progress) == "4 done, 1 failed, 0 skipped of 5"
    assert (await run).finished == 5
    world.statuses = lambda asked: 401
    with pytest.raises(AuthenticationError):
        await recall.bulk([schedule(0)])


async def test_run_that_nobody_starts_warns(recall: RecallSession, world: World) -> None:
    """A forgotten `async for` would look like a job that was done."""
    plan = Plan(decisions=(), made_at=datetime.now(UTC), watermark=None)
    for make in (lambda: recall.bulk([schedule(0)]), lambda: recall.apply(plan)):
        with pytest.warns(RuntimeWarning, match="never started, so nothing was sent"):
            make()
    closed, stopped = recall.bulk([schedule(0)]), recall.bulk([schedule(0)])
    await closed.aclose()
    stopped.stop()
    async with recall.bulk([schedule(0)]):
        pass
    del closed, stopped
    gc.collect()
    assert world.asked == []


async def test_dropped_in_another_thread(world: World, recall: RecallSession) -> None:
    """A job whose last reference ends in a thread would cancel the tasks of a loop that runs elsewhere."""
    held = [recall.bulk(endless(), concurrency=3)]
    await anext(held[0])
    await asyncio.to_thread(held.clear)
    await rest()
    assert len(world.asked) < ENDLESS


async def test_stopped_while_its_journal_is_read(world: World, recall: RecallSession, tmp_path: Path) -> None:
    """A job that was stopped before it had begun would begin all the same."""
    journal = tmp_path / "j.jsonl"
    journal.write_text("")
    run = recall.bulk([schedule(0)], journal=journal)
    first = asyncio.create_task(anext(run))
    await asyncio.sleep(0)
    run.stop()
    with pytest.raises(StopAsyncIteration):
        await first
    assert world.asked == []


async def test_two_readers_of_one_job(world: World, recall: RecallSession) -> None:
    """Two tasks that share the outcomes of a job would begin it twice."""
    run = recall.bulk([schedule(number) for number in range(2)])
    outcomes = await asyncio.gather(anext(run), anext(run))
    assert {outcome.action.event_id for outcome in outcomes} == {event_id(0), event_id(1)}
    assert len(world.asked) == 2
