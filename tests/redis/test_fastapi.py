"""FastAPI under several uvicorn workers: the processes of one web backend share the quota."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from recall_async.sandbox import RecallSandbox
from tests.ports import free_port
from tests.redis.server import RedisProcess

ROOT = Path(__file__).parents[2]
RETRIEVE = "calendar_events.retrieve"


@pytest.fixture
def sandbox() -> Iterator[RecallSandbox]:
    with RecallSandbox(events=5, calendars=1, quotas={RETRIEVE: (20, 1.0)}, latency=((0, 0.05), (0, 0.05))) as sandbox:
        yield sandbox


@contextmanager
def serving(sandbox: RecallSandbox, redis: RedisProcess, **settings: str) -> Iterator[str]:
    """The address of `uvicorn --workers 2`."""
    port = str(free_port())
    settings |= {"RECALL_API_KEY": sandbox.api_key, "RECALL_BASE_URL": sandbox.url, "REDIS_URL": redis.url}
    command = [sys.executable, "-m", "uvicorn", "tests.redis.web_app:app", "--workers", "2", "--port", port]
    with subprocess.Popen(
        [*command, "--log-level", "warning"], cwd=ROOT, env=os.environ | settings, start_new_session=True
    ) as process:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


async def both_workers(http: aiohttp.ClientSession) -> set[int]:
    """Wait until both worker processes serve."""
    limit = time.monotonic() + 60
    workers: set[int] = set()
    while len(workers) < 2:
        assert time.monotonic() < limit, "the backend does not serve with both of its workers"
        try:
            async with http.get("/worker") as answer:
                workers.add((await answer.json())["worker"])
        except aiohttp.ClientConnectionError:
            await asyncio.sleep(0.1)
    return workers


@pytest.fixture
def backend(sandbox: RecallSandbox, shared_redis: RedisProcess) -> Iterator[str]:
    with serving(sandbox, shared_redis, SMALL_QUOTA="1") as address:
        yield address


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

        workers = await both_workers(http)
        served = [await work for work in asyncio.as_completed([get() for _ in range(60)])]
    assert set(served) == workers
    seen = sandbox.report()["operations"][RETRIEVE]
    assert seen["throttled"] == 0
    assert seen["peak"] <= 20


DEADLINE = 5.0
"""Seconds for each web request, on a machine that does nothing else."""
PACED = 54.0
"""Seconds that the burst took when a lane sent a tenth of its quota at once and spread the rest."""


@pytest.mark.slow
async def test_idle_workspace_serves_a_burst_within_its_deadline(own_redis: Callable[..., RedisProcess]) -> None:
    """Would answer half of a burst with 503 although the API would have granted all of it.

    A deadline counts seconds of the wall clock, for which the person at the browser waits, and not the seconds in which the
    backend was allowed to run. So on a busy machine, where answers without any call to the API take long, the deadline is
    longer. It stays so short that a burst that is paced could not keep it.
    """
    with (
        RecallSandbox(events=5, calendars=1, latency=((0, 0.05), (0, 0.05))) as sandbox,
        serving(sandbox, own_redis()) as address,
    ):
        event_id = sandbox.snapshot()["events"][0]["id"]
        async with aiohttp.ClientSession(
            address, connector=aiohttp.TCPConnector(force_close=True, limit=50), timeout=aiohttp.ClientTimeout(120)
        ) as http:
            await both_workers(http)

            async def get(path: str) -> str:
                async with http.get(path) as answer:
                    return "answered" if answer.status == 200 else f"{answer.status}: {await answer.text()}"

            begun = time.monotonic()
            await asyncio.gather(*(get("/worker") for _ in range(300)))
            deadline = min(max(DEADLINE, 5 * (time.monotonic() - begun)), PACED / 2)
            answers = await asyncio.gather(*(get(f"/events/{event_id}?deadline={deadline}") for _ in range(300)))
        seen = sandbox.report()["operations"][RETRIEVE]
    assert Counter(answers) == {"answered": 300}
    assert seen["throttled"] == 0
