"""plan, apply and sync on the command line."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

import recall_async
from recall_async import Plan
from recall_async.sandbox import RecallSandbox

pytestmark = pytest.mark.recall_sandbox(events=80, calendars=3, quota_scale=20)

SCHEDULE, REMOVE = "calendar_events.schedule_bot", "calendar_events.remove_bot"
FAST = ("--quota-scale", "20")


@pytest.fixture
def policy(tmp_path: Path) -> str:
    path = tmp_path / "policy.toml"
    path.write_text('title_excludes = ["1:1"]\n[bot_config]\nbot_name = "Notes"\n')
    return str(path)


def accepted(sandbox: RecallSandbox, operation: str = SCHEDULE) -> int:
    return sandbox.report()["operations"][operation]["accepted"]


def test_plan_apply_plan(run, policy: str, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """A script cannot tell whether there is something to do, or does something else than the plan that was looked at."""
    stored = str(tmp_path / "plan.json")
    planned = run("plan", "--policy", policy, "--out", stored)
    assert planned.exit_code == 10
    plan = Plan.from_json(Path(stored).read_text())
    assert planned.stdout == f"{plan}\n"
    assert f" apply {stored} --base-url {recall_sandbox.url}" in planned.stderr
    assert accepted(recall_sandbox) == 0
    applied = run("apply", stored, "--results", str(tmp_path / "results.jsonl"), "--pace", "greedy", *FAST)
    assert applied.exit_code == 0
    assert applied.stdout.startswith(f"{plan.requests} done, 0 failed, 0 skipped of {plan.requests}\n")
    assert accepted(recall_sandbox) == plan.requests
    again = run("plan", "--policy", policy)
    assert (again.exit_code, again.stdout.count("\n")) == (0, 1)
    assert again.stdout.startswith(f"0 to schedule, 0 to reschedule, 0 to remove; {plan.requests} as they should be")


def test_the_command_that_a_plan_prints_works_when_pasted(
    start, policy: str, tmp_path: Path, recall_sandbox: RecallSandbox, environment: dict[str, str]
) -> None:
    """Would send the plan to another region's workspace, or at a quota that was not meant, from another shell."""
    stored, key = str(tmp_path / "my plan.json"), tmp_path / "key file"
    key.write_text(recall_sandbox.api_key)
    options = ("--api-key-file", str(key), "--quota-scale", "20", "--workspace", "it's ours", "--trust-env", "-vv")
    history = tmp_path / "my history.jsonl"
    options += ("--history", str(history))
    _, told = start("plan", "--policy", policy, "--out", stored, *options).communicate(timeout=30)
    command = told.partition("To apply the plan:\n  ")[2].strip()
    for option in options[:6:2]:
        assert option in command
    assert " -v -v" in command
    bare = {name: value for name, value in environment.items() if not name.startswith("RECALL_")}
    shell = {**bare, "PYTHONPATH": str(Path(recall_async.__file__).parents[1])}
    subprocess.run(command, shell=True, cwd="/", env=shell, capture_output=True, timeout=60, check=True)
    assert accepted(recall_sandbox) == Plan.from_json(Path(stored).read_text()).requests > 40
    assert history.stat().st_size > 0


def test_applying_again_sends_nothing(run, policy: str, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """A job that is started again to be sure would do everything again."""
    stored, results = str(tmp_path / "plan.json"), str(tmp_path / "results.jsonl")
    run("plan", "--policy", policy, "--out", stored)
    command = ("apply", stored, "--results", results, "--pace", "greedy", *FAST, "--json")
    first = json.loads(run(*command).stdout)
    second = json.loads(run(*command).stdout)
    assert (first["done"], first["resumed"]) == (second["done"], 0) == (second["resumed"], 0)
    assert accepted(recall_sandbox) == first["done"] > 40


def test_a_plan_from_elsewhere(run, policy: str, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """A plan that an editor saved cannot be applied, or one of another version does something else than it says."""
    stored = tmp_path / "plan.json"
    run("plan", "--policy", policy, "--out", str(stored))
    text = stored.read_text()
    for wrong, said in (
        (text.replace('"version":2', '"version":9'), "use a newer recall_async"),
        (text.replace('"kind":"schedule"', '"kind":"scedule"', 1), "$.decisions["),
        (text.replace('"lead_time"', '"leadtime"'), "unknown field `leadtime`"),
    ):
        stored.write_text(wrong)
        result = run("apply", str(stored))
        assert (result.exit_code, result.stdout) == (2, "")
        assert said in result.stderr
    assert accepted(recall_sandbox) == 0
    stored.write_text("\ufeff" + text, "utf-8")
    assert run("apply", str(stored), "--pace", "greedy", *FAST).exit_code == 0
    assert accepted(recall_sandbox) == len(Plan.from_json(text))


def test_plan_as_json(run, policy: str) -> None:
    """Another program cannot read a plan."""
    result = run("plan", "--policy", policy, "--json")
    assert (result.exit_code, result.stderr) == (10, "")
    assert len(Plan.from_json(result.stdout)) > 40


def test_plan_of_some_calendars(run, policy: str, recall_sandbox: RecallSandbox) -> None:
    """A plan for one calendar is one for all."""
    ids = [calendar["id"] for calendar in recall_sandbox.snapshot()["calendars"]][:2]
    result = run("plan", "--policy", policy, "--json", "--calendar-id", ids[0], "--calendar-id", ids[1])
    assert {decision.calendar_id for decision in Plan.from_json(result.stdout).decisions} == set(ids)


def test_a_late_plan_says_what_it_skips(run, policy: str, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """Bots are sent to where meetings were when the plan was made."""
    stored = str(tmp_path / "plan.json")
    run("plan", "--policy", policy, "--out", stored)
    recall_sandbox.mutate(20)
    result = json.loads(run("apply", stored, "--pace", "greedy", *FAST, "--json").stdout)
    assert (result["status"], result["failed"]) == ("done", 0)
    assert result["skipped"] > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("plan",), "Missing option '--policy'"),
        (("plan", "--policy", "{missing}"), "does not exist"),
        (("plan", "--policy", "{wrong}"), "line 2: unknown setting titel_excludes; did you mean title_excludes?"),
        (("sync", "--policy", "{wrong}"), "line 2: unknown setting titel_excludes"),
        (("plan", "--policy", "{policy}", "--calendar-id", "x"), "'--calendar-id': 'x' is not a valid UUID"),
        (("apply", "{missing}"), "No such file"),
        (("apply", "{wrong}"), "this is not a plan"),
        (("apply", "{binary}"), "must be UTF-8 text"),
        (("sync", "--policy", "{policy}", "--watch", "0"), "--watch"),
    ],
)
def test_wrong_usage(run, policy: str, tmp_path: Path, recall_sandbox: RecallSandbox, arguments, said: str) -> None:
    """A typing mistake is ignored, or ends in a traceback."""
    names = {name: tmp_path / name for name in ("missing", "wrong", "binary")}
    names["wrong"].write_text('external_only = true\ntitel_excludes = ["1:1"]\n')
    names["binary"].write_bytes(b"\xff\xfe")
    result = run(*(argument.format(policy=policy, **names) for argument in arguments))
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert accepted(recall_sandbox) == 0


def test_a_refused_key(run, policy: str) -> None:
    """A script goes on with a plan that was never made."""
    for command in ("plan", "sync"):
        result = run(command, "--policy", policy, env={"RECALL_API_KEY": "wrong"})
        assert (result.exit_code, result.stdout) == (3, "")
        assert "another region" in result.stderr


def test_sync_once(run, policy: str, recall_sandbox: RecallSandbox) -> None:
    """A cron job leaves bots behind, or says nothing of what it did."""
    first = run("sync", "--policy", policy, *FAST)
    assert first.exit_code == 0
    assert re.search(r"^\d\d:\d\d:\d\d  (\d+) to schedule, .*\n.*\n +\1 done, 0 failed, 0 skipped\n$", first.stdout)
    before = accepted(recall_sandbox)
    second = run("sync", "--policy", policy, "--json")
    assert not any(json.loads(second.stdout)["plan"][kind] for kind in ("schedule", "reschedule", "remove"))
    assert accepted(recall_sandbox) == before


def test_sync_with_refresh(run, policy: str, recall_sandbox: RecallSandbox) -> None:
    """A changed configuration, which the API does not show, never reaches the bots."""
    run("sync", "--policy", policy, *FAST)
    Path(policy).write_text('title_excludes = ["1:1"]\nbot_config = {bot_name = "Minutes"}')
    run("sync", "--policy", policy, "--refresh", *FAST)
    assert {bot["config"]["bot_name"] for bot in recall_sandbox.snapshot()["bots"]} == {"Minutes"}


def test_failures_are_told_and_tried_again(run, policy: str, recall_sandbox: RecallSandbox) -> None:
    """A request that failed looks like success, or is forgotten."""
    recall_sandbox.fault(SCHEDULE, status=400, times=2)
    first = run("sync", "--policy", policy, *FAST)
    assert first.exit_code == 1
    assert ", 2 failed, 0 skipped" in first.stdout
    second = run("sync", "--policy", policy, *FAST)
    assert (second.exit_code, "2 done, 0 failed" in second.stdout) == (0, True)


def test_watching(start, wait_until, policy: str, recall_sandbox: RecallSandbox) -> None:
    """Changes are not followed, an outage ends it, or Ctrl-C does not."""
    process = start("sync", "--policy", policy, "--watch", "1", "--json", *FAST)
    wait_until(lambda: accepted(recall_sandbox) > 40)
    first = json.loads(process.stdout.readline())
    assert (first["done"], first["failed"]) == (first["plan"]["schedule"], 0)
    recall_sandbox.fault("calendar_events.list", status=500)
    recall_sandbox.mutate(15)
    changed = first
    while not changed["done"] or changed is first:
        changed = json.loads(process.stdout.readline())
    assert sum(changed["plan"].values()) < sum(first["plan"].values())
    assert recall_sandbox.report()["operations"]["calendar_events.list"]["rejected"] == 1
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "calendar_events.list failed with 500" in errors


def test_watching_a_calendar_that_is_connected_again(
    start, run, wait_until, policy: str, recall_sandbox: RecallSandbox
) -> None:
    """Bots of a calendar that was revoked and connected again stay away until the program is started again."""
    process = start("sync", "--policy", policy, "--watch", "1", "--json", *FAST)
    process.stdout.readline()
    calendar = recall_sandbox.snapshot()["calendars"][0]["id"]

    def bots() -> int:
        events = recall_sandbox.snapshot()["events"]
        return sum(bool(event["bots"]) for event in events if event["calendar_id"] == calendar)

    before = bots()
    recall_sandbox.revoke(calendar)
    assert bots() < before
    assert run("calendars", "update", calendar, env={"RECALL_OAUTH_REFRESH_TOKEN": "new"}).exit_code == 0
    wait_until(lambda: bots() == before)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)


def test_watching_with_an_event_that_is_refused(start, policy: str, recall_sandbox: RecallSandbox) -> None:
    """One event that the API refuses for good makes every round look at everything."""
    recall_sandbox.fault(SCHEDULE, status=400, times=1)
    process = start("sync", "--policy", policy, "--watch", "1", "--json", *FAST)
    first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert first["failed"] == 1
    assert sum(second["plan"].values()) < sum(first["plan"].values()) / 2


def test_interrupted_in_the_middle(start, wait_until, policy: str, recall_sandbox: RecallSandbox) -> None:
    """What was on its way when Ctrl-C came is cut off."""
    recall_sandbox.set_latency(0.2, 0.2)
    process = start("sync", "--policy", policy, "--watch", "1", *FAST)
    wait_until(lambda: recall_sandbox.report()["operations"][SCHEDULE]["peak"] > 3)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert "Finishing the requests in flight" in errors
    done = int(re.search(r"(\d+) done, 0 failed", output)[1])
    assert done == accepted(recall_sandbox)


def test_interrupted_while_it_plans(start, arrived, wait_until, policy: str, recall_sandbox: RecallSandbox) -> None:
    """Ctrl-C waits until all events are read, and then the command ends without a word."""
    recall_sandbox.fault("calendar_events.list", kind="hang", times=None)
    process = start("sync", "--policy", policy)
    wait_until(lambda: arrived("calendar_events.list"))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert (process.returncode, told.strip()) == (130, "Interrupted. Nothing was changed.")


def test_watching_prints_a_line_for_each_round(start, policy: str) -> None:
    """Nobody can tell a sync that finds nothing to do from one that hangs, or how it ended."""
    process = start("sync", "--policy", policy, "--watch", "1", *FAST)
    while "done" not in process.stdout.readline():
        pass
    lines = [process.stdout.readline() for _ in range(2)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert all(re.fullmatch(r"\d\d:\d\d:\d\d  no changes\n", line) for line in lines), lines
    assert re.search(r"Stopped after \d+ rounds\.", errors)
    assert process.returncode == 0


def test_sandbox_tells_where_webhooks_go(start) -> None:
    """Who tries webhooks on the sandbox does not learn what they are signed with."""
    process = start("sandbox", "--port", "0", "--events", "10", "--webhook-url", "http://127.0.0.1:9/hooks")
    lines = [process.stdout.readline() for _ in range(8)]
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert any("Webhooks go to http://127.0.0.1:9/hooks, signed with whsec_" in line for line in lines)


def test_a_history_is_known_to_the_next_run(run, policy: str, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """A timer that runs `sync` fights for ever with a program that removes the bots."""
    history = ("--history", str(tmp_path / "history.jsonl"))
    state, rounds = recall_sandbox._server.workspace.state, []
    for _ in range(4):
        before = accepted(recall_sandbox)
        assert run("sync", "--policy", policy, "--yes", *history, *FAST).exit_code == 0
        rounds.append(accepted(recall_sandbox) - before)
        for event in list(state.events.values()):
            state.remove(event, datetime.now(UTC))
    assert rounds[0] == rounds[1] > 0
    assert rounds[2:] == [0, 0]
    stored = str(tmp_path / "plan.json")
    assert run("plan", "--policy", policy, "--out", stored, *history).exit_code == 0
    assert (
        "flapping" in run("apply", stored, "--json", *history, *FAST).output or "flapping" in Path(stored).read_text()
    )
