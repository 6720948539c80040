"""A web backend as people write it: FastAPI, one session for each worker process, the quota in Redis."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import FastAPI

from recall_async import Quota, RecallSession
from recall_async.limits.redis import RedisQuotaStore


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One session for as long as the process serves."""
    async with RecallSession(
        workspace="production",
        quotas={"calendar_events.retrieve": Quota(20, 1.0, burst=20)},
        quota_store=RedisQuotaStore.from_url(os.environ["REDIS_URL"]),
    ) as recall:
        app.state.recall = recall
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/events/{event_id}")
async def event(event_id: UUID) -> dict[str, object]:
    """The event, by whichever worker."""
    found = await app.state.recall.calendar_events.retrieve(event_id)
    return {"id": str(found.id), "worker": os.getpid()}
