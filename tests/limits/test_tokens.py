"""The token bucket of a lane."""

from __future__ import annotations

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from recall_async.limits.local.tokens import Tokens
from tests.virtual_time import run


def test_look_without_a_token_sets_no_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lane that waits for a token looks at each response: each look would cost a waiter of the bucket and its timer."""
    asked = 0
    acquire = AsyncLimiter.acquire

    async def counted(self: AsyncLimiter, amount: float = 1) -> None:
        nonlocal asked
        asked += 1
        await acquire(self, amount)

    monkeypatch.setattr(AsyncLimiter, "acquire", counted)

    async def looks() -> list[float]:
        tokens, loop = Tokens(2, 1.0), asyncio.get_running_loop()
        first = loop.time()
        assert [tokens.take(first), tokens.take(first)] == [first, first]
        found = []
        for _ in range(4):
            await asyncio.sleep(0.3)
            now = loop.time()
            taken = tokens.take(now)
            found.append(round(taken - first, 2))
        return found

    assert run(looks()) == [1.0, 1.0, 1.0, 1.2]
    assert asked == 3
