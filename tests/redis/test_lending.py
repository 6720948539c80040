"""Calls of a lane that is cut off from Redis: each slot of the reserve counts as long as the API may count its request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, NoReturn

import pytest
from redis.exceptions import ConnectionError

from recall_async import Quota
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.lane import RedisLane
from recall_async.limits.redis.link import Link
from recall_async.limits.redis.scripts import GRANT_MAX_AGE
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
