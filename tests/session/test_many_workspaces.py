"""A program that works for very many customers, one after the other, does not grow."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from tests.redis.conftest import own_redis  # noqa: F401 - a fixture
from tests.redis.server import RedisProcess


async def growth(way: str, workspaces: int, *more: str) -> float:
    """By how many MiB a program grew."""
    program = [sys.executable, "-m", "tests.session.many_workspaces", way, str(workspaces), *more]
    child = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    assert child.returncode == 0
    return float(out)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells in /proc what is in memory")
@pytest.mark.parametrize("way", ["loop", "loops"])
async def test_a_thousand_workspaces(way: str) -> None:
    """Would keep lanes, sessions or loops of customers that a program no longer works for: 70 KiB each."""
    assert await growth(way, 1000) < 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells in /proc what is in memory")
@pytest.mark.parametrize(("way", "workspaces"), [("loop", 100_000), ("loops", 30_000)])
async def test_very_many_workspaces_within_one_window(way: str, workspaces: int) -> None:
    """Would take a gigabyte for what three calls of each customer leave until their window is over."""
    assert await growth(way, workspaces) < workspaces / 1000


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells in /proc what is in memory")
async def test_very_many_workspaces_in_redis(own_redis: Callable[..., RedisProcess]) -> None:  # noqa: F811
    """Would take a gigabyte for what a process must know of each quota while its slots count."""
    assert await growth("redis", 30_000, own_redis().url) < 30
