"""FastAPI under several uvicorn workers: the processes of one web backend share the quota."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from recall_async.sandbox import RecallSandbox
from tests.redis.server import RedisProcess

ROOT = Path(__file__).parents[2]
RETRIEVE = "calendar_events.retrieve"


@pytest.fixture
def sandbox() -> Iterator[RecallSandbox]:
    with RecallSandbox(events=5, calendars=1, quotas={RETRIEVE: (20, 1.0)}, latency=((0, 0.05), (0, 0.05))) as sandbox:
        yield sandbox


@pytest.fixture
def backend(sandbox: RecallSandbox, shared_redis: RedisProcess) -> Iterator[str]:
    """The address of `uvicorn --workers 2`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    settings = {"RECALL_API_KEY": sandbox.api_key, "RECALL_BASE_URL": sandbox.url, "REDIS_URL": shared_redis.url}
    command = [sys.executable, "-m", "uvicorn", "tests.redis.web_app:app", "--workers", "2", "--port", port]
    with subprocess.Popen(
        [*command, "--log-level", "warning"], cwd=ROOT, env=os.environ | settings, start_new_session=True
    ) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def test_workers_share_the_quota(backend: str, sandbox: RecallSandbox) -> None:
    """Would give each worker process of a web server the whole quota."""
    event_id = sandbox.snapshot()["events"][0]["id"]
    # A connection for each request: which worker gets it, the kernel decides.
    async with aiohttp.ClientSession(backend, connector=aiohttp.TCPConnector(force_close=True, limit=0)) as http:

        async def get() -> int:
            async with http.get(f"/events/{event_id}") as answer:
                assert answer.status == 200, await answer.text()
                worker: int = (await answer.json())["worker"]
                return worker

        limit = time.monotonic() + 30
        workers: set[int] = set()
        while len(workers) < 2:
            assert time.monotonic() < limit, "the backend does not serve with both of its workers"
            try:
                workers |= set(await asyncio.gather(*(get() for _ in range(4))))
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.1)
        served = [await work for work in asyncio.as_completed([get() for _ in range(60)])]
    assert set(served) == workers
    seen = sandbox.report()["operations"][RETRIEVE]
    assert seen["throttled"] == 0
    assert seen["peak"] <= 20
