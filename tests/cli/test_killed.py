"""A job that is killed again and again, at random moments."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import pytest

from recall_async.sandbox import RecallSandbox

SCHEDULE = "calendar_events.schedule_bot"


@pytest.mark.slow
@pytest.mark.recall_sandbox(events=650, quota_scale=20, latency=((0.0, 0.1), (0.0, 0.1)))
def test_killed_eight_times(start, wait_until, write_actions, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """A closed laptop would cost bots that nobody knows of, or twice the work."""
    results = tmp_path / "results.jsonl"
    concurrency = 8
    command = (
        "bulk", str(write_actions(400, shared=2)), "--results", str(results),
        "--quota-scale", "20", "--concurrency", str(concurrency), "--json",
    )  # fmt: skip
    chance = random.Random(8)

    def lines() -> int:
        return results.read_bytes().count(b"\n") if results.exists() else 0

    for kill in range(8):
        begun = lines()
        process = start(*command)
        if kill % 2:
            wait_until(lambda: lines() > begun)  # noqa: B023  # it has found its way back into the job
        time.sleep(chance.random() / 3)  # a random moment is what this is about
        process.kill()
        process.communicate()
        assert lines() < 400, f"the job was done before it was killed for the {kill + 1}th time"
    process = start(*command)
    summary = json.loads(process.communicate(timeout=60)[0])
    assert process.returncode == 0
    assert (summary["done"], summary["total"]) == (400, 400)
    told = [json.loads(text) for text in results.read_text().splitlines()]
    assert len({line["event_id"] for line in told if line["status"] == "done"}) == 400
    snapshot, report = recall_sandbox.snapshot(), recall_sandbox.report()
    assert report["bots"] == len(snapshot["bots"]) == 200
    assert {bot["key"] for bot in snapshot["bots"]} == {f"key {n}" for n in range(200)}
    requests = report["operations"][SCHEDULE]
    assert requests["accepted"] + requests["conflicted"] <= 400 + 8 * concurrency
    again = json.loads(start(*command).communicate(timeout=60)[0])
    assert (again["requests"], again["resumed"]) == (0, 400)
    assert recall_sandbox.report()["operations"][SCHEDULE] == requests
