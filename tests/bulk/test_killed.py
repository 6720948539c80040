"""A job in a process that is killed, or whose disk is full."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from recall_async import JournalError, RecallSession
from tests.bulk.job import actions, expected
from tests.bulk.test_endings import lines
from tests.bulk.world import World, event_id

CONCURRENCY = 8
ROOT = Path(__file__).parents[2]


async def _begin(world: World, journal: Path, *more: str) -> Process:
    command = [sys.executable, "-m", "tests.bulk.job", world.url, str(journal), str(CONCURRENCY), *more]
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=PIPE)


@pytest.mark.slow
async def test_killed_at_any_moment(world: World, tmp_path: Path) -> None:
    """Would do work twice, or not at all, after the process was killed."""
    rng = random.Random(5)
    journal = tmp_path / "journal"
    world.latency = 0.004
    kills = 0
    for _ in range(5):
        process = await _begin(world, journal)
        before = len(world.asked)
        # Not always while requests are under way: also while the file is read, or at the end.
        until = before + rng.randrange(90)
        while len(world.asked) < until and process.returncode is None:  # noqa: ASYNC110  # any moment will do
            await asyncio.sleep(rng.random() * 0.01)
        if process.returncode is None:
            process.kill()
            kills += 1
        await process.communicate()
        journal.touch()
        done = len(journal.read_bytes().splitlines())
        assert len(world.asked) - done <= (kills + 1) * CONCURRENCY
    assert kills
    process = await _begin(world, journal)
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert world.bots == expected()
    assert world.overlaps == 0
    asked = len(world.asked)
    process = await _begin(world, journal)
    assert await process.wait() == 0
    # Only an event of several actions, or one that shares the bot of such an event, is gone through again.
    several = {number % 200 for number in range(0, 240, 6)}
    assert {request.event % 200 for request in world.asked[asked:]} <= several
    assert world.bots == expected()
    assert {line["event_id"] for line in lines(journal)} == {event_id(number) for number in range(240)}


async def test_two_processes_on_one_journal(world: World, recall: RecallSession, tmp_path: Path) -> None:
    """Would let two processes do the same job at the same time, or lock a journal for ever."""
    journal = tmp_path / "journal"
    world.gate.clear()
    process = await _begin(world, journal)
    await world.arrived(1)
    with pytest.raises(JournalError, match="in use by another job"):
        await anext(recall.bulk([], journal=journal))
    process.kill()
    await process.communicate()
    assert [outcome async for outcome in recall.bulk([], journal=journal)] == []


async def test_a_full_disk(world: World, tmp_path: Path) -> None:
    """Would go on without writing down what it does, or leave half a line in the file."""
    journal = tmp_path / "journal"
    process = await _begin(world, journal, "20000")
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert b"JournalError" in errors
    assert b"File too large" in errors
    written = lines(journal)
    assert journal.read_bytes().endswith(b"\n")
    assert 20 < len(written) < len(world.asked) <= len(written) + CONCURRENCY
    process = await _begin(world, journal)
    assert await process.wait() == 0
    assert world.bots == expected()
    assert len(world.asked) <= len(actions()) + CONCURRENCY
