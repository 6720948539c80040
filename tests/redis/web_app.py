"""A web backend as people write it: FastAPI, one session for each worker process, the quota in Redis."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import FastAPI, HTTPException

from recall_async import DeadlineExceededError, Quota, RecallSession
from recall_async.limits.redis import RedisQuotaStore

SMALL_QUOTA = {"calendar_events.retrieve": Quota(20, 1.0, burst=20)} if "SMALL_QUOTA" in os.environ else None
"""The session's quotas; by default the API's."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One session for as long as the process serves."""
    async with RecallSession(
        workspace="production",
        quotas=SMALL_QUOTA,
        quota_store=RedisQuotaStore.from_url(os.environ["REDIS_URL"]),
    ) as recall:
        app.state.recall = recall
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/events/{event_id}")
async def event(event_id: UUID, deadline: float | None = None) -> dict[str, object]:
    """Return the event within `deadline` seconds, from any worker."""
    try:
        found = await app.state.recall.calendar_events.retrieve(event_id, deadline=deadline)
    except DeadlineExceededError as error:
        raise HTTPException(503, str(error)) from error
    return {"id": str(found.id), "worker": os.getpid()}


@app.get("/worker")
async def worker() -> dict[str, int]:
    """Which worker answers, without a call to the API."""
    return {"worker": os.getpid()}
