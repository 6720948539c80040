"""A quota on the master that Sentinels name, which can become another server at any moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

from recall_async import ConfigurationError, Quota, QuotaStoreUnavailableError
from recall_async.jobs import JobQueue
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.scripts import Keys
from tests.redis.cluster import ask, until
from tests.redis.opened import OPERATION, answered, impatient, opened
from tests.redis.processes import Worker
from tests.redis.sentinels import SERVICE, Watched, clients, closed, tls_executable, watched
from tests.referee.drf_server import referee

pytestmark = pytest.mark.xdist_group("redis sentinel")

QUOTA = Quota(10, 0.5, burst=10)


@pytest.fixture(scope="module")
def service() -> Iterator[Watched]:
    with watched() as service:
        yield service


async def test_the_master_of_the_service_keeps_the_quota(service: Watched, prefix: str) -> None:
    """Would ask only the first Sentinel, or leave a connection open."""
    sentinel, master = clients(service.sentinel), clients(service.master())
    async with opened(service.url, prefix=prefix) as start:
        await answered(start(QUOTA))
        assert clients(service.sentinel) == sentinel + 1
        keys = Keys(prefix, "w", OPERATION)
        assert ask(service.master(), "EXISTS", keys.slots) == 1
    await closed(service.sentinel, sentinel)
    await closed(service.master(), master)
    store = RedisQuotaStore.from_url(service.url, prefix=prefix)
    assert (await store.usage("w"))[OPERATION].taken == 1
    await store.resume("w")
    await store.aclose()
    await closed(service.sentinel, sentinel)
    await closed(service.master(), master)


async def test_the_callers_client_stays_open(service: Watched, prefix: str) -> None:
    """Would close what is the caller's, or not follow his Sentinels."""
    sentinel = Sentinel([("127.0.0.1", service.sentinel.port)])
    client: Redis = sentinel.master_for(SERVICE)
    store = RedisQuotaStore(client, prefix=prefix)
    lane = store.open("w", OPERATION, QUOTA)
    await answered(lane)
    lane.leave(QUOTA)
    await lane.flush()
    assert await client.zcard(Keys(prefix, "w", OPERATION).slots) == 1
    assert (await store.usage("w"))[OPERATION].taken == 1
    await client.aclose()
    for one in sentinel.sentinels:
        await one.aclose()


@pytest.mark.parametrize(
    ("planned", "longest_request"),
    [(True, 2.0), pytest.param(False, 8.0, marks=pytest.mark.slow)],
    ids=["planned", "killed"],
)
async def test_a_replica_that_takes_over_is_found_and_told_what_is_in_use(
    planned: bool, longest_request: float, prefix: str
) -> None:
    """Would stay with the old master, or grant again what it had granted: a replica may lack the last slots."""
    loop = asyncio.get_running_loop()
    lease = longest_request + 0.2 + QUOTA.per  # 0.2 s: handover
    with watched() as service, impatient(grant_max_age=0.2, outage_timeout=1.0):
        async with opened(service.url, prefix=prefix, longest_request=longest_request) as process:
            keys, holder = Keys(prefix, "w", OPERATION), process(QUOTA)
            await answered(holder)
            master = service.master()
            if planned:
                await asyncio.to_thread(service.fail_over)
                await asyncio.to_thread(service.promoted, master)
            slots = [await holder.admit() for _ in range(10)]
            if not planned:
                master.kill()
            replica = await asyncio.to_thread(service.promoted, master)
            for name in ask(replica, "KEYS", f"{prefix}:*"):
                ask(replica, "DEL", name)  # as if no write had reached it
            # After a planned change Sentinel leaves the old master in service for some seconds: here it is stopped.
            master.kill()
            taken_over = loop.time()
            await asyncio.to_thread(until, lambda: ask(replica, "EXISTS", keys.state))  # the holder has told it
            other = process(QUOTA)
            times = sorted(await asyncio.gather(*(answered(other) for _ in range(25))))
            assert times[0] - taken_over >= lease
            assert times[10] - times[0] >= QUOTA.per
            assert times[20] - times[10] >= QUOTA.per
            for slot in slots:
                slot.answered()


async def test_sentinels_that_are_away_are_waited_for(prefix: str) -> None:
    """Would fail calls at once, or not say what is wrong."""
    async with opened(f"redis+sentinel://127.0.0.1:1,127.0.0.1:2/{SERVICE}", prefix=prefix) as start:
        with pytest.raises(QuotaStoreUnavailableError, match=rf"has not answered for .*{SERVICE}"):
            await answered(start(QUOTA), within=1.2)


async def test_a_service_that_the_sentinels_do_not_know_is_named(service: Watched, prefix: str) -> None:
    """Would not say that the name is wrong."""
    url = f"redis+sentinel://127.0.0.1:{service.sentinel.port}/nobody"
    with pytest.raises(QuotaStoreUnavailableError, match="nobody"):
        await RedisQuotaStore.from_url(url, prefix=prefix).usage("w")
    with pytest.raises(ConfigurationError, match="must name the service"):
        RedisQuotaStore.from_url(f"redis+sentinel://127.0.0.1:{service.sentinel.port}")


@pytest.mark.slow
def test_nobody_is_rejected_when_the_master_dies() -> None:
    """Would overrun the quota when the replica takes over, or leave calls waiting."""
    limit, per = 60, 6.0
    lease = 3.0 + 5.0 + per
    with watched() as service, referee(limit=limit, per=per, delay=0.2, slow=0.03) as server:
        workers = [Worker(service, server.url, "--seconds", str(11 + lease), "--tasks", "8") for _ in range(3)]
        while not server.report()["accepted"]:
            time.sleep(0.1)
        time.sleep(3)
        master = service.master()
        master.kill()
        service.promoted(master)
        lines = [line for worker in workers for line in worker.lines()]
        report = server.report()
    assert report["rejected"] == 0
    assert report["peak"] <= limit
    assert [line for line in lines if "error" in line or line.get("throttled")] == []
    assert report["accepted"] > limit
    assert max(line["waited"] for line in lines if "waited" in line) <= lease + per + 8.0


@pytest.mark.slow
async def test_sentinels_and_their_master_are_reached_over_tls(prefix: str) -> None:
    """Would ask the Sentinels, or the master that they name, in plain text, or lose them when another takes over."""
    if tls_executable() is None:
        pytest.skip("no redis-server of the PATH is built with TLS")
    with watched(tls=True) as service, impatient(grant_max_age=0.2, outage_timeout=3.0):
        async with opened(service.url, prefix=prefix, longest_request=0.3) as start:
            lane = start(QUOTA)
            await answered(lane)
            before = service.master()
            await asyncio.to_thread(service.fail_over)
            await asyncio.to_thread(service.promoted, before)
            await asyncio.to_thread(before.kill)
            await asyncio.wait_for(answered(lane), 60)
        async with JobQueue.from_url(service.url, prefix=prefix) as jobs:
            assert await jobs.list() == []
