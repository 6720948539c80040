"""Deadlines and pauses of a lane, to the moment, and how many requests may be on their way."""

from __future__ import annotations

import asyncio
import math

import pytest

from recall_async.errors import DeadlineExceededError
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.quota import Priority, Quota
from recall_async.limits.sockets import MAX_BULK_IN_FLIGHT, MAX_IN_FLIGHT
from tests.virtual_time import run

SOON = 1e-3
QUOTA = Quota(10, 10.0, burst=10, reserve=0)


def now() -> float:
    return asyncio.get_running_loop().time()


async def spent(quota: Quota) -> LocalLane:
    lane = LocalLane("test", quota)
    for _ in range(quota.limit):
        (await lane.admit(Priority.BULK)).answered()
    return lane


async def use(lane: LocalLane, priority: Priority, until: float = math.inf) -> None:
    (await lane.admit(priority, until=until)).answered()


async def failure(waiting: asyncio.Task[object]) -> tuple[float, float]:
    """When a call fails for its deadline, and what it says how long it would have had to wait."""
    with pytest.raises(DeadlineExceededError) as caught:
        await waiting
    assert caught.value.retry_after is not None
    return now(), caught.value.retry_after


def test_too_late_is_said_at_once() -> None:
    """Would let a call wait for a slot that cannot be there in time."""

    async def main() -> None:
        lane, begin = await spent(QUOTA), now()
        at, wait = await failure(asyncio.create_task(lane.admit(until=begin + 9.9)))
        assert at < begin + SOON
        assert wait == pytest.approx(10, abs=0.1)
        (await lane.admit(until=begin + 10.1)).answered()

    run(main())


@pytest.mark.parametrize("priority", Priority)
def test_those_ahead_count(priority: Priority) -> None:
    """Would let a call wait though there are not enough slots for those before it."""

    async def main() -> None:
        lane, begin = await spent(QUOTA), now()
        waiters = [asyncio.create_task(use(lane, Priority.BULK)) for _ in range(9)]
        await asyncio.sleep(0)
        # Ten slots in a window: the nine before it and this one.
        at_hand = asyncio.create_task(use(lane, priority, begin + 10.1))
        await asyncio.sleep(0)
        at, wait = await failure(asyncio.create_task(lane.admit(Priority.BULK, until=begin + 19.9)))
        assert at < begin + SOON
        assert wait == pytest.approx(20, abs=0.1)
        await asyncio.gather(at_hand, *waiters)

    run(main())


def test_smoothing_counts() -> None:
    """Would let a call wait though the token bucket cannot have a token for it in time."""

    async def main() -> None:
        lane, begin = LocalLane("test", Quota(100, 10.0, burst=1)), now()
        others = [asyncio.create_task(lane.admit()) for _ in range(50)]
        await asyncio.sleep(0)
        at, _ = await failure(asyncio.create_task(lane.admit(until=begin + 4.8)))
        assert at < begin + SOON
        (await lane.admit(until=begin + 5.1)).answered()
        await asyncio.gather(*others)

    run(main())


def test_overtaken_ones_fail_at_their_deadline() -> None:
    """Would let a call wait beyond its deadline when others come in between."""

    async def main() -> None:
        lane, begin = await spent(QUOTA), now()
        bulk = asyncio.create_task(lane.admit(Priority.BULK, until=begin + 15))
        await asyncio.sleep(5)
        others = [asyncio.create_task(lane.admit()) for _ in range(10)]
        at, wait = await failure(bulk)
        assert at == pytest.approx(begin + 15, abs=SOON)
        assert 0 < wait <= 15
        await asyncio.gather(*others)

    run(main())


def test_pause_sweeps_out_those_it_makes_too_late() -> None:
    """Would let calls wait through a pause that outlasts their deadline."""

    async def main() -> None:
        lane, begin = LocalLane("test", Quota(2, 100.0, burst=2)), now()
        slot = await lane.admit()
        (await lane.admit()).answered()
        hopeless = [asyncio.create_task(lane.admit(until=begin + 150 + one)) for one in (40, 0, 20)]
        patient = [asyncio.create_task(lane.admit(until=deadline)) for deadline in (begin + 1000, float("inf"))]
        await asyncio.sleep(5)
        slot.rejected(190)
        for waiter in hopeless:
            at, wait = await failure(waiter)
            assert at == pytest.approx(begin + 5, abs=SOON)
            assert wait >= 190 - SOON
        at, _ = await failure(asyncio.create_task(lane.admit(until=begin + 190)))
        assert at == pytest.approx(begin + 5, abs=SOON)
        assert not any(waiter.done() for waiter in patient)
        for waiter in patient:
            (await waiter).answered()
        assert now() >= begin + 195

    run(main())


def test_nothing_lifts_a_pause() -> None:
    """Would let a request that finishes, a shorter pause or a newcomer end what a 429 has asked for."""

    async def main() -> None:
        lane = LocalLane("test", Quota(100, 10.0, burst=100))
        slots = [await lane.admit() for _ in range(10)]
        waiters = [asyncio.create_task(lane.admit(priority)) for priority in Priority]
        for waiter in waiters:
            (await waiter).answered()
        slots[0].rejected(7)
        until = now() + 7
        waiters = [asyncio.create_task(lane.admit(priority)) for priority in Priority]
        for one, slot in enumerate(slots[1:]):
            await asyncio.sleep(0.5)
            if one % 2:
                slot.rejected(1)
            elif one == 4:
                slot.lost(1.0)
            else:
                slot.answered()
            assert now() + lane.statistics().paused == pytest.approx(until)
        assert not any(waiter.done() for waiter in waiters)
        for waiter in waiters:
            (await waiter).answered()
            assert now() >= until
        assert lane.statistics().paused == 0
        assert lane.statistics().throttled == 5

    run(main())


def test_at_most_so_many_are_on_their_way() -> None:
    """Would use up the machine's sockets where the quota allows for more."""

    async def main() -> None:
        lane = LocalLane("test", Quota(10_000, 60.0, burst=10_000, reserve=0))
        slots = []

        async def one(priority: Priority) -> None:
            slots.append(await lane.admit(priority))

        waiters = [asyncio.create_task(one(Priority.INTERACTIVE)) for number in range(4 * MAX_IN_FLIGHT - 1)]
        for round_ in range(1, 4):
            await asyncio.sleep(1)
            assert len(slots) == lane.statistics().in_flight == MAX_IN_FLIGHT
            assert lane.statistics().admitted == round_ * MAX_IN_FLIGHT
            for slot in slots:
                slot.answered()
            slots.clear()
        await asyncio.gather(*waiters)
        assert lane.statistics().admitted == 4 * MAX_IN_FLIGHT - 1

    run(main())


def test_bulk_calls_leave_places_on_their_way_to_interactive_ones() -> None:
    """Would let people wait for slow answers to bulk calls, though thousands of slots are free."""

    async def main() -> None:
        lane = LocalLane("test", Quota(6000, 60.0, burst=6000))
        bulk = [asyncio.create_task(lane.admit(Priority.BULK)) for _ in range(2000)]
        await asyncio.sleep(1)
        assert lane.statistics().in_flight == MAX_BULK_IN_FLIGHT
        begin = now()
        for _ in range(MAX_IN_FLIGHT - MAX_BULK_IN_FLIGHT):
            await lane.admit()
        assert now() < begin + SOON
        for waiting in bulk:
            waiting.cancel()

    run(main())


def test_no_call_goes_after_its_deadline_when_a_session_names_a_quota() -> None:
    """Would send calls long after their deadlines when another session's burst makes them wait longer than was foreseen."""

    async def main() -> None:
        lane, begin = LocalLane("test", Quota(60, 60.0)), now()
        for _ in range(60):
            (await lane.admit()).answered()
        sent = list[float]()

        async def call() -> None:
            try:
                slot = await lane.admit(until=begin + 60.5)
            except DeadlineExceededError:
                assert now() <= begin + 60.5 + SOON
            else:
                sent.append(now())
                slot.answered()

        calls = [asyncio.create_task(call()) for _ in range(58)]
        await asyncio.sleep(1)
        lane.join(Quota(60, 60.0, burst=1))
        await asyncio.gather(*calls)
        assert sent
        assert max(sent) <= begin + 60.5 + SOON

    run(main())
