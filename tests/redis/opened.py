"""Lanes as sessions open them, for tests that start Redis themselves."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from recall_async import DeadlineExceededError, Quota
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.lane import RedisLane

OPERATION = "calendar_events.schedule_bot"

OpenLane = Callable[..., RedisLane]


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[OpenLane]:
    """Opens lanes, each in a store of its own, as one more process would; closes them, and leaves no task."""
    lanes: list[tuple[RedisLane, Quota | None]] = []

    def open_one(
        quota: Quota | None = None, workspace: str = "w", store: RedisQuotaStore | None = None, **more: Any
    ) -> RedisLane:
        store = store or RedisQuotaStore.from_url(url, **(options | more))
        lane = store.open(workspace, OPERATION, quota)
        lanes.append((lane, quota))
        return lane

    yield open_one
    for lane, quota in lanes:
        lane.leave(quota)
    await asyncio.gather(*(lane.flush() for lane, _ in lanes))
    left = [task.get_name() for task in asyncio.all_tasks() if "recall_async" in task.get_name()]
    assert left == [], left


@contextlib.contextmanager
def impatient(**seconds: float) -> Iterator[None]:
    """Shorter leases and timeouts than real ones: `grant_max_age`, `outage_timeout`."""
    with pytest.MonkeyPatch.context() as patch:
        if "grant_max_age" in seconds:
            for module in ("scripts", "lane", "lending"):
                patch.setattr(f"recall_async.limits.redis.{module}.GRANT_MAX_AGE", seconds["grant_max_age"])
        if "outage_timeout" in seconds:
            patch.setattr("recall_async.limits.redis.link.OUTAGE_TIMEOUT", seconds["outage_timeout"])
        yield


async def answered(lane: RedisLane, within: float = 30.0) -> float:
    """Take a slot and give it back; the loop's time at which it was there."""
    loop = asyncio.get_running_loop()
    slot = await lane.admit(until=loop.time() + within)
    slot.answered()
    return loop.time()


async def refused_for_the_loss(lane: RedisLane) -> None:
    """Call until the error says that Redis lost track; on a busy machine the first deadlines pass before Redis replies."""
    while True:
        with pytest.raises(DeadlineExceededError) as caught:
            await answered(lane, within=0.2)
        if "lost track" in str(caught.value):
            return
