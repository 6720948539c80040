"""What two processes that share a quota see of each other; here a process is a store with connections of its own."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis

from recall_async import DeadlineExceededError, Priority, Quota
from recall_async.limits.pace import DOUBT
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.lane import RedisLane
from recall_async.limits.redis.scripts import (
    ACQUIRE,
    MARK,
    PAUSE,
    RESUME,
    SETTLE,
    USAGE,
    Ask,
    Ending,
    Keys,
    Terms,
    acquire,
    decode,
    settle,
)
from tests.redis.server import RedisProcess
from tests.simulation import Server, call

OPERATION = "calendar_events.schedule_bot"

OpenLane = Callable[[Quota], RedisLane]


@pytest.fixture
async def process(shared_redis: RedisProcess, prefix: str) -> AsyncIterator[OpenLane]:
    """Opens the lane of one more process on the workspace that all of them share."""
    lanes: list[RedisLane] = []

    def start(quota: Quota, **options: Any) -> RedisLane:
        lane = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix, **options).open("w", OPERATION, quota)
        lanes.append(lane)
        return lane

    yield start
    for lane in lanes:
        lane.leave(lane.quota)
        await lane.flush()


@pytest.fixture
async def client(shared_redis: RedisProcess) -> AsyncIterator[Redis]:
    async with Redis.from_url(shared_redis.url, decode_responses=True) as client:
        yield client


async def answered(lane: RedisLane, priority: Priority = Priority.INTERACTIVE) -> None:
    (await lane.admit(priority)).answered()


async def test_processes_share_the_window(process: OpenLane) -> None:
    """Would give each process the whole quota, which is what a limiter per process does."""
    quota, server = Quota(20, 0.5, burst=20), Server(20, 0.5, Random(1), delay=0.05)
    lanes = [process(quota) for _ in range(3)]
    async with asyncio.TaskGroup() as calls:
        for number in range(60):
            calls.create_task(call(lanes[number % 3], server))
    assert (len(server.accepted), len(server.rejected)) == (60, 0)


async def test_bulk_of_one_process_leaves_room_for_people_in_another(process: OpenLane) -> None:
    """Would make a person in one process wait behind the job of another."""
    loop, quota = asyncio.get_running_loop(), Quota(60, 3.0)
    job_lane, lane = process(quota), process(quota)

    async def bulk() -> None:
        while True:
            await answered(job_lane, Priority.BULK)

    jobs = [asyncio.create_task(bulk()) for _ in range(32)]
    waits = []
    await asyncio.sleep(0.3)
    for _ in range(10):
        await asyncio.sleep(0.1)
        now = loop.time()
        await answered(lane)
        waits.append(loop.time() - now)
    for job in jobs:
        job.cancel()
    await asyncio.wait(jobs)
    assert sorted(waits)[-2] < 0.1


async def test_pause_and_slower_pace_hold_for_all(process: OpenLane) -> None:
    """Would let every process run into the 429 that one of them has seen."""
    loop, quota = asyncio.get_running_loop(), Quota(40, 1.0, burst=40)
    first, second = process(quota), process(quota)
    for _ in range(10):
        await answered(first)
    slot = await first.admit()
    now = loop.time()
    slot.rejected(0.4)
    await asyncio.sleep(0.1)
    with pytest.raises(DeadlineExceededError):
        await second.admit(until=now + 0.3)
    await answered(second)
    assert loop.time() - now >= 0.4
    await answered(first)
    # Both have only just begun, so what they were granted says little: it is the quota's pace that is reduced.
    assert second.statistics().pace == pytest.approx(40 - DOUBT * 40**0.5, rel=0.1)
    # A second 429 of a request that left before the first was known slows nobody down further.
    late = await second.admit()
    late.granted_at = 0  # type: ignore[attr-defined]
    late.rejected(0.05)
    await answered(first)
    assert first.statistics().pace == pytest.approx(40 - DOUBT * 40**0.5, rel=0.15)


async def test_deadline_fails_at_once_by_what_another_process_has_used(process: OpenLane) -> None:
    """Would keep a call waiting for its whole deadline, and then say that a slot is 0 s away."""
    loop, quota = asyncio.get_running_loop(), Quota(5, 30.0)
    first, second = process(quota), process(quota)
    for _ in range(5):
        await answered(first)
    await first.flush()  # says how they ended
    for _ in range(2):  # by asking Redis, and by what it said
        now = loop.time()
        with pytest.raises(DeadlineExceededError) as caught:
            await second.admit(until=now + 20)
        assert loop.time() - now < 5
        assert 20 < (caught.value.retry_after or 0) <= 30.1


async def test_slot_in_use_may_come_back_before_the_deadline(process: OpenLane) -> None:
    """Would fail a call by what was true a while ago, though the requests that held the slots were never sent."""
    loop, quota = asyncio.get_running_loop(), Quota(3, 60.0)
    first, second = process(quota), process(quota)
    slots = [await first.admit() for _ in range(3)]
    with pytest.raises(DeadlineExceededError) as caught:
        await second.admit(until=loop.time() + 0.3)
    assert (caught.value.retry_after or 0) > 0
    for slot in slots:
        slot.unused()
    (await second.admit(until=loop.time() + 5)).unused()


async def test_statistics_include_what_others_take(process: OpenLane) -> None:
    """Would show a free quota where others have used it up."""
    first, second = process(Quota(5, 30.0, burst=5)), process(Quota(5, 30.0, burst=5))
    await answered(first)
    await answered(second)
    await answered(first)
    assert (first.statistics().taken, first.statistics().free) == (3, 2)


async def test_other_quotas_are_reported(process: OpenLane, caplog: pytest.LogCaptureFixture) -> None:
    """Would let a process with a larger quota overrun the others' unnoticed."""
    caplog.set_level(logging.WARNING)
    first, second = process(Quota(5, 30.0, burst=5)), process(Quota(6, 30.0, burst=6))
    await answered(first)
    await answered(second)
    await answered(first)
    assert len([record for record in caplog.records if "same quotas" in record.message]) == 2


async def test_slots_of_a_dead_process_come_back(process: OpenLane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would lose a slot for good with every process that is killed."""
    monkeypatch.setattr("recall_async.limits.redis.scripts.GRANT_MAX_AGE", 0.2)
    loop, quota = asyncio.get_running_loop(), Quota(2, 0.2, burst=2)
    dead, alive = process(quota, longest_request=0.4), process(quota, longest_request=0.4)
    await dead.admit()
    await dead.admit()  # and never says what became of them
    now = loop.time()
    await answered(alive)
    assert 0.7 < loop.time() - now < 2.5


async def test_scripts_that_redis_forgot_are_sent_again(process: OpenLane, client: Redis) -> None:
    """Would fail every call after SCRIPT FLUSH, or hold the quota as after a restart."""
    lane = process(Quota(20, 1.0, burst=20))
    await answered(lane)
    await client.script_flush()
    await answered(lane)
    assert lane.statistics().paused == 0
    assert await client.script_exists(ACQUIRE.sha) == [True]
    await lane.flush()
    assert await client.script_exists(SETTLE.sha) == [True]


async def test_unused_slots_of_another_process_are_noticed(process: OpenLane) -> None:
    """Would wait for a window although a slot is free."""
    quota = Quota(2, 0.5, burst=2)
    first, second = process(quota), process(quota)
    slots = [await first.admit(), await first.admit()]
    waiter = asyncio.create_task(second.admit())
    done, _ = await asyncio.wait({waiter}, timeout=0.8)
    assert not done
    slots[0].unused()
    (await asyncio.wait_for(waiter, 1.5)).unused()
    slots[1].answered()


class Messages:
    """Speaks to the scripts as a lane does, in any order."""

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self.keys = Keys(prefix, "w", OPERATION)
        self.terms = Terms.of(Quota(10, 30.0, burst=10), 0, 60.0)

    async def run(self, command: Any) -> Any:
        script, keys, arguments = command
        return await self._client.eval(script.text, len(keys), *keys, *arguments)

    async def acquire(self, seq: int, first: int, count: int, *, again: bool = False) -> Any:
        ask = Ask(first, count, 0, time.monotonic())
        command = acquire(self.keys, "me", seq, ask, again=again, run="r", epoch="", age=0.0, terms=self.terms)
        return decode(await self.run(command), "", self.terms)

    async def settle(self, *ended: tuple[int, Ending, float]) -> None:
        await self.run(settle(self.keys, "me", list(ended), time.monotonic(), self.terms))

    async def slots(self) -> dict[str, float]:
        return dict(await self._client.zrange(self.keys.slots, 0, -1, withscores=True))


@pytest.fixture
def messages(client: Redis, prefix: str) -> Messages:
    return Messages(client, prefix)


async def test_repeated_acquire_gets_the_same_slots(messages: Messages) -> None:
    """Would take twice as many slots whenever an answer is lost on its way."""
    assert (await messages.acquire(1, 0, 4)).interactive == 4
    again = await messages.acquire(2, 0, 4, again=True)
    assert (again.interactive, again.taken) == (4, 4)
    assert sorted(await messages.slots()) == ["me:0", "me:1", "me:2", "me:3"]


async def test_acquire_that_comes_after_its_repetition_is_void(messages: Messages) -> None:
    """Would leave slots that nobody knows of and nobody gives back."""
    assert (await messages.acquire(2, 0, 3, again=True)).interactive == 3
    await messages.settle(*((number, Ending.UNUSED, time.monotonic()) for number in range(3)))
    assert await messages.acquire(1, 0, 3) is None
    assert await messages.slots() == {}


async def test_repeated_settle_changes_nothing(messages: Messages) -> None:
    """Would hold slots longer, or bring slots back that are gone, whenever an answer is lost on its way."""
    await messages.acquire(1, 0, 3)
    now = time.monotonic()
    ended = (0, Ending.ANSWERED, now), (1, Ending.UNUSED, now), (2, Ending.REJECTED, now)
    await messages.settle(*ended)
    slots = await messages.slots()
    assert set(slots) == {"me:0", "!me:2"}
    await asyncio.sleep(0.05)
    await messages.settle(*ended)
    again = await messages.slots()
    assert set(again) == set(slots)
    assert all(again[name] <= back for name, back in slots.items())


async def test_settle_counts_from_the_answer_and_not_from_its_arrival(messages: Messages, client: Redis) -> None:
    """Would waste quota whenever word of an answer is late, as in an outage; or give a slot back before its time."""
    await messages.acquire(1, 0, 1)
    await messages.settle((0, Ending.ANSWERED, time.monotonic() - 2.0))
    seconds, microseconds = await client.time()
    left = (await messages.slots())["me:0"] / 1e6 - seconds - microseconds / 1e6
    assert 57.5 < left <= 58.2  # a response is remembered for the API's own window at least


async def test_keys_of_a_quota_are_on_one_node() -> None:
    """Would fail in a cluster, or mix up workspaces whose names hold braces."""
    keys = Keys("recall", "{a}/b", OPERATION)
    stem = "recall:{%7Ba%7D%2Fb/calendar_events.schedule_bot}:"
    assert (keys.slots, keys.state, keys.fences) == (f"{stem}slots", f"{stem}state", f"{stem}fences")


async def test_state_of_an_unused_quota_goes_away(messages: Messages, client: Redis) -> None:
    """Would fill Redis with the workspaces of former customers."""
    await messages.acquire(1, 0, 1, again=True)
    keys = messages.keys
    lives = [await client.pttl(key) / 1000 for key in (keys.slots, keys.fences, keys.state)]
    assert lives == [pytest.approx(157, abs=1), pytest.approx(155, abs=1), pytest.approx(86400, abs=10)]


def test_scripts_have_all_their_parts() -> None:
    """Would send a script to Redis with the name of a constant in place of its value."""
    assert all(not re.search("<[A-Z_]+>", script.text) for script in (ACQUIRE, SETTLE, PAUSE, USAGE, MARK, RESUME))
