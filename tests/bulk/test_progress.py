"""What a job tells of itself while it runs."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from recall_async import LaneStatistics, Outcome, Priority, Progress, Quota, RecallSession, RemoveBot
from recall_async.bulk.progress import Tally
from recall_async.limits.local.lane import LocalLane
from tests.bulk.test_engine import schedule
from tests.bulk.world import World, event_id
from tests.virtual_time import run

SCHEDULED = Outcome(schedule(0), None, None, 1, 2.0)
REMOVED = Outcome(RemoveBot(event_id(0)), None, None, 1, 0.0)
QUIET = LaneStatistics(Quota(600, 60), taken=42)


def lane(operation: str) -> LaneStatistics:
    return QUIET


async def test_on_progress(world: World, recall: RecallSession) -> None:
    """Would show a job that is further, or not as far, as what the program was given."""
    world.statuses = lambda asked: {3: 404, 5: 400}.get(asked.event, 200)
    seen: list[Progress] = []
    run = recall.bulk([schedule(number) for number in range(20)], on_progress=seen.append)
    assert (run.progress.finished, run.progress.total, run.progress.taken) == (0, 20, 0)
    outcomes = []
    async for outcome in run:
        outcomes.append(outcome)
        counts = [sum(o.status == status for o in outcomes) for status in ("done", "failed", "skipped")]
        assert [seen[-1].done, seen[-1].failed, seen[-1].skipped] == counts
        assert len(seen) == len(outcomes) == seen[-1].finished
    last = run.progress
    assert (last.done, last.failed, last.skipped, last.resumed, last.total, last.eta) == (18, 1, 1, 0, 20, 0)
    assert (last.taken, last.limit) == (20, 100_000)
    assert last.rate > 0


async def test_a_stream_has_no_end_in_sight(world: World, recall: RecallSession) -> None:
    """Would promise an end that nobody knows."""
    run = recall.bulk(iter([schedule(0)]))
    await anext(run)
    assert (run.progress.total, run.progress.eta) == (None, None)
    await run.aclose()


async def test_a_length_is_a_total_in_any_input(world: World, recall: RecallSession) -> None:
    """Would draw no bar for a file whose actions were counted, but are read one by one."""

    class File:
        def __len__(self) -> int:
            return 3

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter([schedule(2), schedule(1), schedule(0)])

    run = recall.bulk(File(), concurrency=1)
    assert run.progress.total == 3
    assert [outcome.action.event_id async for outcome in run] == [event_id(2), event_id(1), event_id(0)]


async def test_resumed_actions_are_counted(world: World, recall: RecallSession, tmp_path: Path) -> None:
    """Would take what an earlier run did for the pace of this one."""
    actions = [schedule(number) for number in range(10)]
    for _ in range(2):
        run = recall.bulk(actions, journal=tmp_path / "journal")
        async for _ in run:
            pass
    assert (run.progress.done, run.progress.resumed, run.progress.rate, run.progress.waited) == (10, 10, 0.0, 0.0)


def test_eta_by_the_quota() -> None:
    """Would promise an end that the quota does not allow."""
    tally = Tally(1000)
    assert tally.progress(0.0, lane).eta == QUIET.quota.seconds_for(1042)
    for second in range(100):
        tally.count(SCHEDULED, float(second))
    progress = tally.progress(99.0, lane)
    assert (progress.rate, progress.taken, progress.limit) == (1.0, 42, 600)
    assert progress.eta == QUIET.quota.seconds_for(1000)
    assert math.isclose(progress.waited, 2.0, rel_tol=0.1)
    # Removals have a quota of their own, and go at the same time.
    for second in range(100, 200):
        tally.count(REMOVED, float(second))
    assert tally.progress(199.0, lane).eta == QUIET.quota.seconds_for(500)


@pytest.mark.parametrize("burst", [None, 300])
@pytest.mark.parametrize("total", [100, 298, 405, 596, 900])
def test_eta_is_when_the_job_ends(burst: int | None, total: int) -> None:
    """Would say 21 s, and go on saying so, while the slots of a burst return in a minute; or a minute too much while its
    last requests are in flight."""

    async def main() -> list[float]:
        loop, free = asyncio.get_running_loop(), asyncio.Semaphore(64)
        lane, tally = LocalLane("calendar_events.schedule_bot", Quota(300, 60, burst=burst)), Tally(total)
        ends: list[float] = []

        async def request() -> None:
            async with free:
                slot = await lane.admit(Priority.BULK)
                await asyncio.sleep(0.1)
                slot.answered()
                tally.count(SCHEDULED, loop.time())

        async def look() -> None:
            while True:
                seen = lane.statistics()
                eta = tally.progress(loop.time(), lambda operation, seen=seen: seen, in_flight=seen.in_flight).eta
                ends.append(loop.time() + (eta or 0.0))
                await asyncio.sleep(0.05)

        watch = asyncio.create_task(look())
        await asyncio.gather(*(request() for _ in range(total)))
        watch.cancel()
        return [end - loop.time() for end in ends]

    # In the first round trip of a burst, nothing tells how fast it goes.
    assert sum(abs(error) >= 3.0 for error in run(main())) <= 2


def test_eta_of_a_lane_that_is_held_back() -> None:
    """Would not see that others use the quota, too."""
    tally = Tally(10)
    tally.count(SCHEDULED, 5.0)
    held = LaneStatistics(Quota(600, 60), paused=7.0, pace=3.0)
    progress = tally.progress(5.0, lambda operation: held)
    assert (progress.paused, progress.eta) == (7.0, 7.0 + 3.0)


def test_a_store_that_does_not_answer_is_seen() -> None:
    """Would promise an end, and show an idle quota, while a job waits for Redis."""
    tally = Tally(10)
    silent = LaneStatistics(Quota(600, 60), free=600, store_silent=7.0)
    progress = tally.progress(5.0, lambda operation: silent)
    assert (progress.store_silent, progress.eta) == (7.0, None)


@pytest.mark.parametrize("silence", [10.0, 1000.0])
def test_rate_falls_while_nothing_happens(silence: float) -> None:
    """Would show the pace of before a pause for as long as it lasts."""
    tally = Tally(None)
    for second in range(11):
        tally.count(SCHEDULED, float(second))
    assert tally.progress(10.0 + silence, lane).rate == 10 / (10 + silence)


def test_more_than_was_said() -> None:
    """Would count backwards where an input is longer than its length."""
    tally = Tally(1)
    for _ in range(3):
        tally.count(SCHEDULED, 1.0)
    assert tally.progress(1.0, lane).eta == 0
    assert tally.at_the_end().endswith("with 3 done, 0 failed, 0 skipped; 0 others are unfinished.")
