"""Jobs in a Redis Cluster: a workspace's jobs are on one node, and go on when their slot or the node changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from redis.asyncio import RedisCluster

from recall_async import RecallSession, ScheduleBot
from recall_async.jobs import JobError, JobQueue
from recall_async.limits.redis import RedisQuotaStore
from recall_async.sandbox import RecallSandbox
from tests.redis.cluster import ClusterProcess, ask, begin_move, move_keys, until
from tests.redis.server import RedisProcess

pytestmark = pytest.mark.xdist_group("redis cluster")

OpenSession = Callable[[], RecallSession]


def key_of(prefix: str, name: str = "chunks") -> str:
    return f"{prefix}:{{default/jobs}}:{name}"


@pytest.fixture
def session(sandbox: RecallSandbox, shared_cluster: ClusterProcess, prefix: str) -> OpenSession:
    def make() -> RecallSession:
        store = RedisQuotaStore.from_url(shared_cluster.url, prefix=prefix)
        return RecallSession(sandbox.api_key, base_url=sandbox.url, workspace="default", quota_store=store)

    return make


async def test_jobs_are_submitted_and_done(
    shared_cluster: ClusterProcess, session: OpenSession, prefix: str, actions: list[ScheduleBot]
) -> None:
    """Would know no cluster, or touch keys on two nodes in one script."""
    async with JobQueue.from_url(shared_cluster.url, prefix=prefix, patience=5.0) as jobs, session() as recall:
        await jobs.submit("tonight", actions[:30], chunk_size=10)
        assert (await jobs.work(recall)).done == 30
        assert (await jobs.status("tonight")).finished
    async with RedisCluster(host="127.0.0.1", port=shared_cluster.nodes[1].port) as client:
        other = JobQueue(client, prefix=prefix)
        await other.submit("tomorrow", actions[30:40])
        await other.aclose()
        assert await client.exists(key_of(prefix))  # the caller's client is open still
    owner = shared_cluster.owner(key_of(prefix))
    slot = shared_cluster.slot_of(key_of(prefix))
    ours = list(ask(owner, "KEYS", f"{prefix}:*/jobs*"))
    assert len(ours) > 3
    assert {ask(owner, "CLUSTER", "KEYSLOT", key) for key in ours} == {slot}


async def test_a_cluster_that_refuses_the_client_is_not_waited_for(
    shared_cluster: ClusterProcess, shared_redis: RedisProcess, prefix: str
) -> None:
    """Would wait for a minute, as in an outage: redis-py reports a wrong password as if no node could be reached."""
    hosts = shared_cluster.url.partition("//")[2]
    user = f"narrow-{prefix}"
    ask_of_all(shared_cluster, "ACL", "SETUSER", user, "on", ">right", "~*", "+@all", "-cluster")
    for url, said in (
        (f"redis+cluster://nobody:wrong@{hosts}", "password"),
        (f"redis+cluster://{user}:right@{hosts}", "docs/redis.md"),
        (f"redis+cluster://127.0.0.1:{shared_redis.port}", "Use a redis:// URL"),
    ):
        async with JobQueue.from_url(url, prefix=prefix, patience=600.0) as jobs, asyncio.timeout(60.0):
            with pytest.raises(JobError, match=f"Redis rejected the connection: .*{said}") as raised:
                await jobs.list()
            assert not raised.value.may_pass
    ask_of_all(shared_cluster, "ACL", "DELUSER", user)


def ask_of_all(cluster: ClusterProcess, *words: str) -> None:
    for node in cluster.nodes:
        ask(node, *words)


async def test_jobs_go_on_at_the_replica(
    shared_cluster: ClusterProcess, session: OpenSession, prefix: str, actions: list[ScheduleBot]
) -> None:
    """Would end a worker when the node of its jobs fails."""
    async with JobQueue.from_url(shared_cluster.url, prefix=prefix, patience=20.0) as jobs, session() as recall:
        await jobs.submit("tonight", actions[:30], chunk_size=3)
        owner = shared_cluster.owner(key_of(prefix))
        replica = shared_cluster.replica_of(owner)
        working = asyncio.create_task(jobs.work(recall))
        await asyncio.to_thread(until, lambda: ask(owner, "HGET", key_of(prefix, "job:tonight"), "done") is not None)
        ask(replica, "CLUSTER", "FAILOVER")
        await asyncio.to_thread(until, lambda: shared_cluster.owner(key_of(prefix)) is replica)
        await working
        status = await jobs.status("tonight")
        assert status.finished
        assert status.done == 30
    await asyncio.to_thread(shared_cluster.settled)


@pytest.mark.slow
async def test_jobs_go_on_while_their_keys_are_moved_to_another_node(
    shared_cluster: ClusterProcess,
    session: OpenSession,
    sandbox: RecallSandbox,
    prefix: str,
    actions: list[ScheduleBot],
) -> None:
    """Would lose a chunk, do an action twice, or end the worker, while only some keys of the jobs have moved."""
    async with JobQueue.from_url(shared_cluster.url, prefix=prefix, patience=30.0) as jobs, session() as recall:
        await jobs.submit("tonight", actions[:60], chunk_size=2)
        source, slot = shared_cluster.owner(key_of(prefix)), shared_cluster.slot_of(key_of(prefix))
        target = next(node for node in shared_cluster.masters() if node is not source)
        working = asyncio.create_task(jobs.work(recall, concurrency=2))
        await asyncio.to_thread(until, lambda: ask(source, "HGET", key_of(prefix, "job:tonight"), "done") is not None)
        begin_move(slot, source, target)
        while await asyncio.to_thread(move_keys, slot, source, target, 1):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.to_thread(shared_cluster.end_move, slot, target)
        summary = await asyncio.wait_for(working, 90)
        status = await jobs.status("tonight")
        assert (status.finished, status.done, status.failed) == (True, 60, 0)
        assert summary.done == 60
        assert len([outcome async for outcome in jobs.results("tonight")]) == 60
    assert sandbox.report()["operations"]["calendar_events.schedule_bot"]["accepted"] == 60
    await asyncio.to_thread(shared_cluster.settled)
