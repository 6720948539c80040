"""Workers that die, sleep, are cut off or told to stop; submissions that break off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from recall_async import AuthenticationError, ConfigurationError, Quota, RecallSession, RemoveBot, ScheduleBot
from recall_async.jobs import JobError, JobQueue
from recall_async.jobs.store import Chunk
from recall_async.jobs.worker import Worker
from recall_async.sandbox import RecallSandbox
from tests.redis.server import RedisProcess

Sessions = Callable[..., RecallSession]
SCHEDULE = "calendar_events.schedule_bot"


@pytest.fixture
async def redis(shared_redis: RedisProcess) -> AsyncIterator[Redis]:
    async with Redis.from_url(shared_redis.url) as client:
        yield client


def accepted(sandbox: RecallSandbox) -> int:
    return int(sandbox.report()["operations"].get(SCHEDULE, {"accepted": 0})["accepted"])


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def take(jobs: JobQueue, consumer: str = "dead") -> Chunk:
    """A chunk in the hands of a worker of which nothing is heard any more."""
    chunk = await jobs._store.take(consumer)
    assert isinstance(chunk, Chunk)
    return chunk


async def test_chunk_of_a_dead_worker_is_done_but_for_what_it_did(
    shared_redis: RedisProcess, prefix: str, session: Sessions, actions: list[ScheduleBot], sandbox: RecallSandbox
) -> None:
    """Would strand a chunk for good, or do again what a dead worker had told of."""
    # So long that the living worker keeps its own lease on a machine that stands still for a second.
    async with JobQueue.from_url(shared_redis.url, prefix=prefix, lease=3.0) as jobs:
        await jobs.submit("n", actions, chunk_size=1000)
        chunk = await take(jobs)
        told: list[Any] = [(number, "done", b"{}", b"") for number in list(chunk.actions)[:30]]
        assert [await jobs._store.report(chunk, told, "renew") for _ in range(2)] == ["held"] * 2
        assert ((status := await jobs.status("n")).done, status.chunks_in_work) == (30, 1)
        async with session() as recall:
            await jobs.work(recall)
        status = await jobs.status("n")
        assert (status.done, status.finished, accepted(sandbox)) == (len(actions), True, len(actions) - 30)


async def test_lost_lease_ends_the_work_and_is_fenced(
    jobs: JobQueue, session: Sessions, actions: list[ScheduleBot], redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    """Would let a worker that slept go on with what is another's, or acknowledge it."""
    await jobs.submit("n", actions, chunk_size=1000)
    async with session(quotas=None) as recall:
        work = asyncio.create_task(jobs.work(recall, max_chunks=1))
        await until(lambda: recall.statistics()[SCHEDULE].in_flight)
        stream = jobs._store._stream
        (pending,) = await redis.xpending_range(stream, "workers", "-", "+", 10)
        await redis.xclaim(stream, "workers", "thief", 0, [pending["message_id"]])
        await until(lambda: "lost a chunk of job" in caplog.text)
        jobs.stop()
        assert (await asyncio.wait_for(work, 5)).chunks == 0
    (pending,) = await redis.xpending_range(stream, "workers", "-", "+", 10)
    assert pending["consumer"] == b"thief"
    before = await jobs.status("n")
    slept = Chunk(pending["message_id"].decode(), "n", "n/1", "sleeper", {}, 0.0)
    for what in ("renew", "settle", "release"):
        assert await jobs._store.report(slept, [(0, "failed", b"{}", b"{}")], what) == "lost"  # type: ignore[arg-type]
    assert await jobs.status("n") == before


async def test_lease_is_renewed_while_the_quota_is_waited_for(
    jobs: JobQueue, session: Sessions, actions: list[ScheduleBot], caplog: pytest.LogCaptureFixture
) -> None:
    """Would give a chunk away because its worker waits for the quota for longer than a lease, or not tell that it is left
    to others."""
    await jobs.submit("n", actions, chunk_size=1000)
    async with session(quotas={SCHEDULE: Quota(10, 600.0)}) as recall:
        work = asyncio.create_task(jobs.work(recall))
        await until(lambda: recall.statistics()[SCHEDULE].waiting_bulk)
        for _ in range(10):
            await asyncio.sleep(0.2)  # real: what is tried is that time passes
            assert await jobs._store.take("thief") == 1
        with caplog.at_level("INFO", "recall_async"):
            jobs.stop(timeout=5)
            await work
        assert "the worker was stopped. Other workers go on with the chunks that it left: 1 of job n" in caplog.text
        assert isinstance(await jobs._store.take("thief"), Chunk)  # given back at once


async def test_chunk_that_kills_its_workers_is_given_up(
    shared_redis: RedisProcess, prefix: str, session: Sessions, actions: list[ScheduleBot]
) -> None:
    """Would kill one worker after the other for ever, or hide that it did not."""
    connect = partial(JobQueue.from_url, shared_redis.url, prefix=prefix, deliveries=2)
    # The worker that lives has time to renew its lease on a busy machine.
    async with connect(lease=0.1) as dying, connect(lease=2.0) as jobs, session() as recall:
        await jobs.submit("n", actions[:30], chunk_size=10)
        for _ in range(2):
            await take(dying)
            await asyncio.sleep(0.15)  # real: the lease runs out
        await jobs.work(recall)
        status = await jobs.status("n")
        assert (status.done, status.chunks_dead, status.chunks_open, status.finished) == (20, 1, 0, True)


async def test_chunk_that_gets_on_is_not_given_up(
    shared_redis: RedisProcess, prefix: str, actions: list[ScheduleBot]
) -> None:
    """Would give up a chunk because machines die often, though each did some of it."""
    async with JobQueue.from_url(shared_redis.url, prefix=prefix, lease=0.1, deliveries=1) as jobs:
        await jobs.submit("n", actions[:10])
        for left in range(10, 6, -1):
            chunk = await take(jobs)
            assert len(chunk.actions) == left
            await jobs._store.report(chunk, [(10 - left, "done", b"{}", b"")], "renew")
            await asyncio.sleep(0.15)  # real: the lease runs out
        assert (await jobs.status("n")).chunks_dead == 0


async def test_releases_do_not_count_as_deaths(jobs: JobQueue, actions: list[ScheduleBot]) -> None:
    """Would give a chunk up because healthy workers were restarted a few times."""
    await jobs.submit("n", actions[:10])
    for _ in range(12):
        chunk = await take(jobs)
        assert await jobs._store.report(chunk, [], "release") == "held"


async def test_cancelled_job_drops_what_was_given_back(jobs: JobQueue, actions: list[ScheduleBot]) -> None:
    """A job would count as unfinished until the next worker comes, because the last one stopped."""
    await jobs.submit("n", actions[:10])
    await jobs._store.report(await take(jobs), [], "release")
    await jobs.cancel("n")
    status = await jobs.status("n")
    assert (status.cancelled, status.finished, status.chunks_open, status.chunks_in_work) == (True, True, 0, 0)


async def test_cancelled_job_stops_at_once(
    jobs: JobQueue, session: Sessions, actions: list[ScheduleBot], sandbox: RecallSandbox
) -> None:
    """Would go on with what nobody wants any more, or lose what had been done."""
    await jobs.submit("n", actions, chunk_size=10)
    async with session(quotas=None) as recall:
        work = asyncio.create_task(jobs.work(recall))
        await until(lambda: accepted(sandbox) > 20)
        await jobs.cancel("n")
        await asyncio.wait_for(work, 5)
    status = await jobs.status("n")
    assert (status.cancelled, status.finished, status.chunks_open, status.chunks_in_work) == (True, True, 0, 0)
    assert status.done == accepted(sandbox) < len(actions)
    with pytest.raises(JobError, match="was cancelled"):
        await jobs.submit("n", actions)


async def test_broken_submission_goes_on(
    jobs: JobQueue, session: Sessions, actions: list[ScheduleBot], sandbox: RecallSandbox, monkeypatch: Any
) -> None:
    """Would do a part twice, or leave the rest out, after a submission that died."""
    add, calls = jobs._store.add, 0

    async def die_at_the_third(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        await add(*given)

    monkeypatch.setattr(jobs._store, "add", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        try:
            await jobs.submit("n", actions, chunk_size=20)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt from error
    status = await jobs.status("n")
    assert (status.submitted, status.finished, status.chunks_open) == (False, False, 2)
    with pytest.raises(JobError, match="other actions"):
        await jobs.submit("n", actions[1:])
    async with session() as recall:
        await jobs.work(recall)
        assert not (await jobs.status("n")).finished
        assert (await jobs.submit("n", actions, chunk_size=50)).submitted
        await jobs.work(recall)
    status = await jobs.status("n")
    assert (status.done, status.finished, accepted(sandbox)) == (len(actions), True, len(actions))


async def test_actions_of_one_event_or_key_stay_together(jobs: JobQueue) -> None:
    """Would let two workers meet on one event or key."""
    ids = [f"00000000-0000-0000-0000-00000000000{n}" for n in range(9)]
    given = [ScheduleBot(ids[0], "a"), ScheduleBot(ids[1], "b"), RemoveBot(ids[2]), ScheduleBot(ids[1], "a")]
    given += [ScheduleBot(ids[0], "c", start_time="2030-01-01T00:00:00Z"), ScheduleBot(ids[3], "d")]
    await jobs.submit("n", given, chunk_size=1)
    first, *others = [list((await take(jobs, f"{n}")).actions.values()) for n in range(3)]
    assert [(a.event_id, getattr(a, "deduplication_key", None)) for a in first] == [
        (ids[0], "a"), (ids[1], "b"), (ids[1], "a"), (ids[0], "c"),
    ]  # fmt: skip
    assert [len(other) for other in others] == [1, 1]


@pytest.mark.parametrize("name", ["", "a\nb", "a\x1b[2J", "x" * 201, 7])
async def test_names_that_are_none(jobs: JobQueue, name: Any) -> None:
    """Would write keys or lines that nobody can type or trust."""
    with pytest.raises(ConfigurationError, match="name"):
        await jobs.submit(name, [])


async def test_what_cannot_be_written_is_refused_as_a_whole(jobs: JobQueue, actions: list[ScheduleBot]) -> None:
    """Would leave a job in Redis that ends each worker that reads it."""
    for bad in (ScheduleBot("e", "k", {"a": object()}), ScheduleBot("e", "k", start_time=7), "schedule"):  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            await jobs.submit("n", [*actions, bad])  # type: ignore[list-item]
    with pytest.raises(JobError, match="no job 'n'"):
        await jobs.status("n")
    assert (await jobs.submit("empty", [])).finished


async def test_refused_key_ends_the_worker_only(
    jobs: JobQueue, session: Sessions, actions: list[ScheduleBot], sandbox: RecallSandbox
) -> None:
    """Would fail all actions of a job, or keep its chunks until leases run out, because one machine has a wrong key."""
    await jobs.submit("n", actions, chunk_size=50)
    sandbox.fault(SCHEDULE, status=401)
    async with session() as recall:
        with pytest.raises(AuthenticationError):
            await jobs.work(recall)
        status = await jobs.status("n")
        assert status.failed == 0
        await jobs.work(recall)
    assert (await jobs.status("n")).done == len(actions)


async def test_cancelled_worker_gives_its_chunk_back(
    shared_redis: RedisProcess, prefix: str, session: Sessions, actions: list[ScheduleBot]
) -> None:
    """Would hang or lose a lease's time when a worker is cancelled; would swallow the cancellation."""
    async with JobQueue.from_url(shared_redis.url, prefix=prefix, lease=60.0) as jobs, session(quotas=None) as recall:
        await jobs.submit("n", actions, chunk_size=1000)
        work = asyncio.create_task(jobs.work(recall))
        await until(lambda: recall.statistics()[SCHEDULE].in_flight)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert isinstance(await take(jobs), Chunk)


async def test_chunk_whose_delivery_was_not_heard_is_delivered_again(
    jobs: JobQueue, actions: list[ScheduleBot]
) -> None:
    """Would leave a chunk alone for a lease because an answer of Redis was lost."""
    jobs._store.lease = 10.0
    await jobs.submit("n", actions, chunk_size=1000)
    assert (await take(jobs, "a")).id == (await take(jobs, "a")).id
    assert await jobs._store.take("b") == 1


async def test_own_client_and_forgotten_scripts(
    shared_redis: RedisProcess, prefix: str, session: Sessions, actions: list[ScheduleBot]
) -> None:
    """Would not work with a client that decodes answers, close it, or need scripts that Redis forgot."""
    async with Redis.from_url(shared_redis.url, decode_responses=True) as client, session() as recall:
        async with JobQueue(client, prefix=prefix, lease=1.0) as jobs:
            await jobs.submit("n", actions[:20], chunk_size=5)
            await client.script_flush()
            assert (await jobs.work(recall, chunks=1, max_chunks=1)).done == 5
            assert (await jobs.work(recall)).done == 15
            assert [line.status async for line in jobs.results("n")] == ["done"] * 20
        assert await client.ping()


async def test_session_of_another_workspace_is_refused(jobs: JobQueue, session: Sessions) -> None:
    """Would do one customer's work with another's key."""
    async with session(workspace="other") as recall:
        with pytest.raises(ConfigurationError, match="other"):
            await jobs.work(recall)


async def test_redis_that_is_away_for_a_while_is_waited_for(
    own_redis: Callable[..., RedisProcess], session: Sessions, actions: list[ScheduleBot], prefix: str
) -> None:
    """Would lose a worker, an outcome or the count of it in an outage of Redis."""
    server = own_redis()
    async with JobQueue.from_url(server.url, prefix=prefix, socket_timeout=0.2) as jobs:
        await jobs.submit("n", actions, chunk_size=20)
        async with session() as recall:
            work = asyncio.create_task(jobs.work(recall))
            await until(lambda: recall.statistics()[SCHEDULE].admitted > 30)
            server.freeze()
            await asyncio.sleep(1.0)  # real: the time of the outage
            server.thaw()
            await work
        status = await jobs.status("n")
        assert (status.done, status.finished) == (len(actions), True)


async def test_redis_that_stays_away_is_an_error_of_ours(session: Sessions) -> None:
    """Would hang for ever, or end with an exception of redis-py."""
    async with JobQueue.from_url("redis://127.0.0.1:1", patience=0.2) as jobs, session() as recall:
        for call in (jobs.status("n"), jobs.submit("n", []), jobs.cancel("n"), jobs.work(recall)):
            with pytest.raises(JobError, match="has not responded") as raised:
                await call
            assert raised.value.may_pass  # a web backend responds with 503


def test_worker_is_not_started_by_being_made(jobs: JobQueue, session: Sessions) -> None:
    """Would need a running loop where a program only puts its parts together."""
    options: dict[str, Any] = dict.fromkeys(
        ("concurrency", "forever", "max_chunks", "max_outage", "on_outcome", "stop")
    )
    Worker(jobs._store, session(), **options).stop()
