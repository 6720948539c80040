"""Those who stop waiting, at any moment and in any number."""

from __future__ import annotations

import asyncio
import math
from random import Random

import pytest

from recall_async.errors import DeadlineExceededError
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.quota import Priority, Quota
from tests.virtual_time import VirtualTimeLoop, run


async def full_lane(quota: Quota) -> LocalLane:
    """A lane whose slots have all been answered just now."""
    lane = LocalLane("test", quota)
    for _ in range(quota.limit):
        (await lane.admit()).answered()
    return lane


async def ready() -> None:
    """Let everybody run who can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def until_empty(lane: LocalLane) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    assert sum(lane.statistics().waiting.values()) == loop.timers() == 0
    await asyncio.sleep(2 * lane.quota.per)
    assert lane.statistics().taken == 0


@pytest.mark.parametrize("victim", [0, 1, 2])
@pytest.mark.parametrize("deadline", [math.inf, 1100.0])
def test_cancel_during_admit(victim: int, deadline: float) -> None:
    """Would keep the place of one who went away, so that those behind wait too long or for ever."""

    async def main() -> None:
        lane, loop = await full_lane(Quota(2, 10.0, burst=2)), asyncio.get_running_loop()
        waiters = [asyncio.create_task(lane.admit(until=deadline)) for _ in range(3)]
        await asyncio.sleep(1)
        waiters[victim].cancel()
        await ready()
        assert waiters[victim].cancelled()
        begin = loop.time()
        for slot in await asyncio.gather(*(waiter for waiter in waiters if not waiter.cancelled())):
            slot.answered()
        assert loop.time() - begin == pytest.approx(9, abs=0.1)
        await until_empty(lane)

    run(main())


@pytest.mark.parametrize("deadline", [math.inf, 1100.0])
def test_cancel_after_the_turn_was_given(deadline: float) -> None:
    """Would lose the slot and the token of one who is cancelled between its turn and its running on."""

    async def main() -> None:
        lane, loop = LocalLane("test", Quota(1, 10.0)), asyncio.get_running_loop()
        first = await lane.admit()
        victim, next_one = (asyncio.create_task(lane.admit(until=deadline)) for _ in range(2))
        await asyncio.sleep(20)  # the token is there, the slot is not
        first.unused()  # which gives the victim its turn
        assert lane.statistics().in_flight == 1
        victim.cancel()
        now = loop.time()
        (await next_one).answered()
        assert victim.cancelled()
        assert loop.time() - now < 0.01
        assert lane.statistics().admitted == 2
        await until_empty(lane)

    run(main())


def test_cancel_just_before_the_turn() -> None:
    """Would fail, or give the slot to one who is gone, when a slot comes back before a cancelled call has run on."""

    async def main() -> None:
        lane, loop = LocalLane("test", Quota(1, 10.0)), asyncio.get_running_loop()
        first = await lane.admit()
        victim, next_one = (asyncio.create_task(lane.admit()) for _ in range(2))
        await asyncio.sleep(20)
        victim.cancel()
        first.unused()
        now = loop.time()
        (await next_one).answered()
        assert victim.cancelled()
        assert loop.time() - now < 0.01
        await until_empty(lane)

    run(main())


def test_deadline_between_turn_and_running_on() -> None:
    """Would send a request after its deadline because its slot came before it, or lose that slot."""

    async def main() -> None:
        lane, loop = LocalLane("test", Quota(1, 10.0)), asyncio.get_running_loop()
        first = await lane.admit()
        waiter = asyncio.create_task(lane.admit(until=loop.time() + 20))
        loop.call_at(loop.time() + 20 - 1e-9, first.unused)
        with pytest.raises(DeadlineExceededError):
            await waiter
        assert lane.statistics().taken == 0
        (await lane.admit(until=loop.time() + 1)).answered()
        await until_empty(lane)

    run(main())


def test_cancelled_and_expired_at_the_same_moment() -> None:
    """Would hide the cancellation behind the deadline, or fail in the timer."""

    async def main() -> None:
        lane, loop = await full_lane(Quota(1, 10.0)), asyncio.get_running_loop()
        for early in (-1e-9, 0.0, 1e-9):
            slot = await lane.admit()
            deadline = loop.time() + 20
            waiter = asyncio.create_task(lane.admit(until=deadline))
            loop.call_at(deadline + early, waiter.cancel)
            with pytest.raises((asyncio.CancelledError, DeadlineExceededError)):
                await waiter
            slot.answered()
            await until_empty(lane)

    run(main())


def test_crowd_goes_away() -> None:
    """Would leave something behind when thousands of waiters are cancelled in any order."""

    async def main() -> None:
        lane = await full_lane(Quota(1, 10.0))
        # Driven by hand: tasks would cost ten times as much as what is tested.
        waiters = [lane.admit(Priority.BULK, until=1e9 if one % 2 else math.inf) for one in range(5_000)]
        for waiter in waiters:
            waiter.send(None)
        assert lane.statistics().waiting_bulk == len(waiters)
        Random(7).shuffle(waiters)
        for waiter in waiters:
            with pytest.raises(asyncio.CancelledError):
                waiter.throw(asyncio.CancelledError())
        await until_empty(lane)

    run(main())
