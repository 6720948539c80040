"""A scripted server, and sessions that talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import uuid4

import pytest

from recall_async import Quota, RecallSession, RetryPolicy
from recall_async.operations import OPERATIONS
from tests.session.scripted_server import ScriptedServer

API_KEY = "5ecre7-kEy/0123456789abcdef"
PLENTY = {name: Quota(60_000, 60.0) for name in OPERATIONS}
IMPATIENT = RetryPolicy(backoff=0.0005, budget=1_000_000)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest.fixture
def workspace() -> str:
    """A name that no other test uses: what a workspace sent is remembered beyond the loop that sent it."""
    return uuid4().hex


@pytest.fixture
async def connect(server: ScriptedServer, workspace: str) -> AsyncIterator[Callable[..., RecallSession]]:
    """Opens sessions, all of one workspace, that are closed at the end of the test."""
    async with AsyncExitStack() as stack:

        def connect(**settings: Any) -> RecallSession:
            usual = {
                "base_url": server.url,
                "workspace": workspace,
                "quotas": PLENTY,
                "retry": IMPATIENT,
                "timeout": 5.0,
            }
            session = RecallSession(API_KEY, **usual | settings)
            stack.push_async_callback(session.aclose)
            return session

        yield connect


@pytest.fixture
def recall(connect: Callable[..., RecallSession]) -> RecallSession:
    """A session with quick retries."""
    return connect()
