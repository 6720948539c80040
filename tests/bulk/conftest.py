"""A world of events, and a session whose quota is out of the way."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from recall_async import Quota, RecallSession, RetryPolicy
from tests.bulk.world import World

PLENTY = Quota(100_000, 60, burst=100_000)
OPERATIONS = ("calendar_events.schedule_bot", "calendar_events.remove_bot")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World() as world:
        yield world


@pytest.fixture
async def connect(world: World) -> AsyncIterator[Callable[..., RecallSession]]:
    """Opens sessions that are closed at the end of the test."""
    async with AsyncExitStack() as stack:

        def connect(**settings: Any) -> RecallSession:
            settings = {
                "base_url": world.url,
                "quotas": dict.fromkeys(OPERATIONS, PLENTY),
                "retry": RetryPolicy(attempts=2, backoff=0.001),
                **settings,
            }
            session = RecallSession("key", **settings)
            stack.push_async_callback(session.aclose)
            return session

        yield connect


@pytest.fixture
def recall(connect: Callable[..., RecallSession]) -> RecallSession:
    return connect()
