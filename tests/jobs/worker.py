"""A worker of several workspaces: python -m tests.jobs.worker REDIS PREFIX LEASE QUOTA NAME=URL ..."""

from __future__ import annotations

import asyncio
import sys

from recall_async import Quota, RecallSession
from recall_async.jobs import JobQueue
from recall_async.limits.redis import RedisQuotaStore


async def main() -> None:
    redis, prefix, lease, limit, *workspaces = sys.argv[1:]
    store = RedisQuotaStore.from_url(redis, prefix=prefix, longest_request=5.0)

    async def serve(name: str, url: str) -> None:
        quotas = {"calendar_events.schedule_bot": Quota(int(limit), 1.0, burst=int(limit), reserve=0)}
        async with (
            JobQueue.from_url(redis, prefix=prefix, workspace=name, lease=float(lease)) as jobs,
            RecallSession(
                "sandbox-key", base_url=url, workspace=name, quotas=quotas, quota_store=store, timeout=5.0
            ) as recall,
        ):
            await jobs.work(recall)

    async with asyncio.TaskGroup() as all_of_them:
        for workspace in workspaces:
            all_of_them.create_task(serve(*workspace.split("=", 1)))


if __name__ == "__main__":
    asyncio.run(main())
