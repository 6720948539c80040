"""Who stops, loses its lease or is suspended sends nothing more; jobs on one event end in the order of their submission."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest
from redis.asyncio import Redis

from recall_async import (
    AttemptTimeoutError,
    AuthenticationError,
    ConnectionFailedError,
    Quota,
    RecallError,
    RecallSession,
    RemoveBot,
    RequestBlockedError,
    RetryPolicy,
    ScheduleBot,
    stopping,
)
from recall_async import outage as outages
from recall_async.bulk.actions import Action, Outcome
from recall_async.bulk.doubts import Doubts, Weight
from recall_async.checks import Backoff
from recall_async.jobs import JobError, JobQueue
from recall_async.jobs import lease as leases
from recall_async.jobs.lease import Lease
from recall_async.jobs.store import Chunk
from recall_async.jobs.worker import Worker
from tests.bulk.conftest import OPERATIONS, PLENTY
from tests.bulk.world import World, event_id
from tests.redis.server import RedisProcess


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World() as world:
        yield world


def sessions(world: World, **options: Any) -> RecallSession:
    settings = {
        "quotas": dict.fromkeys(OPERATIONS, PLENTY),
        "retry": RetryPolicy(attempts=3, backoff=0.001),
        "base_url": world.url,
        "workspace": "default",
    }
    return RecallSession("key", **(settings | options))


def on(count: int, key: str = "k") -> list[Action]:
    return [ScheduleBot(event_id(number), f"{key}{number}") for number in range(count)]


def off(count: int) -> list[Action]:
    return [RemoveBot(event_id(number)) for number in range(count)]


@pytest.fixture
def suspend(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets a minute pass by the clock of leases, as in a suspension. Workers hear of nothing by themselves."""
    passed, now = 0.0, leases.lease_time

    def suspend() -> None:
        nonlocal passed
        passed = 60.0

    monkeypatch.setattr(leases, "lease_time", lambda: now() + passed)
    monkeypatch.setattr(Lease, "keep", lambda lease: lease._ending.wait())
    return suspend


async def steal(jobs: JobQueue, server: RedisProcess) -> None:
    """Let another worker have the chunk that a worker holds."""
    stream = jobs._store._stream
    async with Redis.from_url(server.url) as redis:
        (pending,) = await redis.xpending_range(stream, "workers", "-", "+", 10)
        await redis.xclaim(stream, "workers", "thief", 0, [pending["message_id"]])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("size", [7, 50])
async def test_jobs_on_one_event_go_in_the_order_of_their_submission(
    jobs: JobQueue, world: World, workers: int, size: int
) -> None:
    """Would keep a bot that a later job removed, while both jobs say that they are done."""
    world.latency = 0.003
    await jobs.submit("first", on(50), chunk_size=size)
    await jobs.submit("then", off(50), chunk_size=11)
    await jobs.submit("last", on(20, "other"), chunk_size=size)
    async with sessions(world) as recall:
        await asyncio.gather(*(jobs.work(recall) for _ in range(workers)))
    assert world.overlaps == 0
    for number in range(50):
        assert set(world.bots[number]) == ({f"other{number}"} if number < 20 else set())
    for name, total in (("first", 50), ("then", 50), ("last", 20)):
        status = await jobs.status(name)
        assert (status.done, status.chunks_open, status.finished) == (total, 0, True)


async def test_one_key_in_two_jobs(jobs: JobQueue, world: World) -> None:
    """Would leave the configuration of the job that was submitted first, or meet 409."""
    world.latency = 0.003
    await jobs.submit("first", [ScheduleBot(event_id(0), "shared", {"version": 1})])
    await jobs.submit("then", [ScheduleBot(event_id(1), "shared", {"version": 2})])
    async with sessions(world) as recall:
        await asyncio.gather(jobs.work(recall), jobs.work(recall))
    assert world.overlaps == 0
    assert [asked.event for asked in world.asked] == [0, 1]


async def test_what_waits_for_a_job_goes_on_when_that_is_cancelled_or_given_up(
    shared_redis: RedisProcess, prefix: str, world: World
) -> None:
    """Would leave a job waiting for ever for one that will never be finished."""
    async with JobQueue.from_url(shared_redis.url, prefix=prefix, lease=1.0, deliveries=1) as jobs:
        await jobs.submit("cancelled", on(10))
        await jobs.submit("a", off(10))
        assert (await jobs.status("a")).chunks_open == 1
        await jobs.cancel("cancelled")
        await jobs.submit("dies", on(10))
        await jobs.submit("b", off(10))
        async with sessions(world) as recall:
            await jobs.work(recall, max_chunks=1)
            assert (await jobs.status("a")).done == 10
            await jobs._store.take("dead")
            await jobs.work(recall)  # which waits until the lease runs out
        assert (await jobs.status("dies")).chunks_dead == 1
        assert (await jobs.status("b")).done == 10


async def test_a_suspended_worker_sends_nothing_when_it_wakes(
    shared_redis: RedisProcess, prefix: str, world: World, suspend: Callable[[], None]
) -> None:
    """Would put bots back that a later job removed, with the retries of a worker that was suspended meanwhile."""
    async with JobQueue.from_url(shared_redis.url, prefix=prefix, lease=5.0) as jobs:
        await jobs.submit("first", on(20))
        world.statuses = lambda asked: 409
        recall = sessions(world, retry=RetryPolicy(attempts=9, backoff=1.0))
        async with recall:
            work = asyncio.create_task(jobs.work(recall))
            await world.arrived(20)
            while world.answered < 20:  # noqa: ASYNC110  # the server tells of arrivals only
                await asyncio.sleep(0.001)
            # It is suspended: time passes, another worker does it all, and a later job removes the bots.
            suspend()
            asked = len(world.asked)
            world.statuses = lambda asked: 200
            await steal(jobs, shared_redis)
            await asyncio.sleep(1.5)  # real: the retries are due
            assert len(world.asked) == asked
            jobs.stop()
            await asyncio.wait_for(work, 5)
    assert len(world.asked) == asked


async def test_a_worker_that_is_suspended_while_it_takes_a_chunk_sends_nothing_of_it(
    shared_redis: RedisProcess,
    prefix: str,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    suspend: Callable[[], None],
) -> None:
    """Would count its lease from when it hears of the chunk, which another worker may long have done."""
    async with JobQueue.from_url(shared_redis.url, prefix=prefix, lease=5.0) as jobs:
        take, robbed = jobs._store.take, ""

        async def taking(consumer: str, **options: Any) -> Any:
            nonlocal robbed
            found = await take(consumer, **options)
            if isinstance(found, Chunk):
                suspend()
                robbed = consumer
                await steal(jobs, shared_redis)
            elif consumer == robbed:  # it has heard of that
                jobs.stop()
            return found

        monkeypatch.setattr(jobs._store, "take", taking)
        await jobs.submit("n", on(20))
        async with sessions(world) as recall:
            assert (await jobs.work(recall)).done == 0
    assert world.asked == []


class SlowNetwork(aiohttp.TCPConnector):
    """Takes as long to connect as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.connecting = asyncio.Event()
        self.gate = asyncio.Event()

    async def connect(self, *args: Any, **options: Any) -> Any:
        connection = await super().connect(*args, **options)
        self.connecting.set()
        await self.gate.wait()
        return connection


@pytest.mark.parametrize("held", [True, False])
async def test_a_worker_whose_lease_expires_while_it_connects_asks_first(
    shared_redis: RedisProcess, prefix: str, world: World, suspend: Callable[[], None], held: bool
) -> None:
    """Would put a bot back that a later job removed, when a connection opens at last. Nor may it give up what it holds."""
    async with JobQueue.from_url(shared_redis.url, prefix=prefix, lease=5.0) as jobs:
        await jobs.submit("n", on(1))
        network = SlowNetwork()
        http = aiohttp.ClientSession(connector=network)
        async with http, sessions(world, http=http) as recall:
            work = asyncio.create_task(jobs.work(recall, max_chunks=1))
            await network.connecting.wait()
            suspend()
            if not held:
                await steal(jobs, shared_redis)
            network.gate.set()
            if held:
                assert (await work).done == 1
            else:
                while recall.statistics()["calendar_events.schedule_bot"].in_flight:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                jobs.stop()
                assert (await work).done == 0
    assert len(world.asked) == held


async def test_a_job_that_is_stopped_while_it_connects_sends_nothing(world: World) -> None:
    """Would begin a request seconds after the job was told to begin nothing more."""
    network = SlowNetwork()
    http = aiohttp.ClientSession(connector=network)
    async with http, sessions(world, http=http) as recall, recall.bulk(on(1)) as run:
        outcomes = asyncio.create_task(anext(run, None))
        await network.connecting.wait()
        run.stop()
        network.gate.set()
        assert await outcomes is None
    assert world.asked == []


@pytest.mark.parametrize("status", [503, 507, 429])
async def test_cancelled_job_sends_no_retry(shared_redis: RedisProcess, prefix: str, world: World, status: int) -> None:
    """Would send everything that waits for a retry seconds after the job was cancelled."""
    world.statuses, world.retry_after = lambda asked: status, 4
    # Of its own: what a workspace was granted after a 429 is remembered by the process.
    jobs = JobQueue.from_url(shared_redis.url, prefix=prefix, workspace=f"cancelled {status}", lease=1.0)
    await jobs.submit("n", on(64))
    async with sessions(world, workspace=jobs.workspace) as recall:
        work = asyncio.create_task(jobs.work(recall))
        await world.arrived(1 if status == 429 else 5)
        while world.answered < len(world.asked):  # noqa: ASYNC110  # the server tells of arrivals only
            await asyncio.sleep(0.01)
        await jobs.cancel("n")
        await asyncio.wait_for(work, 5)
        asked = len(world.asked)
        world.statuses = lambda asked: 200
        await asyncio.sleep(2.0)  # real: the retries would be due
        assert len(world.asked) == asked
    assert not any(world.bots.values())
    assert (await jobs.status("n")).chunks_in_work == 0
    await jobs.aclose()


async def test_sick_worker_fails_nothing(jobs: JobQueue, world: World) -> None:
    """Would burn a healthy worker's job because one worker has a key of another workspace, or no network."""
    await jobs.submit("n", on(300), chunk_size=100)
    async with World() as elsewhere:
        elsewhere.statuses = lambda asked: 404
        async with sessions(elsewhere) as sick, sessions(world) as healthy:
            world.latency = 0.01
            results = await asyncio.gather(jobs.work(sick), jobs.work(healthy), return_exceptions=True)
    assert isinstance(results[0], JobError)
    assert "all requests of this worker failed" in str(results[0])
    status = await jobs.status("n")
    assert (status.done, status.failed, status.chunks_open) == (300, 0, 0)


@pytest.mark.parametrize("concurrency", [1, 64])
async def test_worker_without_a_network(
    jobs: JobQueue, world: World, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    """Would keep its chunks from others for an hour, or fail them."""
    monkeypatch.setattr(outages, "BACKOFF", Backoff(0.005, 0.3))  # else ten failures, one at a time, take a minute
    await jobs.submit("n", on(200), chunk_size=50)
    async with sessions(world, base_url="http://127.0.0.1:1") as sick:
        with pytest.raises(JobError, match="that it can reach the API"):
            await jobs.work(sick, concurrency=concurrency)
    status = await jobs.status("n")
    assert (status.failed, status.chunks_in_work) == (0, 0)
    async with sessions(world) as healthy:
        await jobs.work(healthy)
    assert (await jobs.status("n")).done == 200


async def test_poison_is_one_failure_and_refusals_end_a_worker(jobs: JobQueue, world: World) -> None:
    """Would end one worker after the other because the firewall dislikes one action's payload."""
    world.statuses = lambda asked: 403 if asked.event == 7 else 200
    await jobs.submit("n", on(40))
    async with sessions(world) as recall:
        assert (await jobs.work(recall)).failed == 1
        assert (await jobs.status("n")).done == 39
        world.statuses = lambda asked: 403
        await jobs.submit("blocked", on(40, "other"), chunk_size=10)
        with pytest.raises(RequestBlockedError):
            await jobs.work(recall)
        assert (await jobs.status("blocked")).failed == 0
        world.statuses = lambda asked: 200
        await jobs.work(recall)
    assert (await jobs.status("blocked")).done == 40


async def test_redis_loses_the_job(own_redis: Callable[..., RedisProcess], world: World) -> None:
    """Would end as if all were done, with most of it undone."""
    url = own_redis().url
    async with JobQueue.from_url(url, workspace="lost", lease=1.0, patience=2.0) as jobs, Redis.from_url(url) as redis:
        quotas = dict.fromkeys(OPERATIONS, Quota(20, 1, burst=2))
        async with sessions(world, quotas=quotas, workspace="lost") as recall:
            await jobs.submit("n", on(300), chunk_size=20)
            work = asyncio.create_task(jobs.work(recall))
            await world.arrived(5)
            await redis.flushall()
            with pytest.raises(JobError, match="Redis has lost"):
                await asyncio.wait_for(work, 10)
            await jobs.submit("n", on(60), chunk_size=1)
            work = asyncio.create_task(jobs.work(recall, forever=True))
            await world.arrived(len(world.asked) + 3)
            await redis.flushall()
            with pytest.raises(JobError, match="Redis has lost"):
                await asyncio.wait_for(work, 10)


async def test_swallowed_cancellations(jobs: JobQueue, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would wait for ever for a task whose cancellation a library swallowed."""
    monkeypatch.setattr(stopping, "AGAIN_AFTER", 0.05)
    report, swallowed = jobs._store.report, 0

    async def swallowing(*args: Any, **options: Any) -> Any:
        nonlocal swallowed
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            if swallowed % 2 == 0:
                swallowed += 1
                return "held"
            raise
        return await report(*args, **options)

    monkeypatch.setattr(jobs._store, "report", swallowing)
    await jobs.submit("n", on(40))
    world.statuses = lambda asked: 401 if asked.event > 10 else 200
    async with sessions(world) as recall:
        with pytest.raises(Exception, match="failed with 401"):
            await asyncio.wait_for(jobs.work(recall), 5)


@pytest.mark.parametrize("error", [KeyError("metrics"), asyncio.CancelledError("from a future")])
async def test_a_callback_that_raises_ends_the_worker(jobs: JobQueue, world: World, error: BaseException) -> None:
    """Would return as if the work were done, because the callback's CancelledError looks like a cancellation."""

    def fail(outcome: object) -> None:
        raise error

    await jobs.submit("n", on(40), chunk_size=10)
    async with sessions(world) as recall:
        with pytest.raises(type(error)):
            await jobs.work(recall, on_outcome=fail)
    assert not (await jobs.status("n")).finished


async def test_retry(jobs: JobQueue, world: World) -> None:
    """Would need the file of a job to do again what failed of it."""
    world.statuses = lambda asked: 404 if asked.event % 4 == 0 else 200
    actions = [ScheduleBot(event_id(number), f"k{number}", {"bot_name": f"Bot {number}"}) for number in range(41)]
    await jobs.submit("n", actions, chunk_size=10)
    async with sessions(world) as recall:
        await jobs.work(recall)
        assert ((status := await jobs.status("n")).done, status.failed) == (30, 11)
        world.statuses = lambda asked: 200
        status = await jobs.retry("n", chunk_size=5)
        assert (status.failed, status.chunks_open, status.finished) == (0, 3, False)
        assert (await jobs.retry("n")).chunks_open == 3  # once is enough
        await jobs.work(recall)
    status = await jobs.status("n")
    assert (status.done, status.failed, status.finished) == (41, 0, True)
    assert world.bots[8] == {"k8": {"bot_name": "Bot 8"}}
    assert len([line async for line in jobs.results("n")]) == 41
    assert (await jobs.retry("n")).finished
    with pytest.raises(JobError, match="there is no job"):
        await jobs.retry("other")


async def test_list(jobs: JobQueue, shared_redis: RedisProcess) -> None:
    """Would need one to know the names of one's jobs."""
    assert list(await jobs.list()) == []
    for name in ("b", "a/ü", "c"):
        await jobs.submit(name, on(2, name))
    assert [status.name for status in await jobs.list()] == ["b", "a/ü", "c"]
    async with Redis.from_url(shared_redis.url) as redis:
        await redis.delete(jobs._store._job("b"))
    assert [status.name for status in await jobs.list()] == ["a/ü", "c"]


async def test_stopped_while_it_takes_a_chunk(jobs: JobQueue, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would end with an AttributeError, and keep the chunk until its lease is over."""
    await jobs.submit("n", on(40))
    take = jobs._store.take

    async def taking(*args: Any, **options: Any) -> Any:
        found = await take(*args, **options)
        jobs.stop()
        return found

    monkeypatch.setattr(jobs._store, "take", taking)
    async with sessions(world) as recall:
        assert (await jobs.work(recall)).done == 0
    status = await jobs.status("n")
    assert (len(world.asked), status.chunks_in_work, status.chunks_open) == (0, 0, 1)


async def test_sick_worker_fails_no_small_chunk(jobs: JobQueue, world: World) -> None:
    """Would fail the actions of chunks that are too small for ten failures, though a healthy worker is there."""
    await jobs.submit("n", on(12), chunk_size=4)
    async with World() as elsewhere:
        elsewhere.statuses = lambda asked: 404
        async with sessions(elsewhere) as sick, sessions(world) as healthy:
            world.latency = 0.01
            results = await asyncio.gather(jobs.work(sick, chunks=1), jobs.work(healthy), return_exceptions=True)
    status = await jobs.status("n")
    assert (status.done, status.failed, status.chunks_open) == (12, 0, 0)
    assert isinstance(results[0], JobError)
    assert "all requests of this worker failed" in str(results[0])


async def test_a_chunk_that_failed_is_left_to_a_busy_worker(jobs: JobQueue, world: World) -> None:
    """Would fail a small job while the only healthy worker is busy with another chunk."""
    await jobs.submit("long", on(1))
    await jobs.submit("n", [RemoveBot(event_id(number)) for number in range(50, 54)])
    async with World() as elsewhere:
        elsewhere.statuses = lambda asked: 404
        async with sessions(elsewhere) as sick, sessions(world) as healthy:
            world.gate.clear()
            busy = asyncio.create_task(jobs.work(healthy, chunks=1))
            await world.arrived(1)
            other = asyncio.create_task(jobs.work(sick, chunks=1))
            await elsewhere.arrived(4)
            await asyncio.sleep(2.5)  # real: it looks again twice
            world.gate.set()
            await busy
            with pytest.raises(JobError, match="all requests of this worker failed"):
                await other
    assert ((await jobs.status("n")).done, (await jobs.status("n")).failed) == (4, 0)


async def test_deleted_events_fail_though_nothing_succeeds(jobs: JobQueue, world: World) -> None:
    """Would never finish a small job all of whose events are deleted, or end the worker that begins with them."""
    world.statuses = lambda asked: 404 if asked.event < 4 else 200
    await jobs.submit("n", on(4))
    async with sessions(world) as recall:
        summary = await jobs.work(recall, chunks=1)
        assert (summary.failed, (await jobs.status("n")).finished) == (4, True)
        await jobs.submit("more", on(40, "other"), chunk_size=4)
        summary = await jobs.work(recall, chunks=1)
    assert (summary.done, summary.failed, (await jobs.status("more")).finished) == (36, 4, True)


def test_no_answer_for_long_ends_a_worker() -> None:
    """Would hold chunks for a minute and a half: what tries one at a time fails ten times only then."""
    doubts = Doubts(lambda error: JobError("hopeless"))
    gone = ConnectionFailedError("refused")
    assert [doubts.unanswered(gone, now) for now in (0.0, 1.0, 3.0, 7.0)] == [None] * 4
    assert doubts.unanswered(gone, 15.0) is not None


@pytest.mark.parametrize("error", [ConnectionFailedError("refused"), AttemptTimeoutError("no response")])
def test_no_answer_is_not_the_action_s_fault_until_one_succeeds(error: RecallError) -> None:
    """Would record actions as failed because this worker's network is broken."""
    doubts = Doubts(lambda error: JobError("hopeless"))
    action = on(1)[0]
    failed, done = Outcome(action, None, error, 3, 0.0), Outcome(action, None, None, 1, 0.0)
    assert [doubts.weigh(each) for each in (failed, failed)] == [Weight.DOUBTFUL] * 2
    assert (doubts.last, doubts.withholds) == (error, True)
    assert [doubts.weigh(each) for each in (done, failed)] == [Weight.PROOF] * 2


async def test_only_sick_workers(jobs: JobQueue, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would fail a job, or give it up, because all workers that are there have a wrong key or no network."""
    monkeypatch.setattr(outages, "BACKOFF", Backoff(0.005, 0.3))  # else ten failures, one at a time, take a minute
    await jobs.submit("n", on(120), chunk_size=15)
    async with World() as elsewhere, World() as locked:
        elsewhere.statuses, locked.statuses = lambda asked: 404, lambda asked: 401
        for _ in range(2):  # each is started again, as a supervisor does
            urls = [elsewhere.url, elsewhere.url, locked.url, "http://127.0.0.1:1"]
            async with AsyncExitStack() as stack:
                sick = [await stack.enter_async_context(sessions(world, base_url=url)) for url in urls]
                ends = await asyncio.gather(*(jobs.work(each) for each in sick), return_exceptions=True)
            assert [type(end) for end in ends] == [JobError, JobError, AuthenticationError, JobError]
            status = await jobs.status("n")
            assert (status.failed, status.chunks_open, status.chunks_in_work, status.chunks_dead) == (0, 8, 0, 0)
            assert not status.finished
    async with sessions(world) as healthy:
        await jobs.work(healthy)
    status = await jobs.status("n")
    assert (status.done, status.failed, status.finished) == (120, 0, True)


async def test_two_sick_workers_end_a_small_job(jobs: JobQueue, world: World) -> None:
    """Would leave a small job to each other for ever."""
    await jobs.submit("n", on(6), chunk_size=3)
    world.statuses = lambda asked: 404
    async with sessions(world) as one, sessions(world) as other:
        await asyncio.wait_for(
            asyncio.gather(jobs.work(one, chunks=1), jobs.work(other, chunks=1), return_exceptions=True), 30
        )
    status = await jobs.status("n")
    assert (status.failed, status.finished) == (6, True)
    world.statuses = lambda asked: 200
    await jobs.retry("n")
    async with sessions(world) as healthy:
        assert (await jobs.work(healthy)).done == 6


async def test_cancelled_while_it_takes_a_chunk(jobs: JobQueue, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would keep a chunk from others for the time of a lease: Redis gave it, but the worker did not wait for the reply."""
    await jobs.submit("n", on(40))
    take, taking = jobs._store.take, asyncio.Event()

    async def slowly(*args: Any, **options: Any) -> Any:
        found = await take(*args, **options)
        taking.set()
        await asyncio.sleep(0.1)  # the reply is on its way
        return found

    async with sessions(world) as recall:
        monkeypatch.setattr(jobs._store, "take", slowly)
        work = asyncio.create_task(jobs.work(recall, chunks=1))
        await taking.wait()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    status = await jobs.status("n")
    assert (len(world.asked), status.chunks_in_work, status.chunks_open) == (0, 0, 1)
    assert isinstance(await take("other"), Chunk)


async def test_workers_that_die_in_an_outage_do_not_count(
    shared_redis: RedisProcess, prefix: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would give up a chunk because several machines were replaced while the API was away."""
    monkeypatch.setattr(outages, "BACKOFF", Backoff(0.005, 0.3))

    async def dead(*_: Any, **__: Any) -> None:
        """Give nothing back."""

    async with JobQueue.from_url(shared_redis.url, prefix=prefix, lease=1.5, deliveries=2) as jobs:
        await jobs.submit("n", on(20))
        world.statuses = lambda asked: 503
        report, excused = jobs._store.report, asyncio.Event()

        async def watched(*given: Any, **named: Any) -> Any:
            standing = await report(*given, **named)
            if standing == "held" and named["excused"]:
                excused.set()
            return standing

        with monkeypatch.context() as patch:
            patch.setattr(Worker, "_give_back", dead)
            patch.setattr(jobs._store, "report", watched)
            for _ in range(4):
                async with sessions(world) as recall:
                    work = asyncio.create_task(jobs.work(recall))
                    await excused.wait()  # it has taken the chunk, waits for the API, and has renewed its lease
                    excused.clear()
                    work.cancel()
                    await asyncio.wait({work})
        world.statuses = lambda asked: 200
        async with sessions(world) as recall:
            await jobs.work(recall)
        status = await jobs.status("n")
        assert (status.done, status.chunks_dead) == (20, 0)
