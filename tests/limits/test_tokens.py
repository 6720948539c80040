"""The token bucket of a lane, and when the lane looks into it."""

from __future__ import annotations

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from recall_async.limits.local import lane as lane_module
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.local.tokens import Tokens
from recall_async.limits.quota import Priority, Quota
from tests.virtual_time import VirtualTimeLoop, run


def test_look_without_a_token_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that waits for a token looks at each response: each look would cost a waiter of the bucket and its timer."""
    asked = 0
    acquire = AsyncLimiter.acquire

    async def counted(self: AsyncLimiter, amount: float = 1) -> None:
        nonlocal asked
        asked += 1
        await acquire(self, amount)

    monkeypatch.setattr(AsyncLimiter, "acquire", counted)

    async def looks() -> list[float]:
        tokens, loop = Tokens(2, 1.0), asyncio.get_running_loop()
        first = loop.time()
        assert [tokens.take(first), tokens.take(first)] == [first, first]
        found = []
        for _ in range(4):
            await asyncio.sleep(0.3)
            now = loop.time()
            taken = tokens.take(now)
            found.append(round(taken - first, 2))
        return found

    assert run(looks()) == [1.0, 1.0, 1.0, 1.2]
    assert asked == 3


def test_lane_does_not_look_again_before_there_is_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would cost each request of a paced lane a look that cannot find anything."""
    looks = 0
    take = LocalLane._take

    def counted(lane: LocalLane, now: float, priority: Priority) -> float:
        nonlocal looks
        looks += 1
        return take(lane, now, priority)

    monkeypatch.setattr(LocalLane, "_take", counted)

    async def main() -> None:
        lane = LocalLane("calendars.list", Quota(60, 60.0, burst=2))
        slots = [await lane.admit() for _ in range(2)]
        waiting = [asyncio.create_task(lane.admit()) for _ in range(2)]
        await asyncio.sleep(0.1)
        assert looks == 3
        slots[0].answered()
        slots[1].lost(5.0)
        assert looks == 3
        (await waiting[0]).unused()  # gives its token to the other one
        await asyncio.wait_for(waiting[1], 1e-3)

    run(main())


def test_tokens_follow_a_bucket_that_counts_from_a_later_time() -> None:
    """A process that was interrupted between two readings of the clock would look for each token dozens of times."""

    async def main() -> int:
        tokens, loop, refused = Tokens(5, 10.0), asyncio.get_running_loop(), 0
        tokens.take(loop.time() - 0.001)
        for _ in range(50):
            while (again := tokens.take(now := loop.time())) > now:
                refused += 1
                await asyncio.sleep(again - now)
        assert 4.5 <= loop.time() - 1000.0 <= 4.61
        return refused

    assert run(main()) <= 50 + 12


def test_response_is_looked_at_where_the_lane_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane without a timer that waited for a token before would never look again."""
    monkeypatch.setattr(lane_module, "MAX_IN_FLIGHT", 3)

    async def main() -> None:
        lane = LocalLane("calendars.list", Quota(60, 60.0, burst=2))
        slots = [await lane.admit() for _ in range(2)]
        waiting = [asyncio.create_task(lane.admit()) for _ in range(3)]
        await waiting[0]
        assert not waiting[1].done()  # a third request is in flight: the next one waits for a response
        await asyncio.sleep(10.0)
        assert not waiting[1].done()
        for slot in slots:
            slot.answered()
        await asyncio.wait_for(asyncio.gather(*waiting[1:]), 1e-3)

    run(main())


def test_bucket_says_when_it_has_so_many_tokens() -> None:
    """Would fail a call that gets its token in time, or let it wait for one that comes too late."""

    async def main() -> None:
        tokens, now = Tokens(3, 2.0), asyncio.get_running_loop().time()
        assert tokens.earliest(now, 3) <= now
        assert tokens.earliest(now, 5) == now + 1.0
        for _ in range(3):
            assert tokens.take(now) == now
        assert [tokens.earliest(now, number) for number in (1, 2, 3)] == pytest.approx(
            [now + 0.5, now + 1.0, now + 1.5]
        )
        assert tokens.take(now) == pytest.approx(now + 0.5)
        assert tokens.earliest(now + 60.0, 3) <= now + 60.0

    run(main())


def test_returned_token_is_there_at_once_and_never_one_too_many() -> None:
    """Would lose a token to each call that is cancelled, or fill a bucket beyond its depth with them."""

    async def main() -> None:
        tokens, loop = Tokens(2, 0.5), asyncio.get_running_loop()
        for _ in range(2):
            now = loop.time()
            assert [tokens.take(now), tokens.take(now)] == [now, now]
            assert tokens.take(now) > now
            tokens.give_back()
            assert tokens.earliest(now, 1) <= now + 1e-9
            assert tokens.take(now) == now
            assert tokens.take(now) == pytest.approx(now + 2.0, abs=1e-3)
            for _ in range(2):
                tokens.give_back()
            assert [tokens.take(now), tokens.take(now)] == [now, now]
            assert tokens.take(now) > now
            await asyncio.sleep(10.0)
            tokens.give_back()  # it is full
            await asyncio.sleep(10.0)

    run(main())


def test_next_look_is_never_at_once() -> None:
    """Would look for a token that is a nanosecond away again and again."""

    async def main() -> None:
        tokens, now = Tokens(1, 1.0), asyncio.get_running_loop().time()
        assert tokens.take(now) == now
        soon = now + 1.0 - 1e-9
        assert tokens.take(soon) - soon == pytest.approx(1e-6, abs=1e-9)

    run(main())


def test_bucket_whose_clock_drifts_is_followed_without_losing_tokens() -> None:
    """Would follow the bucket in larger and larger steps, and lose most of the rate; or leave a timer for each look."""

    async def main() -> None:
        tokens, loop, drift, timers = Tokens(5, 10.0), asyncio.get_running_loop(), 0.0, list[int]()
        assert isinstance(loop, VirtualTimeLoop)
        for _ in range(200):
            drift += 1e-5
            while (again := tokens.take(now := loop.time() + drift)) > now:
                timers.append(loop.timers())
                await asyncio.sleep(again - now)
        assert 19.5 <= loop.time() - 1000.0 <= 19.6
        assert max(timers) == 1
        assert len(timers) < 1000

    run(main())


def test_tokens_that_are_returned_later_are_there_at_once() -> None:
    """Would lose tokens to calls that were cancelled a while after they got them, when the bucket has filled up."""

    async def main() -> None:
        tokens, loop = Tokens(2, 1.0), asyncio.get_running_loop()
        assert [tokens.take(now := loop.time()), tokens.take(now)] == [now, now]
        await asyncio.sleep(1.5)
        tokens.give_back()
        tokens.give_back()
        assert [tokens.take(now := loop.time()), tokens.take(now)] == [now, now]
        assert tokens.take(now) > now

    run(main())


def test_token_is_late_by_the_length_of_an_interruption_at_most() -> None:
    """Would let each call wait for a second because the process was interrupted for half a second an hour ago."""

    async def main() -> None:
        tokens, loop = Tokens(1, 1.0), asyncio.get_running_loop()
        for interrupted in (0.4, 1e-5, 0.1, 1e-5, 0.03):
            began = loop.time()
            assert tokens.take(began - interrupted) == began - interrupted
            while (again := tokens.take(now := loop.time())) > now:  # noqa: ASYNC110
                await asyncio.sleep(again - now)
            assert began + 1.0 - 1e-6 <= loop.time() <= began + 1.0 + interrupted + 1e-5
            await asyncio.sleep(10.0)

    run(main())


def test_interruption_adds_no_token() -> None:
    """Would send more requests at once than the burst, after the process was interrupted while it sent them."""

    async def main() -> None:
        tokens, loop = Tokens(4, 8.0), asyncio.get_running_loop()
        before = loop.time() - 1.0
        assert [tokens.take(before) for _ in range(4)] == [before] * 4
        now = loop.time()
        assert [tokens.take(now) > now for _ in range(3)] == [True] * 3

    run(main())


def test_look_that_finds_no_token_leaves_nothing_in_the_loop() -> None:
    """Would leave a timer of the bucket in the loop when the call that looked is cancelled and its session is closed."""

    async def main() -> None:
        tokens, loop = Tokens(1, 1.0), asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        tokens.take(loop.time() - 0.5)
        await asyncio.sleep(0.6)
        assert tokens.take(now := loop.time()) > now  # the bucket counts from when it was asked
        for _ in range(3):
            await asyncio.sleep(0)
        assert loop.timers() == 0

    run(main())
