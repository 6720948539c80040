"""The programs of docs/redis.md are run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

from recall_async import Priority, Quota
from recall_async.limits.redis import RedisQuotaStore
from recall_async.sandbox import RecallSandbox
from tests.redis.opened import opened
from tests.redis.server import RedisProcess

PROGRAMS = re.findall(r"^```python\n(.*?)^```", (Path(__file__).parents[2] / "docs/redis.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program_runs(number: int, shared_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who copies this program gets an error."""
    with RecallSandbox(events=5, calendars=1) as sandbox:
        monkeypatch.setenv("RECALL_API_KEY", sandbox.api_key)
        monkeypatch.setenv("RECALL_BASE_URL", sandbox.url)
        monkeypatch.setenv("RECALL_REDIS_URL", shared_redis.url)
        exec(compile(PROGRAMS[number], f"redis.md[{number}]", "exec"), {"__name__": "program"})


async def test_documented_permissions_suffice(own_redis: Callable[..., RedisProcess]) -> None:
    """Would fail calls of those who give the user of Redis no more rights than the page says."""
    page = (Path(__file__).parents[2] / "docs/redis.md").read_text()
    (listed,) = re.findall(r"\* Permissions: (.*?), on keys `recall:\*`", page, re.S)
    commands = [f"+{name.lower()}" for names in re.findall(r"`(.*?)`", listed, re.S) for name in names.split()]
    server = own_redis()
    async with Redis.from_url(server.url) as client:
        await client.acl_setuser("u", enabled=True, passwords=["+p"], keys=["recall:*"], commands=commands)
    async with opened(server.url, username="u", password="p") as open_lane:
        store = RedisQuotaStore.from_url(server.url, username="u", password="p")
        lane = open_lane(Quota(20, 0.5), store=store)
        bulk = [asyncio.create_task(lane.admit(Priority.BULK)) for _ in range(30)]
        for call in bulk:
            (await asyncio.wait_for(call, 10)).answered()
        (await lane.admit()).rejected(0.1)
        (await lane.admit()).answered()
        other = open_lane(Quota(10, 1.0), store=RedisQuotaStore.from_url(server.url, username="u", password="p"))
        (await other.admit()).unused()
        await store.usage("w")
        await store.resume("w")
