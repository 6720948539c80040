"""The token bucket of a lane, and when the lane looks into it."""

from __future__ import annotations

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from recall_async.limits.local import lane as lane_module
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.local.tokens import Tokens
from recall_async.limits.quota import Priority, Quota
from tests.virtual_time import run


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
