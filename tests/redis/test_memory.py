"""What survives when Redis forgets, and what each process may send on its own while it is away."""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import threading
import time
from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from recall_async import Priority, Quota, RecallError
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.lane import RedisLane
from recall_async.limits.redis.reserve import LocalReserve
from recall_async.limits.redis.scripts import Terms
from tests.ports import free_port
from tests.redis.opened import OPERATION, answered, impatient, opened, refused_for_the_loss
from tests.redis.server import RedisProcess

StartRedis = Callable[..., RedisProcess]

QUOTA = Quota(10, 2.0, burst=10)
LEASE = 0.3 + 0.2 + 2.0


async def use_up(lane: RedisLane) -> None:
    """Take all slots, and have them answered."""
    for _ in range(QUOTA.limit):
        await answered(lane)


async def held(server: RedisProcess) -> None:
    """Wait until everybody is made to wait because slots were forgotten."""
    onlooker = RedisQuotaStore.from_url(server.url)
    async with asyncio.timeout(20):
        while not (await onlooker.usage("w"))[OPERATION].paused:  # noqa: ASYNC110 - Redis tells nobody
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("loss", ["flush", "empty restart"])
async def test_idle_process_tells_a_redis_that_forgot(own_redis: StartRedis, loss: str) -> None:
    """Would let a process that is new take slots that are in use, because the one that knows has nothing to say."""
    loop, server = asyncio.get_running_loop(), own_redis()
    with impatient(grant_max_age=0.2):
        async with opened(server.url, longest_request=0.3) as open_lane:
            old = open_lane(QUOTA)
            await use_up(old)
            if loss == "flush":
                async with Redis.from_url(server.url) as client:
                    await client.flushall()
            else:
                server.kill()
                server.start()
            forgotten = loop.time()
            await held(server)
            fresh = open_lane(QUOTA)
            await refused_for_the_loss(fresh)
            assert await answered(fresh) - forgotten >= LEASE - 1.0


async def test_closed_session_is_remembered_by_its_store(own_redis: StartRedis) -> None:
    """Would forget, with each event loop of a worker, what that loop had sent."""
    server = own_redis()
    with impatient(grant_max_age=0.2):
        store = RedisQuotaStore.from_url(server.url, longest_request=0.3)
        lane = store.open("w", OPERATION, QUOTA)
        await use_up(lane)
        lane.leave(QUOTA)
        await lane.flush()
        async with Redis.from_url(server.url) as client:
            await client.flushall()
            other = store.open("another", OPERATION, QUOTA)  # which speaks for all that the process has sent
            await answered(other)
            await held(server)
        other.leave(QUOTA)
        await other.flush()


async def test_vigil_ends_when_nothing_that_was_sent_can_count(own_redis: StartRedis) -> None:
    """Would keep asking Redis for ever on behalf of a process that does nothing."""
    server = own_redis()
    with impatient(grant_max_age=0.1):
        async with Redis.from_url(server.url) as client, opened(server.url, longest_request=0.1) as open_lane:
            await answered(open_lane(Quota(10, 0.3)))
            async with asyncio.timeout(30):
                while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1.0)
            calls = (await client.info("stats"))["total_commands_processed"]
            await asyncio.sleep(1.2)
            assert (await client.info("stats"))["total_commands_processed"] == calls + 1


def reserved(store: RedisQuotaStore, calls: int) -> int:
    """How many calls one event loop gets through while Redis is away."""

    async def send() -> int:
        lane, sent = store.open("w", OPERATION, None), 0
        try:
            for _ in range(calls):
                slot = await lane.admit(until=asyncio.get_running_loop().time() + 0.3)
                slot.answered()
                sent += 1
        except RecallError:
            pass
        lane.leave(None)
        await lane.flush()
        return sent

    return asyncio.run(send())


def test_reserve_is_one_for_all_loops_of_a_process() -> None:
    """Would give each event loop the reserve anew: `asyncio.run` again and again sends as much as it likes."""
    store = RedisQuotaStore.from_url(f"redis://127.0.0.1:{free_port()}", local_reserve=5, processes=4)
    assert [reserved(store, 20) for _ in range(3)] == [5, 0, 0]


def test_reserve_is_one_for_all_threads() -> None:
    """Would give each thread the reserve anew."""
    store = RedisQuotaStore.from_url(f"redis://127.0.0.1:{free_port()}", local_reserve=5, processes=4)
    sent: list[int] = []
    threads = [threading.Thread(target=lambda: sent.append(reserved(store, 20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent) == 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_reserve_is_one_for_all_forks() -> None:
    """Would give each child of a pre-forking server, or each task of one, the reserve anew."""
    program = f"""
import json, os
from recall_async.limits.redis import RedisQuotaStore
from tests.redis.test_memory import reserved
store = RedisQuotaStore.from_url("redis://127.0.0.1:{free_port()}", local_reserve=5, processes=4)
sent = [reserved(store, 2)]
for _ in range(3):
    reader, writer = os.pipe()
    if not os.fork():
        os.write(writer, json.dumps(reserved(store, 20)).encode())
        os._exit(0)
    os.wait()
    sent.append(json.loads(os.read(reader, 100)))
print(json.dumps(sent))
"""

    async def run() -> bytes:
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
        out, _ = await child.communicate()
        return out

    assert json.loads(asyncio.run(run())) == [2, 3, 0, 0]


async def test_idle_workspaces_are_forgotten(shared_redis: RedisProcess, prefix: str) -> None:
    """Would keep some kilobytes for ever for each workspace that a process has ever used."""
    store = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)
    async with opened(shared_redis.url) as open_lane:
        open_lane(QUOTA, store=store)  # keeps the connection
        for number in range(300):
            lane = store.open(f"w{number}", OPERATION, None)
            (await lane.admit()).answered()
            lane.leave(None)
            await lane.flush()
        loop = store._loops.get()
        assert len(loop.lanes) < 12
        assert len(loop.idle) < 12
        assert len(loop.link._awake) < 12


async def test_answers_of_429_cost_the_same_however_many_wait(shared_redis: RedisProcess, prefix: str) -> None:
    """Would look at all calls that wait, with every 429 of a crowd, and block the loop for a minute."""
    loop, quota = asyncio.get_running_loop(), Quota(256, 60.0, burst=256)
    store = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)
    async with opened(shared_redis.url) as open_lane:
        lane = open_lane(quota, store=store)
        slots = [await lane.admit() for _ in range(250)]
        waiting = [
            loop.create_task(lane.admit(Priority.BULK, until=loop.time() + 1000 + number % 7))
            for number in range(20_000)
        ]
        await asyncio.sleep(0.2)
        began = time.process_time()
        for slot in slots:
            slot.rejected(30.0)
        assert time.process_time() - began < 5.0  # it was 3 s for each 1,000 who wait
        for call in waiting:
            call.cancel()
        await asyncio.wait(waiting)


def test_reserve_counts_what_was_sent_under_a_shorter_window() -> None:
    """Would send the reserve again as soon as a session names a quota with a longer window."""
    reserve = LocalReserve(2)
    short, long = Terms.of(Quota(20, 1.0), 0, 1.0), Terms.of(Quota(20, 60.0), 0, 1.0)

    def sent(now: float, terms: Terms) -> int:
        count = 0
        while name := reserve.take("q", now, terms)[0]:
            reserve.give_back("q", name, now)
            count += 1
        return count

    assert [sent(now, short) for now in (0.0, 0.5, 1.1, 2.2)] == [2, 0, 2, 2]
    assert [sent(now, long) for now in (3.0, 62.0, 62.3)] == [0, 0, 2]
    assert sent(63.0, short) == 0
    name, _ = reserve.take("q", 64.0, short)
    reserve.give_back("q", name, -math.inf)
    assert sent(64.0, short) == 2
    reserve.take("dead", 0.0, short)
    reserve.take("dead", 0.0, short)
    assert [bool(reserve.take("dead", now, short)[0]) for now in (6.9, 7.1)] == [False, True]
