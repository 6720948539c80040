"""The programs of docs/jobs.md and docs/celery.md, as they stand there."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from recall_async import ScheduleBot
from recall_async.jobs import JobQueue
from recall_async.sandbox import RecallSandbox
from tests.redis.server import RedisProcess

DOCS = Path(__file__).parents[2] / "docs"


def program(page: str) -> str:
    (text,) = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.M | re.S)
    return str(text)


def children_of(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.fixture
def redis_url(shared_redis: RedisProcess) -> Iterator[str]:
    """A server on which nobody has jobs of the workspace that the pages name."""
    with Redis.from_url(shared_redis.url) as client:
        client.flushall()
        yield shared_redis.url


@pytest.fixture
def environment(sandbox: RecallSandbox, redis_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "RECALL_REDIS_URL": redis_url,
        "RECALL_BASE_URL": sandbox.url,
        "RECALL_API_KEY": sandbox.api_key,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


def test_program_of_the_jobs_page(environment: dict[str, str]) -> None:
    """A reader who copies the program gets an error."""
    source = program("jobs.md").replace(" for e in events]", " for e in events[-30:]]")
    ran = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "total=30, done=30" in ran.stdout
    assert ran.stdout.count(" done\n") == 30


@pytest.mark.slow
async def test_celery_finishes_a_job_though_a_process_of_it_is_killed(
    environment: dict[str, str], redis_url: str, sandbox: RecallSandbox, actions: list[ScheduleBot], tmp_path: Path
) -> None:
    """Would strand a chunk when a Celery process dies, or not work with Celery at all."""
    source = program("celery.md").replace("JobQueue.from_url(REDIS", "JobQueue.from_url(REDIS, lease=1.0")
    (tmp_path / "bots.py").write_text(source)
    sandbox.set_latency(0.2, 0.0)
    given = actions[:50]
    command = [sys.executable, "-m", "celery", "-A", "bots", "worker", "-c", "2", "--loglevel", "warning"]
    program_ = "import asyncio, bots, pickle, sys; asyncio.run(bots.submit('n', pickle.load(sys.stdin.buffer)))"
    with (tmp_path / "celery.log").open("wb") as log:
        celery = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=log, stderr=log)  # noqa: ASYNC220
        try:
            submit = subprocess.run(  # noqa: ASYNC221
                [sys.executable, "-c", program_],
                env=environment,
                cwd=tmp_path,
                input=pickle.dumps(given),
                capture_output=True,
            )
            assert submit.returncode == 0, submit.stderr
            async with JobQueue.from_url(redis_url, workspace="production") as jobs:
                deadline, killed = time.monotonic() + 60, False
                while not (status := await jobs.status("n")).finished:
                    assert time.monotonic() < deadline, (tmp_path / "celery.log").read_text()
                    if not killed and status.chunks_in_work and sandbox.report()["operations"]:
                        for child in children_of(celery.pid):
                            os.kill(child, signal.SIGKILL)
                        killed = True
                assert (killed, status.done, status.chunks_dead) == (True, len(given), 0)
        finally:
            celery.terminate()
            try:
                celery.wait(10)
            except subprocess.TimeoutExpired:
                celery.kill()
                celery.wait()
