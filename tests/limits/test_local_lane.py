"""One lane of this process, step by step: what it counts, what it leaves to another lane, and when it is done with."""

from __future__ import annotations

import asyncio
import math

import pytest

from recall_async.errors import DeadlineExceededError
from recall_async.limits.contract import LaneStatistics
from recall_async.limits.local.lane import GRACE, LocalLane
from recall_async.limits.loops import Turns
from recall_async.limits.quota import Priority, Quota
from recall_async.operations import QUOTA_PERIOD
from tests.virtual_time import VirtualTimeLoop, run

QUOTA = Quota(10, 60.0, burst=10, reserve=0)
LONG = 60.0 * 1.001
SOON = 1e-3
BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE


def now() -> float:
    return asyncio.get_running_loop().time()


def lane_of(quota: Quota = QUOTA, **options: object) -> LocalLane:
    return LocalLane("calendars.list", quota, jitter=lambda: 0.5, **options)  # type: ignore[arg-type]


async def at_once(lane: LocalLane, priority: Priority = INTERACTIVE) -> int:
    """How many calls a lane admits now, each answered at once."""
    for count in range(1000):
        call = asyncio.create_task(lane.admit(priority))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if not call.done():
            call.cancel()
            await asyncio.wait({call})
            return count
        call.result().answered()
    raise AssertionError("no quota")


def test_statistics_of_each_event() -> None:
    """Would show people a wrong number of what waits, is on its way, was refused or repeated."""

    async def main() -> None:
        lane = lane_of()
        empty = LaneStatistics(QUOTA, free=10)
        assert lane.statistics() == empty
        slots = [await lane.admit(retry=number == 0) for number in range(10)]
        waiting = [asyncio.create_task(lane.admit(priority)) for priority in (BULK, INTERACTIVE, BULK)]
        await asyncio.sleep(0)
        full = LaneStatistics(QUOTA, 10, 0, 1, 2, 10, admitted=10, retries=1)
        assert lane.statistics() == full
        slots[0].answered()
        slots[1].lost(5.0)
        assert lane.statistics() == LaneStatistics(QUOTA, 10, 0, 1, 2, 8, admitted=10, retries=1)
        slots[2].unused()
        await asyncio.sleep(0)
        assert lane.statistics() == LaneStatistics(QUOTA, 10, 0, 0, 2, 8, admitted=11, retries=1)
        (await waiting[1]).rejected(7.0)
        seen = lane.statistics()
        assert (seen.throttled, seen.in_flight, seen.taken) == (1, 7, 10)
        assert seen.paused == pytest.approx(7.0, abs=SOON)
        assert seen.pace is not None
        assert seen.pace < QUOTA.rate
        lane.join(Quota(5, 60.0))
        assert (lane.statistics().free, lane.statistics().quota.limit) == (0, 5)
        for call in waiting:
            call.cancel()

    run(main())


def test_unused_slot_gives_back_its_token() -> None:
    """Would make a job wait for tokens of calls that were cancelled before they sent anything."""

    async def main() -> None:
        begin = now()
        for quota, priority in ((Quota(40, 400.0), BULK), (Quota(40, 400.0, burst=20), INTERACTIVE)):
            lane = lane_of(quota)
            for _ in range(3):
                for slot in [await lane.admit(priority) for _ in range(15)]:
                    slot.unused()
            assert now() < begin + SOON

    run(main())


def test_error_says_when_the_next_slot_is_there() -> None:
    """Would let a caller come back too early, or not know which quota was full."""

    async def main() -> None:
        lane = lane_of()
        for _ in range(10):
            (await lane.admit()).answered()
        with pytest.raises(DeadlineExceededError) as caught:
            await lane.admit(until=now() + 1)
        assert str(caught.value).startswith(
            "the quota of calendars.list (10 requests in 60 s) has no slot before the deadline: the next one is at "
            "least 60.1 s away."
        )
        assert caught.value.retry_after == pytest.approx(LONG, abs=SOON)
        # A slot comes back at once, but not before the deadline.
        lane = lane_of(Quota(1, 60.0))
        slot = await lane.admit()
        waiting = asyncio.create_task(lane.admit(until=now() + LONG + 30.0))
        await asyncio.sleep(LONG + 29.0)
        assert not waiting.done()
        with pytest.raises(DeadlineExceededError) as caught:
            await waiting
        assert caught.value.retry_after == pytest.approx(LONG, abs=SOON)
        slot.unused()
        lane._calls.fail_hopeless(lambda priority: math.inf)
        error = lane._deadline_error(INTERACTIVE)
        assert "away" not in str(error)
        assert error.retry_after == 60.0

    run(main())


def test_lane_leaves_all_that_counts_to_another() -> None:
    """Would let the next event loop of a program run into the pause, the pace or the full window of the last."""

    async def main() -> None:
        old = lane_of()
        slots = [await old.admit() for _ in range(6)]
        slots[0].answered()
        await asyncio.sleep(1)
        slots[1].answered()
        slots[2].lost(99.0)
        slots[3].rejected(20.0)
        memory = old.memory()
        assert len(memory.window.answers) == 3
        assert [until - now() for until in memory.window.lost] == [pytest.approx(99.0, abs=SOON)]
        assert (memory.window.in_flight, memory.grace) == (2, 99.0)
        assert memory.paused_until - now() == pytest.approx(20.0, abs=SOON)
        assert memory.pace is not None
        new = lane_of(Quota(20, 60.0, burst=20))
        new.recall(memory, new.now())
        seen = new.statistics()
        assert (seen.taken, seen.in_flight) == (6, 0)
        assert seen.paused == pytest.approx(20.0, abs=SOON)
        assert seen.pace is not None
        assert seen.pace < QUOTA.rate
        # The loop of the requests in flight is gone: they count as lost, with the longest grace that was named.
        await asyncio.sleep(98 + LONG)
        assert new.statistics().taken == 3
        await asyncio.sleep(2)
        seen = new.statistics()
        assert (seen.taken, seen.free, seen.paused) == (0, 20, 0.0)
        assert seen.pace == new.quota.rate  # it has grown to the quota of the new lane
        again = lane_of(Quota(20, 60.0, burst=20))
        again.recall(memory, again.now())
        assert again.memory().grace == 99.0
        assert lane_of().memory().grace == GRACE

    run(main())


def test_lane_without_slower_pace_leaves_none() -> None:
    """Would keep a kilobyte for each workspace whose pace was never reduced, or has grown to the full one."""

    async def main() -> None:
        lane = lane_of()
        assert lane.memory().pace is None
        (await lane.admit()).rejected(1.0)
        assert lane.memory().pace is not None
        await asyncio.sleep(1000)
        assert lane.memory().pace is None
        assert lane.memory().window.answers == ()

    run(main())


def test_what_another_lane_sent_counts_for_the_promise() -> None:
    """Would let a job take the slots that interactive calls were promised, after the event loop was started again."""

    async def main() -> None:
        quota = Quota(600, 60.0)
        first = lane_of(quota)
        for _ in range(280):
            (await first.admit()).answered()
        second = lane_of(quota)
        second.recall(first.memory(), second.now())
        alone, both = await at_once(lane_of(quota), BULK), await at_once(second, BULK)
        assert alone > 250
        assert both < 20

    run(main())


def test_resumed_lane_goes_on_at_once() -> None:
    """Would end the pause and go on slowly, keep those waiting who waited for its end, or tell a wrong rest."""

    async def main() -> None:
        lane = lane_of(Quota(600, 60.0))
        assert lane.resume() == 0.0
        (await lane.admit()).rejected(3600.0)
        waiting = [asyncio.create_task(lane.admit()) for _ in range(50)]
        await asyncio.sleep(100)
        begin = now()
        assert lane.resume() == pytest.approx(3500.0, abs=SOON)
        await asyncio.gather(*waiting)
        assert now() < begin + SOON
        assert (lane.statistics().paused, lane.statistics().pace) == (0.0, None)
        await asyncio.sleep(5000)
        assert lane.resume() == 0.0

    run(main())


@pytest.mark.parametrize(
    ("rejected", "waiting", "fast"),
    [(INTERACTIVE, None, False), (INTERACTIVE, INTERACTIVE, False), (INTERACTIVE, BULK, True), (BULK, None, True)],
)
def test_fresh_lane_with_bulk_calls_goes_on_as_the_window_is_freed(
    rejected: Priority, waiting: Priority | None, fast: bool
) -> None:
    """Would crawl with a job that was restarted, or let a restarted web backend crowd others out."""

    async def main() -> None:
        lane = lane_of(Quota(600, 60.0))
        slot = await lane.admit(rejected)
        await asyncio.sleep(0.1)
        lane._paused_until = now() + 1
        calls = [] if waiting is None else [asyncio.create_task(lane.admit(waiting))]
        await asyncio.sleep(0)
        slot.rejected(1.0)
        pace = lane.statistics().pace
        assert pace is not None
        assert (pace > 0.9 * 10.0) is fast
        assert fast or pace < 0.25 * 10.0
        for call in calls:
            call.cancel()

    run(main())


def test_lane_is_in_use_by_sessions_requests_and_calls() -> None:
    """Would drop a lane whose request is on its way, or keep one that nobody needs."""

    async def main() -> None:
        rests = 0

        def rest() -> None:
            nonlocal rests
            rests += 1

        quota = Quota(1, 60.0)
        lane = lane_of(quota, on_rest=rest)
        assert not lane.in_use
        lane.join(quota)
        assert lane.in_use
        slot = await lane.admit()
        lane.leave(quota)
        assert (lane.in_use, rests) == (True, 0)
        waiting = asyncio.create_task(lane.admit())
        await asyncio.sleep(0)
        slot.answered()
        assert (lane.in_use, rests) == (True, 0)
        (await waiting).answered()
        assert (lane.in_use, rests) == (False, 1)
        lane.join(quota)
        lane.leave(quota)
        assert rests == 2
        lane.join(quota)
        await asyncio.sleep(200)
        (await lane.admit()).answered()
        assert (lane.in_use, rests) == (True, 2)

    run(main())


def test_lane_looks_at_others_when_they_had_a_turn() -> None:
    """Would miss what another loop sent in between, or look at all other loops before each call."""

    async def main() -> None:
        turns, looks = Turns(), list[LocalLane]()
        one, other = object(), object()
        first = lane_of(owner=one, turns=turns, on_turn=looks.append)
        second = lane_of(owner=one, turns=turns, on_turn=looks.append)
        third = lane_of(owner=other, turns=turns, on_turn=looks.append)
        for lane in (first, first, second, second, first, third, third, second, first, first):
            (await lane.admit()).answered()
        assert looks == [first, second, third, second, first]

    run(main())


def test_burst_that_was_named_bounds_both_priorities() -> None:
    """Would send more at once than a session asked for, give each priority its own burst, or bound people without one."""

    async def main() -> None:
        lane = lane_of(Quota(100, 1000.0, burst=30, reserve=0))
        assert await at_once(lane, BULK) + await at_once(lane) == 30
        assert await at_once(lane) == 0
        assert await at_once(lane_of(Quota(100, 1000.0))) == 100

    run(main())


def test_requests_count_in_the_window_of_the_api_after_a_shorter_one() -> None:
    """Would forget what was sent a moment ago when the session that named a shorter window closes."""

    async def main() -> None:
        lane = lane_of(Quota(10, 1.0, burst=10))
        await at_once(lane)
        await asyncio.sleep(30)
        assert lane.statistics().taken == 0
        lane.join(Quota(10, QUOTA_PERIOD))
        assert lane.statistics().taken == 10
        await asyncio.sleep(31)
        assert lane.statistics().taken == 0

    run(main())


def test_idle_lane_has_no_timer() -> None:
    """Would wake the program up for nobody, after a call that gave up or was served."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        lane = lane_of(Quota(1, 60.0))
        (await lane.admit()).answered()
        assert loop.timers() == 0
        waiting = asyncio.create_task(lane.admit())
        await asyncio.sleep(0)
        assert loop.timers() == 1
        waiting.cancel()
        await asyncio.wait({waiting})
        assert loop.timers() == 0
        await lane.flush()

    run(main())


def test_another_quota_holds_for_all_that_a_lane_decides() -> None:
    """Would grow the pace, follow demand, or let calls overtake by the quota of a session that was closed."""

    async def main() -> None:
        small, large = Quota(60, 60.0, burst=60), Quota(600, 60.0)
        paces = []
        for lane in (lane_of(small), lane_of(large)):
            lane.join(large)
            (await lane.admit()).rejected(1.0)
            await asyncio.sleep(80)
            paces.append(lane.statistics().pace)
        assert paces[0] == pytest.approx(paces[1], rel=1e-3)
        fresh = lane_of(small)
        fresh.join(large)
        assert await at_once(fresh, BULK) == await at_once(lane_of(large), BULK)
        # An interactive call that has waited for a window goes before those whose meetings begin sooner.
        quick = lane_of(Quota(1, 1000.0))
        slot = await quick.admit()
        quick.join(Quota(1, 10.0))
        first, *others = [asyncio.create_task(quick.admit(start=start)) for start in (9.0, 1.0, 2.0)]
        await asyncio.sleep(0)
        await asyncio.sleep(20)
        slot.answered()
        (await first).answered()
        assert not any(other.done() for other in others)
        for other in others:
            other.cancel()

    run(main())


def test_timer_moves_when_the_next_call_changes() -> None:
    """Would look for a slot when the call that it is for has left, or only when a later one is due."""

    async def main() -> None:
        lane, begin = lane_of(Quota(2, 60.0, burst=2, reserve=1)), now()
        (await lane.admit()).answered()
        await asyncio.sleep(10)
        (await lane.admit()).answered()
        bulk = asyncio.create_task(lane.admit(BULK))  # which needs both slots
        await asyncio.sleep(1)
        interactive = asyncio.create_task(lane.admit())
        (await interactive).answered()
        assert now() == pytest.approx(begin + LONG, abs=SOON)
        await asyncio.sleep(0)
        assert not bulk.done()
        bulk.cancel()

    run(main())


def test_state_of_another_clock_is_not_taken_over() -> None:
    """Would hold slots until a time that this clock may never show."""

    async def sent() -> LocalLane:
        lane = lane_of()
        await at_once(lane)
        return lane

    ahead = VirtualTimeLoop(5000.0)
    other = ahead.run_until_complete(sent())

    async def main() -> None:
        lane = lane_of()
        lane.recall(other.memory(), now())
        lane.learn(other)
        assert lane.statistics() == LaneStatistics(QUOTA, free=10)

    run(main())
    ahead.close()


def test_deadline_that_the_reserve_or_the_burst_rules_out_is_refused_at_once() -> None:
    """Would let a call wait for its deadline whose slot or token cannot be there in time."""

    async def main() -> None:
        begin = now()
        reserved = lane_of(Quota(10, 60.0, burst=10, reserve=5))
        for _ in range(5):
            (await reserved.admit(BULK)).answered()
        with pytest.raises(DeadlineExceededError):
            await reserved.admit(BULK, until=now() + 30.0)
        (await reserved.admit(until=now() + 30.0)).answered()
        smooth = lane_of(Quota(100, 10.0, burst=1))
        (await smooth.admit()).answered()
        with pytest.raises(DeadlineExceededError):
            await smooth.admit(until=now() + 0.09)
        assert now() < begin + SOON
        (await smooth.admit(until=now() + 0.11)).answered()

    run(main())


def test_pace_knows_what_was_accepted() -> None:
    """Would crawl after a 429 although the server had accepted hundreds of requests in the window before."""

    async def main() -> None:
        lane = lane_of(Quota(600, 60.0))
        for _ in range(300):
            (await lane.admit()).answered()
        await asyncio.sleep(59)
        (await lane.admit()).rejected(1.0)
        pace = lane.statistics().pace
        assert pace is not None
        assert 4.0 < pace < 5.0

    run(main())


def test_people_who_call_are_kept_slots() -> None:
    """Would give a job the slots of people who have just begun to call."""

    async def main() -> None:
        quota = Quota(40, 400.0)
        lane = lane_of(quota)
        for _ in range(40):
            (await lane.admit()).unused()
        assert await at_once(lane, BULK) < 0.5 * await at_once(lane_of(quota), BULK)

    run(main())


def test_request_granted_when_another_loop_looked_is_one_that_it_knows() -> None:
    """Would count a request twice in another loop: as lost, and again when a later one takes its place."""

    async def main() -> None:
        lane, other = lane_of(), lane_of()
        slot = await lane.admit()
        lane.exchange.tell(1, slot.granted_at)
        await asyncio.sleep(0.1)
        slot.unused()
        (await lane.admit()).lost(5.0)
        await asyncio.sleep(0.1)
        other.learn(lane)
        assert other.statistics().taken == 1
        again = await lane.admit()
        other.learn(lane)
        assert other.statistics().taken == 2
        again.answered()

    run(main())
