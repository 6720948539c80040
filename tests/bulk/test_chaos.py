"""Jobs that are killed and suspended at random moments, on a server that is away at random: each action ends done.

Every run is a seed: a failing one is `python -m pytest tests/bulk/test_chaos.py -k SEED -m ''`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from tests.bulk.job import actions, expected
from tests.bulk.test_endings import lines
from tests.bulk.world import Asked, World, event_id
from tests.moments import MOMENTS, many_moments

CONCURRENCY = 8

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")


async def begin(world: World, journal: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bulk.job", world.url, str(journal), str(CONCURRENCY), stderr=asyncio.subprocess.PIPE
    )  # fmt: skip


async def chaos(tmp_path: Path, seed: int, number: int, moments: int) -> None:
    """Send so many signals, each at a random moment of a job that is begun again whenever it has ended."""
    rng = random.Random(seed)
    async with World() as world:
        back_at = 0.0

        def weather(asked: Asked) -> int:
            nonlocal back_at
            now = asyncio.get_running_loop().time()
            if now >= back_at and rng.random() < 0.02:
                back_at = now + rng.random() * 0.5
            return rng.choice([502, 503, 504]) if now < back_at else 200

        world.statuses, world.latency = weather, 0.003
        finished, asked, sent = 0, 0, 0
        while sent < moments:
            journal = tmp_path / f"journal {finished}"
            process = await begin(world, journal)
            try:
                until = len(world.asked) + rng.randrange(1, 150)
                while len(world.asked) < until and process.returncode is None:  # noqa: ASYNC110  # any moment will do
                    await asyncio.sleep(rng.random() * 0.02)
                if process.returncode is None:
                    os.kill(process.pid, number)
                    sent += 1
                    if number == signal.SIGSTOP:
                        await asyncio.sleep(rng.random() * 0.3)
                        os.kill(process.pid, signal.SIGCONT)
                        await process.wait()
                _, errors = await process.communicate()
            finally:
                if process.returncode is None:
                    process.kill()
            assert process.returncode in (0, -signal.SIGKILL), errors.decode()
            if process.returncode == 0:
                check(world, journal)
                finished, asked = finished + 1, len(world.asked)
                world.bots.clear()
        world.statuses = lambda asked: 200
        journal = tmp_path / f"journal {finished}"
        process = await begin(world, journal)
        _, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        check(world, journal)
        assert asked <= len(world.asked)


def check(world: World, journal: Path) -> None:
    """All of the job is done, in effect once, and nothing failed."""
    assert world.bots == expected()
    assert world.overlaps == 0
    results = lines(journal)
    assert {line["status"] for line in results} == {"done"}
    assert {line["event_id"] for line in results} == {event_id(number) for number in range(240)}
    assert len(results) >= len(actions())


async def test_some_moments(tmp_path: Path) -> None:
    """Would lose an action, fail it, or do it in another order, because of the moment at which the process ended."""
    await chaos(tmp_path, 1, signal.SIGKILL, 2)


@many_moments
async def test_many_moments(tmp_path: Path, seed: int, number: int) -> None:
    """Would lose, fail or repeat an action at a moment that nobody has thought of."""
    await chaos(tmp_path, seed, number, MOMENTS)
