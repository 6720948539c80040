"""Jobs on the master that Sentinels name: they go on when another server takes its place."""

from __future__ import annotations

import asyncio

from recall_async import RecallSession, ScheduleBot
from recall_async.jobs import JobQueue
from recall_async.limits.redis import RedisQuotaStore
from recall_async.sandbox import RecallSandbox
from tests.redis.sentinels import clients, closed, watched


async def test_jobs_go_on_at_the_promoted_replica(sandbox: RecallSandbox, actions: list[ScheduleBot]) -> None:
    """Would not know the URL, fail when the master changes, or leave a connection with a Sentinel open."""
    with watched() as service:
        before = clients(service.sentinel)
        store = RedisQuotaStore.from_url(service.url)
        session = RecallSession(sandbox.api_key, base_url=sandbox.url, workspace="default", quota_store=store)
        async with JobQueue.from_url(service.url, patience=20.0) as jobs, session as recall:
            await jobs.submit("tonight", actions[:30], chunk_size=3)
            master = service.master()
            await asyncio.to_thread(service.fail_over)
            await asyncio.to_thread(service.promoted, master)
            master.kill()  # with the queue's connection
            assert (await jobs.work(recall)).done == 30
            assert (await jobs.status("tonight")).finished
        await closed(service.sentinel, before)
