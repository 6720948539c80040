"""A worker for `test_chaos`: python -m tests.jobs.chaos_worker REDIS WORKSPACE URL LEASE."""

from __future__ import annotations

import asyncio
import sys

from recall_async import Quota, RecallSession
from recall_async.jobs import JobQueue
from recall_async.limits.redis import RedisQuotaStore
from tests.bulk.job import OPERATIONS


async def main(redis: str, workspace: str, url: str, lease: str) -> None:
    # Short, since for that time Redis holds everybody after a restart.
    store = RedisQuotaStore.from_url(redis, longest_request=3.0)
    quotas = dict.fromkeys(OPERATIONS, Quota(1000, 0.5, burst=1000))
    async with (
        JobQueue.from_url(redis, workspace=workspace, lease=float(lease), deliveries=100, socket_timeout=0.5) as jobs,
        RecallSession(
            "key", base_url=url, workspace=workspace, quotas=quotas, quota_store=store, timeout=3.0
        ) as recall,
    ):
        await jobs.work(recall, concurrency=4)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
