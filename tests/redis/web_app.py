"""A web backend as people write it: FastAPI, one session for each worker process, the quota in Redis."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from fastapi import FastAPI, HTTPException

from recall_async import DeadlineExceededError, Quota, RecallSession
from recall_async.limits.redis import RedisQuotaStore

DEADLINE = float(os.environ["DEADLINE"]) if "DEADLINE" in os.environ else None
"""Seconds for each request; with it, the quota is the API's."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One session for as long as the process serves."""
    async with RecallSession(
        workspace="production",
        quotas=None if DEADLINE else {"calendar_events.retrieve": Quota(20, 1.0, burst=20)},
        quota_store=RedisQuotaStore.from_url(os.environ["REDIS_URL"]),
    ) as recall:
        app.state.recall = recall
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/events/{event_id}")
async def event(event_id: UUID) -> dict[str, object]:
    """The event, by whichever worker."""
    try:
        found = await app.state.recall.calendar_events.retrieve(event_id, deadline=DEADLINE)
    except DeadlineExceededError as error:
        raise HTTPException(503, str(error)) from error
    return {"id": str(found.id), "worker": os.getpid()}


@app.get("/worker")
async def worker() -> dict[str, int]:
    """Which worker answers, without a call to the API."""
    return {"worker": os.getpid()}
