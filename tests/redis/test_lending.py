"""Calls of a lane that is cut off from Redis: each slot of the reserve counts as long as the API may count its request."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn

import pytest
from redis.exceptions import ConnectionError

from recall_async import Priority, Quota, QuotaStoreUnavailableError
from recall_async.limits.contract import Ending
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.lane import RedisLane
from recall_async.limits.redis.lending import Lender
from recall_async.limits.redis.link import Link
from recall_async.limits.redis.reserve import LocalReserve
from recall_async.limits.redis.scripts import GRANT_MAX_AGE, Terms
from recall_async.limits.waiting import WaitingCalls
from tests.redis.opened import OPERATION
from tests.virtual_time import VirtualTimeLoop

QUOTA = Quota(5, 60.0)
LONGEST = 10.0


def in_virtual_time(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(main)


@asynccontextmanager
async def cut_off(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RedisLane]:
    """A lane with a reserve of one slot that never reaches Redis."""

    async def refuse(client: object) -> NoReturn:
        raise ConnectionError("connection refused")

    monkeypatch.setattr("recall_async.limits.redis.store.Link", partial(Link, open_wire=refuse))
    store = RedisQuotaStore.from_url("redis://nowhere", longest_request=LONGEST, local_reserve=1, processes=2)
    lane = store.open("w", OPERATION, QUOTA)
    yield lane
    lane.leave(QUOTA)
    await lane.flush()


def test_lost_request_counts_until_its_grace_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would send the next request when the lease is over, although the API may have counted the lost one after that."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with cut_off(monkeypatch) as lane:
            slot = await lane.admit()
            await asyncio.sleep(0.999 * LONGEST)
            slot.lost(LONGEST)
            counted = loop.time() + LONGEST
            (await lane.admit()).unused()
            assert loop.time() >= counted + QUOTA.per

    in_virtual_time(main())


def test_late_response_counts_from_its_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would free the slot of a request that took longer than its lease sooner than a window after the response."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with cut_off(monkeypatch) as lane:
            slot = await lane.admit()
            await asyncio.sleep(2 * LONGEST)  # the process was held up
            slot.answered()
            counted = loop.time()
            (await lane.admit()).unused()
            assert loop.time() >= counted + QUOTA.per

    in_virtual_time(main())


def test_slot_that_came_too_late_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would send a request after the lease that covers it, when the process was held up."""

    async def main() -> None:
        async with cut_off(monkeypatch) as lane:
            slot = await lane.admit()
            assert slot.usable_until <= asyncio.get_running_loop().time() + GRANT_MAX_AGE
            slot.unused()

    in_virtual_time(main())


TERMS = Terms.of(QUOTA, 2, LONGEST)


def test_waiting_calls_get_the_slots_of_the_reserve() -> None:
    """Would lend more than was set aside, lend while a pause lasts, lose a slot, or not tell how a request ended."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        lender = Lender(LocalReserve(2), "q", loop.time)
        calls = WaitingCalls(lambda priority: QuotaStoreUnavailableError("late"))
        endings: list[tuple[Ending, float]] = []

        def serve(closed_until: float = -math.inf) -> float:
            return lender.serve(calls, TERMS, closed_until, lambda slot, ending, left: endings.append((ending, left)))

        assert lender.has_slots
        assert serve() == math.inf  # nobody waits
        assert lender.in_flight == 0
        waiting = [
            loop.create_task(calls.wait(Priority.INTERACTIVE, math.inf, math.inf, lambda: None)) for _ in range(3)
        ]
        await asyncio.sleep(0)
        assert serve(loop.time() + 5.0) == loop.time() + 5.0
        assert (lender.in_flight, calls.queue.size) == (0, 3)
        again = serve(loop.time())  # a pause that is over
        assert loop.time() < again < math.inf
        assert (lender.in_flight, calls.queue.size) == (2, 1)
        first, second = await waiting[0], await waiting[1]
        assert first.granted_at == 0.0
        first.unused()
        assert (lender.in_flight, endings) == (1, [(Ending.UNUSED, 0.0)])
        assert serve() == math.inf
        third = await waiting[2]
        second.lost(3.0)
        third.rejected(7.0)
        assert (lender.in_flight, endings[1:]) == (0, [(Ending.LOST, 3.0), (Ending.REJECTED, 7.0)])

    in_virtual_time(main())


def test_slot_that_nobody_takes_is_given_back() -> None:
    """Would lose a slot of the reserve to a call that was cancelled while it waited."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        lender = Lender(LocalReserve(1), "q", loop.time)
        calls = WaitingCalls(lambda priority: QuotaStoreUnavailableError("late"))
        for left in (True, False):
            waiting = loop.create_task(calls.wait(Priority.BULK, math.inf, math.inf, lambda: None))
            await asyncio.sleep(0)
            if left:
                waiting.cancel()  # it still stands in the queue
            assert lender.serve(calls, TERMS, -math.inf, lambda *ended: None) == math.inf
            assert lender.in_flight == (not left)
            await asyncio.wait({waiting})

    in_virtual_time(main())


def test_store_without_a_reserve_lends_nothing() -> None:
    """Would look into a reserve that does not exist, in every outage."""
    assert not Lender(LocalReserve(0), "q", lambda: 0.0).has_slots
