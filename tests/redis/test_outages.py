"""Redis away, asleep, restarted, flushed, refusing: calls wait and say why, and the guarantee stands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from recall_async import DeadlineExceededError, Quota, QuotaStoreUnavailableError
from recall_async.limits.contract import Slot
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.lane import RedisLane
from tests.redis.opened import refused_for_the_loss
from tests.redis.server import RedisProcess
from tests.simulation import Server, call

OPERATION = "calendar_events.schedule_bot"
QUOTA = Quota(10, 0.5, burst=10)
LEASE = 0.5 + 0.3 + 0.2
"""What the leases of these tests last: longest request, handover, window."""

StartRedis = Callable[..., RedisProcess]
OpenLane = Callable[..., RedisLane]


@pytest.fixture
async def process() -> AsyncIterator[OpenLane]:
    """Opens the lane of one more process, as a session of its own does."""
    lanes: list[RedisLane] = []

    def start(server: RedisProcess, quota: Quota = QUOTA, **options: Any) -> RedisLane:
        store = RedisQuotaStore.from_url(server.url, longest_request=0.3, **options)
        lane = store.open("w", OPERATION, quota)
        lanes.append(lane)
        return lane

    yield start
    for lane in lanes:
        lane.leave(lane.quota)
        await lane.flush()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recall_async.limits.redis.scripts.GRANT_MAX_AGE", 0.2)
    monkeypatch.setattr("recall_async.limits.redis.lane.GRANT_MAX_AGE", 0.2)
    monkeypatch.setattr("recall_async.limits.redis.link.OUTAGE_TIMEOUT", 0.3)


async def answered(lane: RedisLane, within: float = 30.0) -> float:
    """Take a slot and give it back; the loop's time at which it was there."""
    loop = asyncio.get_running_loop()
    slot = await lane.admit(until=loop.time() + within)
    slot.answered()
    return loop.time()


async def test_calls_wait_within_their_deadline_and_say_why(
    own_redis: StartRedis, process: OpenLane, caplog: pytest.LogCaptureFixture
) -> None:
    """Would fail calls at the first hiccup, let them hang, or send requests that nobody counts."""
    caplog.set_level(logging.INFO)
    server = own_redis()
    lane = process(server)
    await answered(lane)
    server.kill()
    for _ in range(2):
        with pytest.raises(QuotaStoreUnavailableError, match=r"has not answered for \d\.\d s \(.*failed"):
            await answered(lane, within=0.3)
    patient = asyncio.create_task(answered(lane))
    await asyncio.sleep(0.2)
    assert not patient.done()
    assert lane.statistics().store_silent > 0.0
    server.start()
    await patient
    assert lane.statistics().store_silent == 0.0
    said = [record.message for record in caplog.records if "Redis" in record.message]
    assert len(said) == 2, said
    assert "calls wait" in said[0]
    assert "answers again" in said[1]


async def test_redis_that_sleeps_delays_calls_and_nothing_else(own_redis: StartRedis, process: OpenLane) -> None:
    """Would leave slots of messages that were said twice, or lose those whose answer came too late."""
    server = own_redis()
    lanes = [process(server), process(server)]
    for lane in lanes:
        await answered(lane)
    server.freeze()
    waiting = [asyncio.create_task(answered(lanes[number % 2])) for number in range(6)]
    await asyncio.sleep(1.0)
    assert not any(task.done() for task in waiting)
    server.thaw()
    await asyncio.gather(*waiting)
    await asyncio.sleep(0.7)
    await answered(lanes[0])
    assert (await RedisQuotaStore.from_url(server.url).usage("w"))[OPERATION].taken == 1


async def test_empty_restart_holds_everybody_for_a_lease(own_redis: StartRedis, process: OpenLane) -> None:
    """Would overrun the quota with what the forgotten slots stood for."""
    loop, server = asyncio.get_running_loop(), own_redis()
    old, idle, fresh = process(server), process(server), process(server)
    await answered(old)
    await answered(idle)
    server.kill()
    server.start()
    now = loop.time()
    assert await answered(old) - now >= LEASE
    # The hold ends for all at once: whoever comes later with the same memory starts no other one.
    now = loop.time()
    assert await answered(idle) - now < 0.5
    assert await answered(fresh) - now < 0.5


async def test_flush_is_noticed_by_whoever_has_been_there(own_redis: StartRedis, process: OpenLane) -> None:
    """Would take a flushed quota for a new one."""
    loop, server = asyncio.get_running_loop(), own_redis()
    old = process(server)
    await answered(old)
    async with Redis.from_url(server.url) as client:
        await client.flushall()
    await refused_for_the_loss(old)
    now = loop.time()
    fresh = process(server)
    await refused_for_the_loss(fresh)
    assert await answered(fresh) - now >= LEASE - 0.5


async def test_nobody_is_held_on_a_new_redis(own_redis: StartRedis, process: OpenLane) -> None:
    """Would make the first users wait for requests that nobody can have sent."""
    await answered(process(own_redis()), within=0.5)


async def test_restart_with_an_old_copy_holds_too(own_redis: StartRedis, process: OpenLane) -> None:
    """Would trust a restored file, which lacks what was granted since it was written."""
    loop, server = asyncio.get_running_loop(), own_redis("--dbfilename", "dump.rdb")
    await answered(process(server))
    async with Redis.from_url(server.url) as client:
        await client.save()
    server.kill()
    server.start()
    now = loop.time()
    fresh = process(server)  # which knows nothing of it
    assert await answered(fresh) - now >= LEASE


async def test_nobody_is_rejected_across_an_empty_restart(own_redis: StartRedis, process: OpenLane) -> None:
    """Would earn 429s right after a restart."""
    server, api = own_redis(), Server(QUOTA.limit, QUOTA.per, Random(1), delay=0.05)
    lanes = [process(server) for _ in range(3)]
    async with asyncio.TaskGroup() as calls:
        for number in range(60):
            calls.create_task(call(lanes[number % 3], api))
        while len(api.accepted) < 15:  # noqa: ASYNC110 - the simulated server tells nobody
            await asyncio.sleep(0.01)
        server.kill()
        server.start()
    assert (len(api.accepted), len(api.rejected)) == (60, 0)


async def test_local_reserve_goes_on_without_redis(own_redis: StartRedis, process: OpenLane) -> None:
    """Would stop, or send more than was set aside for it."""
    loop, server = asyncio.get_running_loop(), own_redis()
    lane = process(server, Quota(10, 2.0, burst=10), local_reserve=2, processes=3)
    for _ in range(4):
        await answered(lane, within=0.5)
    with pytest.raises(DeadlineExceededError):  # six are set aside
        await answered(lane, within=0.1)
    await asyncio.sleep(2.1)
    server.kill()
    slots: list[Slot] = [await lane.admit(until=loop.time() + 1) for _ in range(2)]
    with pytest.raises(QuotaStoreUnavailableError):
        await answered(lane, within=0.3)
    slots[0].lost(0.1)
    slots[1].answered()
    now = loop.time()
    assert await answered(lane) - now >= 1.9


async def test_refusal_fails_calls_at_once(own_redis: StartRedis) -> None:
    """Would wait for ever for a password that is wrong."""
    server = own_redis("--requirepass", "right")
    store = RedisQuotaStore.from_url(server.url, password="wrong")
    lane = store.open("w", OPERATION, QUOTA)
    for _ in range(2):
        with pytest.raises(QuotaStoreUnavailableError, match="refuses"):
            await asyncio.wait_for(lane.admit(), 5)
    assert "wrong" not in repr(store)
    lane.leave(QUOTA)
    await lane.flush()


async def test_eviction_is_warned_about(
    own_redis: StartRedis, process: OpenLane, caplog: pytest.LogCaptureFixture
) -> None:
    """Would run on a server that forgets slots when its memory is full."""
    lane = process(own_redis("--maxmemory-policy", "allkeys-lru"))
    await answered(lane)
    await answered(lane)
    assert [record.message for record in caplog.records if "allkeys-lru" in record.message] != []
    assert len(caplog.records) == 1


async def test_slot_that_came_too_late_is_not_used(
    own_redis: StartRedis, process: OpenLane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would send a request after the lease that covers it, when the process was held up."""
    lane = process(own_redis())
    await answered(lane)
    monkeypatch.setattr("recall_async.limits.redis.lane.GRANT_MAX_AGE", -1.0)
    late = asyncio.create_task(lane.admit())
    done, _ = await asyncio.wait({late}, timeout=0.3)
    assert not done
    monkeypatch.setattr("recall_async.limits.redis.lane.GRANT_MAX_AGE", 5.0)
    (await late).answered()
    assert lane.statistics().in_flight == 0


async def test_closing_in_an_outage_takes_no_longer(own_redis: StartRedis) -> None:
    """Would hang at the end of a program, or leave a task behind, because Redis is away."""
    server = own_redis()
    lane = RedisQuotaStore.from_url(server.url).open("w", OPERATION, QUOTA)
    slot = await lane.admit()
    server.freeze()
    slot.answered()
    lane.leave(QUOTA)
    await asyncio.wait_for(lane.flush(), 3)
    assert asyncio.all_tasks() == {asyncio.current_task()}
