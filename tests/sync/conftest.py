"""A sandbox and a session that talks to it, with the quota out of the way."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from recall_async import Quota, RecallSession, RetryPolicy
from recall_async.operations import OPERATIONS
from recall_async.sandbox import RecallSandbox

SCALE = 1000
GREEDY = {name: Quota(row.limit * SCALE, 60, burst=row.limit * SCALE) for name, row in OPERATIONS.items()}


@asynccontextmanager
async def connected(sandbox: RecallSandbox, **settings: Any) -> AsyncIterator[RecallSession]:
    """A session that sends as fast as it can, and tries again soon."""
    settings = {"quotas": GREEDY, "retry": RetryPolicy(backoff=0.01), **settings}
    async with RecallSession(sandbox.api_key, base_url=sandbox.url, **settings) as recall:
        yield recall


@pytest.fixture
async def sandbox() -> AsyncIterator[RecallSandbox]:
    async with RecallSandbox(events=150, calendars=4, quota_scale=SCALE) as sandbox:
        yield sandbox


@pytest.fixture
async def recall(sandbox: RecallSandbox) -> AsyncIterator[RecallSession]:
    async with connected(sandbox) as recall:
        yield recall


def sent(sandbox: RecallSandbox) -> dict[str, int]:
    """Requests that changed bots or tried to, by operation."""
    operations = sandbox.report()["operations"]
    names = ("calendar_events.schedule_bot", "calendar_events.remove_bot")
    return {
        name.partition(".")[2]: sum(
            operations[name][kind] for kind in ("accepted", "throttled", "conflicted", "rejected")
        )
        for name in names
    }
