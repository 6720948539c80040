"""`recall-async jobs` from one end to the other, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recall_async import ScheduleBot
from recall_async.sandbox import RecallSandbox
from tests.redis.server import RedisProcess

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(sandbox: RecallSandbox, shared_redis: RedisProcess, prefix: str) -> Iterator[Start]:
    """Starts `recall-async jobs` as a process; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "RECALL_BASE_URL": sandbox.url, "RECALL_API_KEY": sandbox.api_key}
    environment["RECALL_REDIS_URL"] = shared_redis.url

    def begin(command: str, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "recall_async", "jobs", command, "--prefix", prefix, *arguments]
        started.append(
            subprocess.Popen(
                words, env=environment | changes, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        )
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def run(start: Start, *words: str, **changes: str) -> tuple[int, str, str]:
    process = start(*words, **changes)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.fixture
def file(tmp_path: Path, actions: list[ScheduleBot]) -> Path:
    path = tmp_path / "actions.jsonl"
    lines = [
        {
            "action": "schedule",
            "event_id": action.event_id,
            "deduplication_key": action.deduplication_key,
            "start_time": action.start_time,
        }
        for action in actions
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_from_submit_to_results(
    start: Start, file: Path, actions: list[ScheduleBot], tmp_path: Path, sandbox: RecallSandbox
) -> None:
    """Would fail for who does everything on the command line."""
    submit = ("submit", str(file), "--name", "to night", "--chunk-size", "20")
    assert run(start, *submit)[0] == 0
    status, out, _ = run(start, *submit, "--json")
    assert (status, json.loads(out)["chunks_open"]) == (0, -(-len(actions) // 20))  # submitted once
    status, out, err = run(start, "work", "--quota-scale", "100", "--json")
    assert status == 0, err
    assert json.loads(out)["done"] == len(actions)
    status, out, _ = run(start, "status", "to night", "--watch")
    assert status == 0
    assert f"to night: finished, {len(actions)} done, 0 failed" in out
    results = tmp_path / "results.jsonl"
    assert run(start, "results", "to night", "--out", str(results))[0] == 0
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert {line["event_id"] for line in lines} == {action.event_id for action in actions}
    assert sandbox.report()["operations"]["calendar_events.schedule_bot"]["accepted"] == len(actions)


def test_what_cannot_be_is_said(start: Start, file: Path, tmp_path: Path) -> None:
    """Would write half of a wrong file, answer with a traceback, or overwrite results for a typing error."""
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text(file.read_text() + '{"action": "schedule", "event_id": "no"}\n')
    status, _, err = run(start, "submit", str(wrong), "--name", "n")
    assert (status, "event_id" in err) == (2, True)
    out = tmp_path / "results.jsonl"
    out.write_text("mine")
    for words in (("status", "n"), ("cancel", "n"), ("results", "n", "--out", str(out))):
        status, _, err = run(start, *words)
        assert (status, err) == (1, "Error: there is no job 'n' in workspace 'default'\n")
    assert out.read_text() == "mine"
    assert run(start, "list") == (0, "", "no jobs in workspace 'default'\n")
    status, _, err = run(start, "submit", str(file), "--name", "a\nb")
    assert (status, "printable" in err) == (2, True)
    status, _, err = run(start, "status", "n", RECALL_REDIS_URL="")
    assert (status, "RECALL_REDIS_URL" in err) == (2, True)


def test_interrupted_worker_leaves_the_rest_to_others(
    start: Start, file: Path, actions: list[ScheduleBot], sandbox: RecallSandbox
) -> None:
    """Would strand a chunk, lose outcomes, or end as if all was done, when a worker is told to go."""
    run(start, "submit", str(file), "--name", "n")
    worker = start("work", "--quota-scale", "2", "--forever")
    limit = time.monotonic() + 60
    while not (seen := sandbox.report()["operations"].get("calendar_events.schedule_bot")) or seen["accepted"] < 10:
        assert time.monotonic() < limit
        time.sleep(0.02)
    worker.send_signal(signal.SIGTERM)
    out, err = worker.communicate(timeout=20)
    assert worker.returncode == 130, err
    done = sandbox.report()["operations"]["calendar_events.schedule_bot"]["accepted"]
    assert out.startswith(f"{done} done, 0 failed")
    status = json.loads(run(start, "status", "n", "--json")[1])
    assert (status["done"], status["chunks_open"] + status["chunks_in_work"]) == (done, 1)
    status, out, err = run(start, "work", "--quota-scale", "100")
    assert (status, out) == (0, f"{len(actions) - done} done, 0 failed, 0 skipped by this worker\n")


def test_refused_key_leaves_the_job_to_others(start: Start, file: Path, actions: list[ScheduleBot]) -> None:
    """Would burn a job because one machine has a wrong key."""
    run(start, "submit", str(file), "--name", "n")
    status, _, err = run(start, "work", "--quota-scale", "100", RECALL_API_KEY="wrong")
    assert status == 3, err
    assert run(start, "work", "--quota-scale", "100")[1].startswith(f"{len(actions)} done, 0 failed")


@pytest.mark.slow
def test_everyday(start: Start, file: Path, sandbox: RecallSandbox, actions: list[ScheduleBot]) -> None:
    """Would need one to know the names of jobs, to submit a file again for what failed, or to look into Redis."""
    assert run(start, "list")[0] == 0
    assert run(start, "submit", str(file), "--name", "tonight")[0] == 0
    sandbox.fault("calendar_events.schedule_bot", status=400, times=3)
    status, out, err = run(start, "work", "--quota-scale", "100")
    assert (status, out.strip()) == (1, f"{len(actions) - 3} done, 3 failed, 0 skipped by this worker")
    assert "3 x 400 bad request" in err
    assert "tonight: finished" in run(start, "list")[1]
    assert json.loads(run(start, "list", "--json")[1])[0]["failed"] == 3
    assert "under way" in run(start, "retry", "tonight")[1]
    assert run(start, "work", "--quota-scale", "100")[0] == 0
    assert run(start, "status", "tonight", "--watch")[0] == 0
    lines = run(start, "results", "tonight", "--out", "-")[1].splitlines()
    assert {json.loads(line)["status"] for line in lines} == {"done"}
    assert len(lines) == len(actions)
