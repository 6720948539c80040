"""Bulk jobs on the command line: what is checked, done, printed, and left for the next run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recall_async import JournalError, Quota
from recall_async.bulk.journal import Journal, JournalFile
from recall_async.cli.connection import Connection
from recall_async.cli.failures import MAX_CAUSES, Failures
from recall_async.errors import BadRequestError, ConnectionFailedError, NotFoundError
from recall_async.sandbox import RecallSandbox

pytestmark = pytest.mark.recall_sandbox(events=150, calendars=3, quota_scale=20)

NOBODY = "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"
SCHEDULE = "calendar_events.schedule_bot"
FAST = ("--pace", "greedy", "--quota-scale", "20")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


def lines_of(path: Path) -> list[dict]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_everything_done(run, write_actions, results: Path, recall_sandbox: RecallSandbox) -> None:
    """Actions would be lost between the file and the server, or its answers between the server and the results."""
    result = run("bulk", str(write_actions(80, shared=2)), "--results", str(results), *FAST)
    assert result.exit_code == 0
    assert result.stdout.startswith("80 done, 0 failed, 0 skipped of 80\n80 requests in ")
    assert {line["status"] for line in lines_of(results)} == {"done"}
    assert recall_sandbox.report()["bots"] == 40
    assert recall_sandbox.report()["operations"][SCHEDULE] == {
        "accepted": 80, "throttled": 0, "conflicted": 0, "rejected": 0, "peak": 80,
    }  # fmt: skip


def test_second_run_sends_nothing(run, write_actions, results: Path, recall_sandbox: RecallSandbox) -> None:
    """A job that is started again to be sure would do everything again."""
    command = ("bulk", str(write_actions(20)), "--results", str(results), *FAST, "--json")
    assert json.loads(run(*command).stdout)["requests"] == 20
    again = json.loads(run(*command).stdout)
    assert (again["requests"], again["done"], again["resumed"], again["status"]) == (0, 20, 20, "done")
    assert recall_sandbox.report()["operations"][SCHEDULE]["accepted"] == 20


def test_failures_are_grouped_by_cause(run, write_actions, results: Path) -> None:
    """Ten thousand failures of one kind would have to be read one by one, with nothing on what to do."""
    unknown = [{"action": "remove", "event_id": f"{NOBODY[:-2]}{n}"} for n in range(10, 13)]
    path = write_actions(5, *unknown, {"action": "remove", "event_id": NOBODY, "start_time": "2020-01-01T00:00:00Z"})
    result = run("bulk", str(path), "--results", str(results), *FAST)
    assert result.exit_code == 1
    assert result.stdout.startswith("5 done, 3 failed, 1 skipped of 9\n8 requests")
    assert "3 x 404 not found\n  for example event 2f3d2b1e" in result.stdout
    assert result.stdout.count("Check the id, and that it belongs to this workspace and region.") == 1


def test_json_is_alone_on_standard_output(run, write_actions, results: Path) -> None:
    """A program that reads the summary would have to pick it out of remarks and tables."""
    path = write_actions(3, {"action": "remove", "event_id": NOBODY})
    result = run("bulk", str(path), "--results", str(results), *FAST, "--json")
    summary = json.loads(result.stdout)
    assert (summary["status"], summary["total"], summary["done"], summary["failed"]) == ("failed", 4, 3, 1)
    assert summary["failures"][0] | {"example": ""} == {
        "title": "404 not found",
        "advice": "Check the id, and that it belongs to this workspace and region.",
        "event_id": NOBODY,
        "example": "",
        "count": 1,
    }
    assert summary["resume"] is None
    assert "404 not found" in result.stderr


def test_retry_failed(run, write_actions, results: Path, recall_sandbox: RecallSandbox) -> None:
    """What failed for good would be repeated by every run, or by none."""
    path = write_actions(3)
    recall_sandbox.fault(SCHEDULE, status=400, times=3)
    command = ("bulk", str(path), "--results", str(results), *FAST)
    assert run(*command).exit_code == 1
    assert run(*command).stdout.startswith("0 done, 3 failed, 0 skipped of 3, 3 of them in an earlier run\n0 requests")
    assert run(*command, "--retry-failed").exit_code == 0


def test_bad_file_sends_nothing(run, write_actions, results: Path, recall_sandbox: RecallSandbox) -> None:
    """Half a job would be done before its first error is found, and the errors found one per run."""
    path = write_actions(3, *({"action": "remove", "event_id": f"no {n}"} for n in range(25)))
    result = run("bulk", str(path), "--results", str(results))
    assert result.exit_code == 2
    told = result.stderr.splitlines()
    assert len(told) == 21
    assert told[0].startswith(f"{path}:4: event_id must be a UUID, got 'no 0'")
    assert told[-1] == "Error: 25 errors, of which 5 are not shown. Nothing was sent."
    assert not results.exists()
    assert recall_sandbox.report()["operations"][SCHEDULE]["peak"] == 0


def test_refused_key(run, write_actions, results: Path) -> None:
    """A job with a wrong key would meet the refusal as many times as it has actions, and not say how to go on."""
    path = write_actions(30)
    result = run("bulk", str(path), "--results", str(results), "--concurrency", "2", env={"RECALL_API_KEY": "wrong"})
    assert result.exit_code == 3
    assert "0 done, 0 failed, 0 skipped of 30\n2 requests" in result.stdout
    assert "another region" in result.stderr
    assert f"bulk {path} --results {results} --concurrency 2 --base-url http" in result.stderr
    assert run("bulk", str(path), "--results", str(results), *FAST).exit_code == 0


def test_standard_input_csv_and_default_config(run, write_actions, results: Path, tmp_path, recall_sandbox) -> None:
    """A list that comes out of a pipe could not be done; or its bots would have no configuration."""
    first, second = (json.loads(text)["event_id"] for text in write_actions(2).read_text().splitlines())
    config = tmp_path / "bot.json"
    config.write_text('{"bot_name": "Default"}')
    text = "action,event_id,deduplication_key,bot_config\n"
    text += f'schedule,{first},a,\nschedule,{second},b,"{{""bot_name"": ""Own""}}"\n'
    result = run("bulk", "-", "--results", str(results), *FAST, "--bot-config", str(config), input=text)
    assert result.exit_code == 0
    bots = {bot["key"]: bot["config"]["bot_name"] for bot in recall_sandbox.snapshot()["bots"]}
    assert bots == {"a": "Default", "b": "Own"}
    assert run("bulk", "-", "--results", str(results), input="action\n").stderr.startswith(
        "standard input:1: column event_id"
    )


def test_dry_run(run, write_actions, results: Path, recall_sandbox: RecallSandbox) -> None:
    """A rehearsal would send something, need a key, or promise another job than the real one."""
    over = {"action": "remove", "event_id": NOBODY, "start_time": "2020-01-01T00:00:00Z"}
    path = write_actions(30, over, {"action": "remove", "event_id": NOBODY[:-1] + "2"})
    command = ("bulk", str(path), "--results", str(results))
    keyless = {"RECALL_API_KEY": None}
    foreseen = json.loads(run(*command, "--dry-run", "--json", env=keyless).stdout)
    assert foreseen == {
        "total": 32, "resumed": 0, "skipped": 1, "seconds": 0.0, "seconds_of_quota": 0.0, "seconds_of_pacing": 0.0,
        "requests": {SCHEDULE: 30, "calendar_events.remove_bot": 1},
    }  # fmt: skip
    assert not results.exists()
    assert recall_sandbox.report()["operations"][SCHEDULE]["peak"] == 0
    run(*command, *FAST)
    result = run(*command, "--dry-run", env=keyless)
    assert result.exit_code == 0
    assert "32 actions: 32 known from an earlier run, 0 for meetings that are over\n0 requests" in result.stdout


def test_results_that_cannot_be_used(run, write_actions, results: Path, tmp_path: Path) -> None:
    """Another job's file would be mixed up with this one's, or somebody's file overwritten."""
    path = write_actions(3)
    before = path.read_bytes()
    assert "the same file" in run("bulk", str(path), "--results", str(path)).stderr
    assert path.read_bytes() == before
    results.write_text("my diary\n")
    refused = run("bulk", str(path), "--results", str(results))
    assert (refused.exit_code, results.read_text()) == (2, "my diary\n")
    assert "is not a line of a bulk job's journal" in refused.stderr
    taken = JournalFile(Journal(tmp_path / "taken.jsonl"))
    assert "in use by another job" in run("bulk", str(path), "--results", str(taken.path)).stderr
    taken.close()
    nowhere = str(tmp_path / "no" / "dir.jsonl")
    assert run("bulk", str(path), "--results", nowhere).exit_code == 2
    foreseen = run("bulk", str(path), "--results", nowhere, "--dry-run")
    assert (foreseen.exit_code, foreseen.stdout) == (2, "")
    assert "cannot be written: permission denied, or no such directory" in foreseen.stderr


def test_full_disk(run, write_actions, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk would end in a traceback, or in a job that goes on without a journal."""
    original = JournalFile.append
    written = []

    def append(self: JournalFile, line: object) -> None:
        if len(written) == 2:
            raise JournalError("the journal cannot be written: No space left on device")
        written.append(line)
        original(self, line)

    monkeypatch.setattr(JournalFile, "append", append)
    path = write_actions(10)
    result = run("bulk", str(path), "--results", str(results), *FAST, "--concurrency", "1")
    assert result.exit_code == 1
    assert "Error: the journal cannot be written: No space left on device" in result.stderr
    assert "To go on with it:\n  " in result.stderr
    assert f" bulk {path}" in result.stderr


def test_pace_and_scale() -> None:
    """--pace or --quota-scale would be accepted and have no effect, or overrun the quota that was granted."""
    assert Connection().quotas("auto")[SCHEDULE] == Quota(600)
    assert Connection().quotas("smooth")[SCHEDULE] == Quota(600, burst=10)
    assert Connection(quota_scale=1.5).quotas("greedy")[SCHEDULE] == Quota(900, burst=900, reserve=0)
    assert Connection(quota_scale=20.0).quotas("smooth")[SCHEDULE].limit == 12000


def test_causes() -> None:
    """Failures that differ in nothing but their ids would be causes of their own, and many causes fill the memory."""
    failures = Failures()
    for n in range(100):
        failures.add(str(n), NotFoundError("gone", status=404, detail=f"event {NOBODY[:-2]}{n % 90 + 10} is not there"))
        failures.add(str(n), ConnectionFailedError(f"no answer from port {n}"))
        failures.add(str(n), BadRequestError("bad", status=400, code="c" * (n + 1)))
    causes = failures.causes()
    assert [(cause.title, cause.count) for cause in causes[:2]] == [("404 not found", 100), ("connection failed", 100)]
    assert len(causes) == MAX_CAUSES + 1
    assert sum(cause.count for cause in causes) == 300
    assert all(cause.advice for cause in causes)
