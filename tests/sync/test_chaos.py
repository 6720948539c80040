"""`apply`, killed and suspended at random moments, on a server that is away at random: the plan is carried out, once.

Every run is a seed: a failing one is `python -m pytest tests/sync/test_chaos.py -k SEED -m ''`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from recall_async import Deduplication, Plan, RecallSession, RecordingPolicy
from recall_async.sandbox import RecallSandbox
from tests.moments import MOMENTS, many_moments
from tests.sync.conftest import SCALE, connected

CONCURRENCY = 4
OPERATIONS = ("calendar_events.schedule_bot", "calendar_events.remove_bot")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")


def policy(version: int) -> RecordingPolicy:
    """A policy that wants other bots with each version: for other meetings, and shared between other events."""
    excluded = (["1:1"], ["review"], ["sync", "standup"])[version % 3]
    scheme = (Deduplication.MEETING, Deduplication.EVENT)[version % 2]
    return RecordingPolicy(bot_config={"bot_name": "Notes"}, title_excludes=excluded, deduplication=scheme)


@asynccontextmanager
async def outages(sandbox: RecallSandbox, rng: random.Random) -> AsyncIterator[None]:
    """Take the server away now and then."""

    async def come_and_go() -> None:
        while True:
            await asyncio.sleep(rng.random() * 1.5)
            if rng.random() < 0.7:
                sandbox.fault(None, status=rng.choice([502, 503, 504]), times=None)
            else:
                sandbox.fault(None, kind="reset", times=None, applied=rng.random() < 0.5)
            await asyncio.sleep(rng.random() * 0.5)
            sandbox.clear_faults()

    weather = asyncio.create_task(come_and_go())
    try:
        yield
    finally:
        weather.cancel()
        await asyncio.wait({weather})
        sandbox.clear_faults()


class Applying:
    """A sandbox, and plans that are applied to it by the command line."""

    def __init__(self, sandbox: RecallSandbox, recall: RecallSession, folder: Path) -> None:
        self._sandbox = sandbox
        self._recall = recall
        self._folder = folder
        self._number = 0
        self.plan: Plan

    async def make_plan(self) -> None:
        """Change the calendars, and decide what to do about it."""
        self._sandbox.mutate(40)
        self._number += 1
        plan = await self._recall.plan(policy=policy(self._number), remove_foreign=True)
        # As for a bot that another event keeps: some of these changes take two requests.
        decisions = tuple(
            replace(each, detach=each.kind == "reschedule" and number % 2 == 0)
            for number, each in enumerate(plan.decisions)
        )
        self.plan = replace(plan, decisions=decisions)
        self._file.write_text(self.plan.to_json())

    @property
    def _file(self) -> Path:
        return self._folder / f"plan {self._number}.json"

    @property
    def results(self) -> Path:
        return self._folder / f"results {self._number}.jsonl"

    async def begin(self) -> asyncio.subprocess.Process:
        options = ("--results", self.results, "--concurrency", CONCURRENCY, "--quota-scale", SCALE, "--yes", "--json")
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "recall_async", "apply", str(self._file), *map(str, options)),
            env={**os.environ, "RECALL_BASE_URL": self._sandbox.url, "RECALL_API_KEY": self._sandbox.api_key},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    def arrived(self) -> int:
        """Requests that changed something."""
        operations = self._sandbox.report()["operations"]
        return sum(operations[name]["accepted"] for name in OPERATIONS)

    async def check(self) -> None:
        """Everything is as the plan wants it, and nothing failed."""
        left = await self._recall.plan(policy=policy(self._number), remove_foreign=True)
        assert not left, f"{left}"
        lines = [json.loads(line) for line in self.results.read_text().splitlines()]
        assert {line["status"] for line in lines} <= {"done", "skipped"}
        assert {line["event_id"] for line in lines} == {decision.event_id for decision in self.plan}


async def chaos(tmp_path: Path, seed: int, number: int, moments: int) -> None:
    """Send so many signals, each at a random moment of an `apply` that is begun again until it has ended."""
    rng = random.Random(seed)
    with RecallSandbox(events=150, calendars=4, quota_scale=SCALE, latency=(0.002, 0.002)) as sandbox:
        async with connected(sandbox) as recall:
            applying, sent = Applying(sandbox, recall, tmp_path), 0
            while True:
                await applying.make_plan()
                async with outages(sandbox, rng):
                    sent += await apply_in_bits(applying, rng, number, moments - sent)
                await applying.check()
                if sent >= moments:
                    return


async def apply_in_bits(applying: Applying, rng: random.Random, number: int, moments: int) -> int:
    """Apply a plan, interrupted at most so many times. Return how many times it was."""
    sent = 0
    while True:
        process = await applying.begin()
        try:
            while sent < moments and await reached(applying, process, applying.arrived() + rng.randrange(25), rng):
                os.kill(process.pid, number)
                sent += 1
                if number == signal.SIGKILL:
                    break
                await asyncio.sleep(rng.random() * 0.3)
                os.kill(process.pid, signal.SIGCONT)
            output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode in (0, -signal.SIGKILL), (output + errors).decode()
        if process.returncode == 0:
            return sent


async def reached(applying: Applying, process: asyncio.subprocess.Process, until: int, rng: random.Random) -> bool:
    """Wait until so many requests have arrived. Return whether the process still runs."""
    while applying.arrived() < until and process.returncode is None:  # noqa: ASYNC110  # any moment will do
        await asyncio.sleep(rng.random() * 0.02)
    return process.returncode is None


async def test_some_moments(tmp_path: Path) -> None:
    """Would lose a change of the plan, or take the event for changed, because of the moment at which apply ended."""
    await chaos(tmp_path, 1, signal.SIGKILL, 3)


@many_moments
async def test_many_moments(tmp_path: Path, seed: int, number: int) -> None:
    """Would lose, fail or repeat a change at a moment that nobody has thought of."""
    await chaos(tmp_path, seed, number, MOMENTS)
