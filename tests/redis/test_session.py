"""Sessions on a shared quota: what a program sees of it."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from random import Random
from uuid import uuid4

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis

from recall_async import ConfigurationError, Quota, QuotaStoreUnavailableError, RecallSession, SessionClosedError
from recall_async.limits.redis import RedisQuotaStore
from recall_async.sandbox import RecallSandbox
from tests.redis.server import RedisProcess

SCHEDULE = "calendar_events.schedule_bot"
RETRIEVE = "calendar_events.retrieve"
QUOTAS = {RETRIEVE: Quota(20, 0.5, burst=20)}


@pytest.fixture
def sandbox() -> Iterator[RecallSandbox]:
    """In a thread of its own, so that the tasks of this loop are the client's."""
    with RecallSandbox(events=20, calendars=1, quotas={RETRIEVE: (20, 0.5)}, latency=(0.01, 0.01)) as sandbox:
        yield sandbox


@pytest.fixture
async def event_id(sandbox: RecallSandbox) -> str:
    identifier: str = sandbox.snapshot()["events"][0]["id"]
    return identifier


def session(sandbox: RecallSandbox, store: RedisQuotaStore, **options: object) -> RecallSession:
    settings: dict[str, object] = {"base_url": sandbox.url, "workspace": "w", "quotas": QUOTAS, "quota_store": store}
    return RecallSession(sandbox.api_key, **(settings | options))  # type: ignore[arg-type]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_sessions_with_stores_of_their_own_share_the_quota(
    sandbox: RecallSandbox, event_id: str, shared_redis: RedisProcess, prefix: str
) -> None:
    """Would let two processes overrun the server's quota together."""
    stores = [RedisQuotaStore.from_url(shared_redis.url, prefix=prefix) for _ in range(2)]
    async with session(sandbox, stores[0]) as first, session(sandbox, stores[1]) as second:
        await asyncio.gather(*((first, second)[number % 2].calendar_events.retrieve(event_id) for number in range(60)))
    seen = sandbox.report()["operations"][RETRIEVE]
    assert (seen["accepted"], seen["throttled"]) == (60, 0)
    assert seen["peak"] <= 20


async def test_nothing_is_left_open(
    sandbox: RecallSandbox, event_id: str, shared_redis: RedisProcess, prefix: str
) -> None:
    """Would leave a task, a connection or a slot behind when the last session closes."""
    store = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)
    async with Redis.from_url(shared_redis.url) as client:
        before = len(await client.client_list())
        for _ in range(2):
            async with session(sandbox, store) as recall:
                await recall.calendar_events.retrieve(event_id)
                assert len(await client.client_list()) == before + 1
            assert len(asyncio.all_tasks()) == 1
            async with asyncio.timeout(60):  # until the server has noticed
                while len(await client.client_list()) != before:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        now, _ = await client.time()
        slots = await client.zrange(f"{prefix}:{{w/{RETRIEVE}}}:slots", 0, -1, withscores=True)
        assert all(back < (now + 62) * 1e6 for _, back in slots)  # they were reported, and not left to their leases


async def test_every_lane_is_flushed(
    sandbox: RecallSandbox, event_id: str, shared_redis: RedisProcess, prefix: str
) -> None:
    """Would close the connection when one lane has nothing to say, while the others are still saying it."""
    async with session(sandbox, RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)) as recall:
        await recall.calendar_events.retrieve(event_id)
        await recall.calendars.list_page()
        await asyncio.sleep(0.2)  # long enough for both to be reported
        await recall.calendar_events.retrieve(event_id)
    async with Redis.from_url(shared_redis.url) as client:
        now, _ = await client.time()
        slots = await client.zrange(f"{prefix}:{{w/{RETRIEVE}}}:slots", 0, -1, withscores=True)
        assert slots != []
        assert all(back < (now + 62) * 1e6 for _, back in slots)


async def test_sessions_come_and_go(shared_redis: RedisProcess, prefix: str) -> None:
    """Would close the connection under a session that is just being opened, or forget what it had asked."""
    store, random = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix), Random(1)

    async def visit(delay: float) -> None:
        await asyncio.sleep(delay)
        lane = store.open("w", RETRIEVE, Quota(1000, 60.0, burst=1000))
        slot = await lane.admit()
        await asyncio.sleep(random.random() * 0.002)
        slot.answered()
        lane.leave(Quota(1000, 60.0, burst=1000))
        await lane.flush()

    await asyncio.wait_for(asyncio.gather(*(visit(random.random()) for _ in range(300))), 20)
    assert len(asyncio.all_tasks()) == 1


async def test_closed_store_goes_on_for_those_who_wait(shared_redis: RedisProcess, prefix: str) -> None:
    """Would leave calls waiting for ever for an answer on a connection that was closed."""
    store = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)
    lane = store.open("w", RETRIEVE, Quota(20, 1.0, burst=20))
    for waited in (0, 1, 3):
        call = asyncio.create_task(lane.admit())
        for _ in range(waited):
            await asyncio.sleep(0)
        await store.aclose()
        (await asyncio.wait_for(call, 5)).answered()
    lane.leave(Quota(20, 1.0, burst=20))
    await lane.flush()
    assert len(asyncio.all_tasks()) == 1


async def test_close_ends_calls_that_wait_for_redis(sandbox: RecallSandbox, event_id: str) -> None:
    """Would hang in aclose() because Redis is away."""
    store = RedisQuotaStore.from_url("redis://127.0.0.1:1")
    async with session(sandbox, store) as recall:
        call = asyncio.create_task(recall.calendar_events.retrieve(event_id))
        await asyncio.sleep(0.2)
        await asyncio.wait_for(recall.aclose(), 3)
        with pytest.raises(SessionClosedError):
            await call
    assert len(asyncio.all_tasks()) == 1


async def test_call_without_redis_says_what_it_waited_for(sandbox: RecallSandbox, event_id: str) -> None:
    """Would leave a user guessing which call failed, and why."""
    store = RedisQuotaStore.from_url("redis://127.0.0.1:1")
    async with session(sandbox, store) as recall:
        with pytest.raises(QuotaStoreUnavailableError, match="Redis") as caught:
            await recall.calendar_events.retrieve(event_id, deadline=0.2)
    assert (caught.value.operation, caught.value.attempts) == (RETRIEVE, 0)
    assert sandbox.report()["operations"][RETRIEVE]["accepted"] == 0


async def test_cancelled_calls_leave_no_slot_but_those_that_were_sent(shared_redis: RedisProcess, prefix: str) -> None:
    """Would leak slots of calls that were cancelled, or free those of requests that were sent."""
    with RecallSandbox(events=1, calendars=1, quotas={RETRIEVE: (1000, 60.0)}, latency=(0.0, 60.0)) as sandbox:
        event_id = sandbox.snapshot()["events"][0]["id"]
        async with (
            Redis.from_url(shared_redis.url) as client,
            session(sandbox, RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)) as recall,
        ):
            calls = [asyncio.create_task(recall.calendar_events.retrieve(event_id)) for _ in range(30)]

            async def leased() -> int:
                now, _ = await client.time()
                return int(await client.zcount(f"{prefix}:{{w/{RETRIEVE}}}:slots", (now + 62) * 1e6, "+inf"))

            await until(lambda: sandbox.report()["operations"][RETRIEVE]["peak"] == 20)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            async with asyncio.timeout(60):
                while await leased() != 20:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert recall.statistics()[RETRIEVE].in_flight == 0


def test_store_serves_one_loop_after_another(shared_redis: RedisProcess, prefix: str) -> None:
    """Would fail in a program that calls asyncio.run twice, with a connection of the loop that is gone."""
    store = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)

    async def once() -> int:
        async with RecallSandbox(events=5, calendars=1) as sandbox, session(sandbox, store) as recall:
            await recall.calendar_events.retrieve(sandbox.snapshot()["events"][0]["id"])
            return recall.statistics()[RETRIEVE].taken

    assert [asyncio.run(once()) for _ in range(2)] == [1, 2]


def test_loop_that_is_closed_in_mid_call_says_nothing(shared_redis: RedisProcess, prefix: str) -> None:
    """Would print tracebacks of its own when a program is interrupted."""

    async def interrupted() -> None:
        lane = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix).open("w", RETRIEVE, Quota(1, 60.0))
        (await lane.admit()).answered()
        task = asyncio.create_task(lane.admit())
        await asyncio.sleep(0.05)
        del task

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of redis-py: its connection was never closed
        asyncio.run(interrupted())
        gc.collect()


def test_session_that_outlives_its_loop(sandbox: RecallSandbox, shared_redis: RedisProcess, prefix: str) -> None:
    """Would print a traceback of `__del__` where a program that forgot to close its session is told so."""
    identifier = sandbox.snapshot()["events"][0]["id"]

    async def forget() -> RecallSession:
        recall = session(sandbox, RedisQuotaStore.from_url(shared_redis.url, prefix=prefix))
        await recall.calendar_events.retrieve(identifier)
        return recall  # so that it is dropped when the loop is closed

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        asyncio.run(forget())
        gc.collect()
        told = [(each.category, str(each.message)) for each in warned]
        warned.clear()  # which keep what they are about
        gc.collect()
    assert {category for category, _ in told} == {ResourceWarning}  # redis-py warns of its connection, too
    assert len([text for _, text in told if "RecallSession" in text]) == 1


async def test_client_of_the_callers(
    sandbox: RecallSandbox, event_id: str, shared_redis: RedisProcess, prefix: str
) -> None:
    """Would close a client that belongs to the program, or trip over its settings."""
    for decode in (False, True):
        async with Redis.from_url(shared_redis.url, decode_responses=decode) as client:
            async with session(sandbox, RedisQuotaStore(client, prefix=prefix)) as recall:
                await recall.calendar_events.retrieve(event_id)
                await recall.calendar_events.retrieve(event_id)
            assert await client.ping()


async def test_client_of_another_loop_is_refused(shared_redis: RedisProcess, prefix: str) -> None:
    """Would fail somewhere inside redis-py, or hang."""
    async with Redis.from_url(shared_redis.url) as client:
        store = RedisQuotaStore(client, prefix=prefix)
        store.open("w", RETRIEVE, None)

        async def elsewhere() -> None:
            store.open("w", RETRIEVE, None)

        with pytest.raises(ConfigurationError, match="one event loop"):
            await asyncio.to_thread(asyncio.run, elsewhere())


async def test_timeout_longer_than_the_leases_is_refused() -> None:
    """Would have requests counted after their slots have come back."""
    store = RedisQuotaStore.from_url("redis://127.0.0.1:1", longest_request=20.0)
    with pytest.raises(ConfigurationError, match="longest_request"):
        RecallSession("key", quota_store=store, timeout=30.0)
    RecallSession("key", quota_store=store, timeout=20.0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: RedisQuotaStore.from_url("http://127.0.0.1"),
        lambda: RedisQuotaStore.from_url("redis://127.0.0.1", no_such_option=1),
        lambda: RedisQuotaStore.from_url("redis://127.0.0.1", prefix="{a}"),
        lambda: RedisQuotaStore.from_url("redis://127.0.0.1", longest_request=0),
        lambda: RedisQuotaStore.from_url("redis://127.0.0.1", local_reserve=-1),
        lambda: RedisQuotaStore.from_url("redis://127.0.0.1", processes=0),
        lambda: RedisQuotaStore(BlockingRedis()),  # type: ignore[arg-type]
    ],
)
def test_stores_that_cannot_be(wrong: Callable[[], object]) -> None:
    """Would fail at the first call, in the middle of something."""
    with pytest.raises(ConfigurationError):
        wrong()


async def test_reserve_that_leaves_nothing_is_refused(shared_redis: RedisProcess) -> None:
    """Would share a quota of no requests."""
    store = RedisQuotaStore.from_url(shared_redis.url, local_reserve=5, processes=2)
    with pytest.raises(ConfigurationError, match="smaller local_reserve"):
        store.open(str(uuid4()), SCHEDULE, Quota(10, 60.0))


async def test_password_is_not_shown() -> None:
    """Would put the password of Redis into logs and tracebacks."""
    store = RedisQuotaStore.from_url("redis://:secret@127.0.0.1:1")
    assert "secret" not in repr(store)
    lane = store.open("w", RETRIEVE, None)
    with pytest.raises(QuotaStoreUnavailableError) as caught:
        await lane.admit(until=asyncio.get_running_loop().time() + 0.2)
    assert "secret" not in str(caught.value)
    lane.leave(None)
    await lane.flush()
