"""Workers that are killed and suspended at random moments, while the API and Redis are away at random: jobs end done.

Every run is a seed: a failing one is `python -m pytest tests/jobs/test_chaos.py -k SEED -m ''`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from recall_async import RemoveBot
from recall_async.bulk.actions import Action
from recall_async.jobs import JobQueue, JobStatus
from tests.bulk.job import actions, expected
from tests.bulk.world import Asked, World
from tests.moments import MOMENTS, many_moments
from tests.redis.server import RedisProcess

WORKERS = 3
LEASE = 1.0

StartRedis = Callable[..., RedisProcess]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")


def jobs_of_a_round() -> dict[str, list[Action]]:
    """The actions of `tests.bulk.job`, in three jobs of which each undoes some of the one before."""
    every = actions()
    first = next(place for place, action in enumerate(every) if isinstance(action, RemoveBot))
    last = max(place for place, action in enumerate(every) if isinstance(action, RemoveBot)) + 1
    return {"put on": every[:first], "take off": every[first:last], "put on again": every[last:]}


class Crew:
    """Workers in processes of their own. One that was killed is replaced; none may end with an error."""

    def __init__(self, redis: str, workspace: str, url: str) -> None:
        self._command = [sys.executable, "-m", "tests.jobs.chaos_worker", redis, workspace, url, str(LEASE)]
        self._processes: list[asyncio.subprocess.Process] = []
        self._resumed: set[asyncio.Task[None]] = set()

    async def start(self, count: int) -> None:
        for _ in range(count):
            self._processes.append(
                await asyncio.create_subprocess_exec(
                    *self._command, cwd=Path(__file__).parents[2], stderr=asyncio.subprocess.PIPE
                )
            )

    def running(self) -> list[asyncio.subprocess.Process]:
        return [process for process in self._processes if process.returncode is None]

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        process.kill()
        await self.start(1)

    def suspend(self, process: asyncio.subprocess.Process, seconds: float) -> None:
        """Stop a process, and let it go on later."""

        async def wake() -> None:
            await asyncio.sleep(seconds)
            if process.returncode is None:
                os.kill(process.pid, signal.SIGCONT)

        os.kill(process.pid, signal.SIGSTOP)
        self._resumed.add(asyncio.create_task(wake()))

    async def check(self) -> None:
        """None has ended with an error so far."""
        for process in self._processes:
            if process.returncode not in (None, 0, -signal.SIGKILL):
                assert process.stderr is not None
                pytest.fail((await process.stderr.read()).decode())

    async def ended(self) -> None:
        """Wait for the end of all."""
        if self._resumed:
            await asyncio.wait(self._resumed)
        async with asyncio.timeout(60):
            for process in self._processes:
                await process.communicate()
        await self.check()

    async def close(self) -> None:
        for process in self.running():
            process.kill()
        for process in self._processes:
            await process.wait()


@asynccontextmanager
async def redis_comes_and_goes(redis: RedisProcess, rng: random.Random) -> AsyncIterator[None]:
    """Let Redis hang now and then, or be started again with its data."""

    async def come_and_go() -> None:
        while True:
            await asyncio.sleep(rng.random() * 3)
            if rng.random() < 0.75:
                redis.freeze()
                try:
                    await asyncio.sleep(rng.random() * 1.5)
                finally:
                    redis.thaw()
            else:
                redis.kill()
                try:
                    await asyncio.sleep(rng.random() * 0.5)
                finally:
                    redis.start()

    mishaps = asyncio.create_task(come_and_go())
    try:
        yield
    finally:
        mishaps.cancel()
        await asyncio.wait({mishaps})


async def chaos(own_redis: StartRedis, seed: int, number: int, moments: int) -> None:
    """Send so many signals, each at a random moment of some worker, while there are jobs; then look at what was done."""
    rng = random.Random(seed)
    redis, sent = own_redis("--appendonly", "yes", "--appendfsync", "always"), 0
    async with World() as world:
        back_at = 0.0

        def weather(asked: Asked) -> int:
            nonlocal back_at
            now = asyncio.get_running_loop().time()
            if now >= back_at and rng.random() < 0.005:
                back_at = now + rng.random() * 4
            return rng.choice([502, 503, 504]) if now < back_at else 200

        world.latency = 0.01
        for turn in range(1_000_000):
            workspace = f"turn {turn}"
            world.statuses = weather
            crew = Crew(redis.url, workspace, world.url)
            async with JobQueue.from_url(redis.url, workspace=workspace, lease=LEASE, socket_timeout=0.5) as jobs:
                for name, given in jobs_of_a_round().items():
                    await jobs.submit(name, given, chunk_size=15)
                try:
                    await crew.start(WORKERS)
                    async with redis_comes_and_goes(redis, rng):
                        while sent < moments and not await finished(jobs):
                            await crew.check()
                            await asyncio.sleep(rng.random() * 0.5)
                            victim = rng.choice(crew.running() or [None])  # type: ignore[list-item]
                            if victim is None:
                                break
                            if number == signal.SIGKILL:
                                await crew.kill(victim)
                            else:
                                crew.suspend(victim, rng.random() * 2 * LEASE)
                            sent += 1
                    world.statuses = lambda asked: 200
                    await crew.ended()
                finally:
                    await crew.close()
                await check(jobs, world)
            if sent >= moments:
                return
            world.bots.clear()


async def statuses(jobs: JobQueue) -> list[JobStatus]:
    return [await jobs.status(name) for name in jobs_of_a_round()]


async def finished(jobs: JobQueue) -> bool:
    return all(status.finished for status in await statuses(jobs))


async def check(jobs: JobQueue, world: World) -> None:
    """All of the jobs is done, in effect once and in order, and nothing failed or was given up."""
    for name, given in jobs_of_a_round().items():
        status = await jobs.status(name)
        assert (status.finished, status.done, status.failed, status.chunks_dead) == (True, len(given), 0, 0), status
        lines = [line async for line in jobs.results(name)]
        assert {line.status for line in lines} == {"done"}
        assert len(lines) == len(given)
        assert {line.event_id for line in lines} == {str(action.event_id) for action in given}
    assert world.bots == expected()
    assert world.overlaps == 0


async def test_some_moments(own_redis: StartRedis) -> None:
    """Would lose an action, fail it, or do it in another order, because of the moment at which a worker died."""
    await chaos(own_redis, 1, signal.SIGKILL, 3)


@many_moments
async def test_many_moments(own_redis: StartRedis, seed: int, number: int) -> None:
    """Would lose, fail or repeat an action at a moment that nobody has thought of."""
    await chaos(own_redis, seed, number, MOMENTS)
