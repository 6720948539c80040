"""A pause after a 429 lasts as long as the API asked for, whatever happens to Redis on the way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from recall_async import DeadlineExceededError, Priority, Quota, QuotaStoreUnavailableError
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.lane import RedisLane
from recall_async.limits.redis.scripts import Keys, decode_usage, usage
from tests.redis.moved_clock import Clock, Process
from tests.redis.opened import OPERATION, impatient, opened
from tests.redis.server import RedisProcess

QUOTA = Quota(100, 1.0)
PAUSE = 3.0

StartRedis = Callable[..., RedisProcess]


@pytest.fixture
def redis(own_redis: StartRedis) -> RedisProcess:
    return own_redis()


@contextlib.contextmanager
def refusing(redis: RedisProcess, *rules: str) -> Iterator[None]:
    """Have Redis refuse some commands, or all, of connections that exist already, too."""
    with Redis(port=redis.port) as client:
        client.execute_command("ACL", "SETUSER", "default", *rules)
        try:
            yield
        finally:
            client.execute_command("ACL", "SETUSER", "default", "on", "nopass", "+@all")


async def assert_paused(ours: RedisLane, theirs: RedisLane, began: float) -> None:
    """A pause that `began` then holds in this process, and the other one hears of it."""
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(1.5):
            await ours.admit()
    (await theirs.admit()).unused()
    assert asyncio.get_running_loop().time() >= began + PAUSE - 0.01


async def test_refused_pause_holds_and_is_told_again(redis: RedisProcess) -> None:
    """Would forget a pause, here and in all other processes, that Redis refused once."""
    loop = asyncio.get_running_loop()
    async with opened(redis.url) as open_lane:
        ours, theirs = open_lane(QUOTA), open_lane(QUOTA)
        slot = await ours.admit()
        with refusing(redis, "-zrangebyscore"):  # which only the script of a pause needs here
            slot.rejected(PAUSE)
            began = loop.time()
            with pytest.raises(QuotaStoreUnavailableError, match="permissions"):
                await ours.admit()
        await assert_paused(ours, theirs, began)


async def test_pause_outlives_a_refused_connection(redis: RedisProcess) -> None:
    """Would forget a pause when Redis refuses the user for a moment."""
    loop = asyncio.get_running_loop()
    async with opened(redis.url) as open_lane:
        ours, theirs = open_lane(QUOTA), open_lane(QUOTA)
        slot = await ours.admit()
        with refusing(redis, "-info"), Redis(port=redis.port) as client:  # which opens a connection
            client.client_kill_filter(_type="normal", skipme=True)
            slot.rejected(PAUSE)
            began = loop.time()
            with pytest.raises(QuotaStoreUnavailableError, match="refuses"):
                await ours.admit()
        await assert_paused(ours, theirs, began)


async def test_idle_process_learns_that_a_pause_was_ended(redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would refuse calls with a deadline for years in a process that asked for a slot during the pause, and then rested."""
    monkeypatch.setattr("recall_async.limits.redis.lane.LOOK_EVERY", 0.2)
    loop = asyncio.get_running_loop()
    async with opened(redis.url) as open_lane:
        ours, theirs = open_lane(QUOTA), open_lane(QUOTA)
        slot = await ours.admit()
        slot.rejected(1e9)
        for priority in Priority:
            with pytest.raises(DeadlineExceededError):
                while True:  # until Redis has heard of the pause
                    (await theirs.admit(priority, until=loop.time() + 0.1)).unused()
        await RedisQuotaStore.from_url(redis.url).resume("w")
        await asyncio.sleep(0.25)  # for which a process may rely on what it heard
        for priority in Priority:
            (await theirs.admit(priority, until=loop.time() + 5.0)).unused()


@pytest.mark.parametrize("loss", ["flush", "restart"])
async def test_pause_that_redis_lost_is_told_again(redis: RedisProcess, loss: str) -> None:
    """Would forget, with the data of Redis, a pause that is longer than all processes wait for lost slots."""
    loop = asyncio.get_running_loop()
    with impatient(grant_max_age=0.2):
        async with opened(redis.url, longest_request=0.2) as open_lane:
            ours, theirs = open_lane(QUOTA), open_lane(QUOTA)
            (await ours.admit()).rejected(4.0)
            began = loop.time()
            with pytest.raises(DeadlineExceededError):
                await theirs.admit(until=began + 0.5)
            if loss == "flush":
                with Redis(port=redis.port) as client:
                    client.flushall()
            else:
                redis.kill()
                redis.start()
            with pytest.raises(DeadlineExceededError):
                await ours.admit(until=began + 3.0)
            (await theirs.admit()).unused()
            assert loop.time() >= began + 3.9


def test_pause_outlives_the_loop_in_which_redis_did_not_hear_of_it(redis: RedisProcess) -> None:
    """Would send at once in the next event loop what the API refused in the one before."""
    store = RedisQuotaStore.from_url(redis.url, longest_request=0.2)

    async def refused() -> float:
        lane = store.open("w", OPERATION, QUOTA)
        slot = await lane.admit()
        redis.freeze()
        slot.rejected(6.0)
        began = asyncio.get_running_loop().time()
        lane.leave(QUOTA)
        await lane.flush()
        return began

    async def next_one() -> float:
        lane = store.open("w", OPERATION, QUOTA)
        (await lane.admit()).unused()
        lane.leave(QUOTA)
        await lane.flush()
        return asyncio.get_running_loop().time()

    with impatient(grant_max_age=0.2):
        began = asyncio.run(refused())
        redis.kill()
        redis.start()
        assert asyncio.run(next_one()) >= began + 5.9


def test_pause_is_kept_while_the_clock_of_redis_is_set_back(shared_redis: RedisProcess, prefix: str) -> None:
    """Would lose a pause that is told between the step of the clock and the next ask."""
    keys = Keys(prefix, "w", "o")
    with Redis(port=shared_redis.port) as client:
        clock = Clock(client)
        process = Process(clock, keys, "client", QUOTA, 1.0)
        process.answered(*process.ask(1))
        clock.advance(-1000.0)
        process.pause(60.0)
        process.ask()
        seen = decode_usage(clock.run(usage(keys)))
        assert seen.paused - seen.now == pytest.approx(60e6, abs=2e6)
