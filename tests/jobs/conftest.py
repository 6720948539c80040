"""Redis servers, and workspaces to work on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recall_async import RecallSession, ScheduleBot
from recall_async.jobs import JobQueue
from recall_async.limits.quota import base_quota
from recall_async.limits.redis import RedisQuotaStore
from recall_async.sandbox import RecallSandbox
from tests.redis.conftest import own_redis, prefix, shared_cluster, shared_redis
from tests.redis.server import RedisProcess

__all__ = ["own_redis", "prefix", "shared_cluster", "shared_redis"]

SCHEDULE = "calendar_events.schedule_bot"


@pytest.fixture
def sandbox() -> Iterator[RecallSandbox]:
    with RecallSandbox(events=200, calendars=2, quota_scale=100.0) as sandbox:
        yield sandbox


@pytest.fixture
def actions(sandbox: RecallSandbox) -> list[ScheduleBot]:
    """A bot on each upcoming event: the soonest last."""
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    events = sorted(
        (
            event
            for event in sandbox.snapshot()["events"]
            if event["start_time"] > soon and event["meeting_url"] and not event["is_deleted"]
        ),
        key=lambda event: event["start_time"],
    )
    return [
        ScheduleBot(event["id"], f"key {event['id']}", {"bot_name": "Notes"}, event["start_time"])
        for event in events[::-1]
    ]


@pytest.fixture
async def jobs(shared_redis: RedisProcess, prefix: str) -> AsyncIterator[JobQueue]:
    async with JobQueue.from_url(shared_redis.url, prefix=prefix, lease=1.0, patience=5.0) as jobs:
        yield jobs


@pytest.fixture
def session(sandbox: RecallSandbox, shared_redis: RedisProcess, prefix: str) -> Callable[..., RecallSession]:
    """Makes sessions of one workspace, on a quota that they share through Redis."""

    def make(**options: Any) -> RecallSession:
        settings: dict[str, Any] = {
            "base_url": sandbox.url,
            "workspace": "default",
            "quota_store": RedisQuotaStore.from_url(shared_redis.url, prefix=prefix),
            "quotas": {SCHEDULE: base_quota(SCHEDULE).scaled(100.0)},
        }
        return RecallSession(sandbox.api_key, **(settings | options))

    return make
