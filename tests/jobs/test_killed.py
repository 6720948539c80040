"""Three workers, of which one is killed every moment and replaced, finish the jobs of several workspaces.

The full size: RECALL_TEST_JOBS=10x2000 python -m pytest -s tests/jobs/test_killed.py
"""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest

from recall_async import ScheduleBot
from recall_async.jobs import JobQueue, JobStatus
from recall_async.sandbox import RecallSandbox
from tests.redis.server import RedisProcess

WORKSPACES, EACH = (int(part) for part in os.environ.get("RECALL_TEST_JOBS", "3x300").split("x"))
LIMIT = 60
"""Requests per second and workspace."""
LEASE = 2.0
KILL_EVERY = 1.5
SCHEDULE = "calendar_events.schedule_bot"


def count_right(status: JobStatus, before: JobStatus) -> None:
    """A status is one that a job can have, and no earlier one than that before."""
    known = status.done + status.failed + status.skipped
    chunks = status.chunks_open + status.chunks_in_work
    assert status.total == before.total
    assert before.done + before.failed + before.skipped <= known <= status.total
    assert chunks <= before.chunks_open + before.chunks_in_work
    assert (chunks == 0) == status.finished
    assert not status.finished or known == status.total


@pytest.mark.slow
async def test_every_action_is_done_though_workers_are_killed(shared_redis: RedisProcess, prefix: str) -> None:
    """Would lose actions, outcomes or bots, overrun a quota, or count wrongly, when machines die in the middle."""
    began, workers, killed = time.monotonic(), list[subprocess.Popen[bytes]](), 0
    async with AsyncExitStack() as stack:
        sandboxes, queues, keys = dict[str, RecallSandbox](), dict[str, JobQueue](), dict[str, set[str]]()
        for number in range(WORKSPACES):
            name = f"workspace {number}"
            sandbox = stack.enter_context(
                RecallSandbox(
                    events=EACH * 3 // 2, seed=number, quotas={SCHEDULE: (LIMIT, 1.0)}, latency=((0, 0.02), (0, 0.02))
                )
            )
            soon = (datetime.now(UTC) + timedelta(minutes=10)).isoformat()
            events = [e for e in sandbox.snapshot()["events"] if e["meeting_url"] and not e["is_deleted"]]
            events = [e for e in events if e["start_time"] > soon][:EACH]
            assert len(events) == EACH
            actions = [ScheduleBot(e["id"], f"key {n // 2}", {}, e["start_time"]) for n, e in enumerate(events)]
            queue = JobQueue.from_url(shared_redis.url, prefix=prefix, workspace=name, lease=LEASE)
            queues[name] = await stack.enter_async_context(queue)
            sandboxes[name], keys[name] = sandbox, {action.deduplication_key for action in actions}
            await queue.submit("job", actions, chunk_size=50)
        places = [f"{name}={sandbox.url}" for name, sandbox in sandboxes.items()]
        command = [sys.executable, "-m", "tests.jobs.worker", shared_redis.url, prefix, str(LEASE), str(LIMIT), *places]

        def start() -> None:
            workers.append(subprocess.Popen(command))
            stack.callback(workers[-1].wait)
            stack.callback(workers[-1].kill)

        for _ in range(3):
            start()
        statuses = {name: await queue.status("job") for name, queue in queues.items()}
        kill_at = time.monotonic() + KILL_EVERY
        victims = itertools.cycle(range(3))
        while not all(status.finished for status in statuses.values()):
            await asyncio.sleep(0.1)
            assert time.monotonic() - began < 60 + WORKSPACES * EACH / 20
            for name, queue in queues.items():
                status = await queue.status("job")
                count_right(status, statuses[name])
                statuses[name] = status
            if time.monotonic() >= kill_at:
                kill_at += KILL_EVERY
                victim = workers[-3:][next(victims)]
                if victim.poll() is None:
                    victim.kill()
                    killed += 1
                    start()
        took = time.monotonic() - began
        reports = {name: sandbox.report()["operations"][SCHEDULE] for name, sandbox in sandboxes.items()}
        for name, queue in queues.items():
            lines = [line async for line in queue.results("job")]
            assert Counter(line.status for line in lines) == {"done": EACH}
            assert len({line.event_id for line in lines}) == EACH
            snapshot = sandboxes[name].snapshot()
            bots = {bot["bot_id"]: bot["deduplication_key"] for event in snapshot["events"] for bot in event["bots"]}
            assert len(bots) == len(snapshot["bots"]) == len(keys[name])
            assert set(bots.values()) == keys[name]
            assert reports[name]["throttled"] == 0
    assert killed
    twice = sum(report["accepted"] for report in reports.values()) - WORKSPACES * EACH
    print(f"{WORKSPACES} x {EACH} actions in {took:.1f} s, {killed} workers killed, {twice} requests sent again")
