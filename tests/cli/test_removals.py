"""Commands that remove bots: they ask on a terminal, and stop elsewhere when it would be many."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from recall_async import Plan
from recall_async.cli.removals import Limit
from recall_async.sandbox import RecallSandbox
from tests.cli.test_terminal import terminal as terminal

pytestmark = pytest.mark.recall_sandbox(events=80, calendars=3, quota_scale=20)

REMOVE = "calendar_events.remove_bot"
MANY, SOME = 'title_includes = ["no such title"]\n', 'title_excludes = ["1:1"]\n'


@pytest.fixture
def scheduled(run: Any, tmp_path: Path) -> int:
    """How many events have bots, put there by a policy without rules."""
    (tmp_path / "all.toml").write_text("")
    result = run("sync", "--policy", str(tmp_path / "all.toml"), "--json")
    return int(json.loads(result.stdout)["done"])


@pytest.fixture
def policy(tmp_path: Path) -> str:
    (tmp_path / "policy.toml").write_text(MANY)
    return str(tmp_path / "policy.toml")


def removed(sandbox: RecallSandbox) -> int:
    return int(sandbox.report()["operations"][REMOVE]["accepted"])


def test_sync_and_apply_stop(run, policy: str, scheduled: int, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """A policy that was pasted from the documentation removes nearly all bots without a word."""
    stored = str(tmp_path / "plan.json")
    run("plan", "--policy", policy, "--out", stored)
    assert scheduled > 40
    for command in (("sync", "--policy", policy), ("apply", stored)):
        result = run(*command)
        assert (result.exit_code, result.stdout) == (2, "")
        assert (
            f"{scheduled} of {scheduled} bots would be removed, more than --max-removals 10,10% allows" in result.stderr
        )
        assert "--yes" in result.stderr
    assert removed(recall_sandbox) == 0


@pytest.mark.parametrize("options", [("--yes",), ("--max-removals", "1000"), ("--max-removals", "100%")])
@pytest.mark.parametrize("command", ["sync", "apply"])
def test_many_on_purpose(run, policy: str, scheduled: int, tmp_path: Path, recall_sandbox, command, options) -> None:
    """A script that means it cannot remove many bots."""
    stored = str(tmp_path / "plan.json")
    run("plan", "--policy", policy, "--out", stored)
    result = run(*(("sync", "--policy", policy) if command == "sync" else ("apply", stored)), *options)
    assert result.exit_code == 0, result.output
    assert removed(recall_sandbox) == scheduled


def test_a_few_go_without_a_word(run, policy: str, scheduled: int, recall_sandbox: RecallSandbox) -> None:
    """A cron job stops for each meeting that is declined."""
    Path(policy).write_text(SOME)
    assert run("sync", "--policy", policy).exit_code == 0
    assert 0 < removed(recall_sandbox) <= 10


@pytest.mark.parametrize(
    ("allowed", "limit", "removals", "bots"),
    [
        (True, Limit(10, 10), 10, 10),
        (True, Limit(10, 10), 50, 500),
        (False, Limit(10, 10), 51, 500),
        (False, Limit(10, 10), 11, 100),
        (True, Limit(10, 10), 10, 100),
        (True, Limit(0, None), 0, 100),
        (False, Limit(0, None), 1, 100),
        (False, Limit(10, None), 11, 10_000),
        (True, Limit(None, 5), 5, 100),
        (False, Limit(None, 5), 6, 100),
        (False, Limit(None, 0), 1, 100),
    ],
)
def test_limits(allowed: bool, limit: Limit, removals: int, bots: int) -> None:
    """More bots go than the limit says, or fewer."""
    assert limit.allows(removals, bots) is allowed


@pytest.mark.parametrize("text", ["", "x", "-1", "10,", ",10%", "10;10%", "5%,10", "%", "1.5"])
def test_what_is_no_limit(run, policy: str, text: str) -> None:
    """A limit with a typing mistake is none."""
    result = run("sync", "--policy", policy, "--max-removals", text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--max-removals" in result.stderr


def asking(run: Any, policy: str, tmp_path: Path, recall_sandbox: RecallSandbox) -> dict[str, tuple[str, ...]]:
    """The commands that ask before they remove something."""
    stored, calendar = str(tmp_path / "plan.json"), recall_sandbox.snapshot()["calendars"][0]["id"]
    run("plan", "--policy", policy, "--out", stored)
    return {
        "sync": ("sync", "--policy", policy),
        "apply": ("apply", stored),
        "delete": ("calendars", "delete", calendar),
        "leave": ("bots", "leave", calendar),
    }


@pytest.mark.parametrize(
    ("command", "answer", "status"),
    [
        ("sync", "y\n", 0), ("sync", "\n", 1), ("apply", "y\n", 0), ("apply", "n\n", 1),
        ("delete", "y\n", 0), ("delete", "n\n", 1),
    ],
)  # fmt: skip
def test_a_terminal_asks(
    run, terminal, policy: str, scheduled: int, tmp_path: Path, recall_sandbox, command: str, answer: str, status: int
) -> None:
    """A person who tries a policy has no moment to see what it would do, or cannot say no."""
    commands = asking(run, policy, tmp_path, recall_sandbox)
    shown = terminal(*commands[command])
    while "[y/N]: " not in shown.text:
        assert shown.read(), shown.text
    assert removed(recall_sandbox) == 0
    shown.type(answer)
    while shown.read():
        pass
    assert shown.process.wait(timeout=20) == status, shown.text
    assert "Traceback" not in shown.text
    bots = sum(bool(event["bots"]) for event in recall_sandbox.snapshot()["events"])
    if status:
        assert bots == scheduled
    else:
        assert bots == 0 if command != "delete" else 0 < bots < scheduled


@pytest.mark.parametrize("command", ["sync", "apply", "delete", "leave"])
def test_ctrl_c_at_the_question(
    run, terminal, policy: str, scheduled: int, tmp_path: Path, recall_sandbox: RecallSandbox, command: str
) -> None:
    """Ctrl-C would be lost if it came in the moment between the question and the wait for its answer."""
    commands = asking(run, policy, tmp_path, recall_sandbox)
    shown = terminal(*commands[command])
    while "[y/N]:" not in shown.text:
        assert shown.read(), shown.text
    shown.type("\x03")
    while shown.read():
        pass
    assert shown.process.wait(timeout=20) == 130, shown.text
    assert "Interrupted." in shown.text
    assert "Traceback" not in shown.text
    assert removed(recall_sandbox) == 0


def test_deleting_a_calendar_elsewhere(run, scheduled: int, recall_sandbox: RecallSandbox) -> None:
    """A script with a wrong id takes all bots of a calendar away."""
    first, second, _ = (calendar["id"] for calendar in recall_sandbox.snapshot()["calendars"])
    result = run("calendars", "delete", first)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "bots would be removed, more than --max-removals 10,10% allows" in result.stderr
    statuses = [calendar["status"] for calendar in recall_sandbox.snapshot()["calendars"]]
    assert statuses == ["connected"] * 3
    assert run("calendars", "delete", first, "--yes").exit_code == 0
    assert run("calendars", "delete", second, "--max-removals", "1000").exit_code == 0
    assert run("calendars", "delete", first).exit_code == 0


def test_watching_holds_many_removals_back(
    start, wait_until, policy: str, scheduled: int, recall_sandbox: RecallSandbox
) -> None:
    """A policy file that lost its rules takes all bots away at night, or ends the program that should schedule others."""
    process = start("sync", "--policy", policy, "--watch", "1", "--json")
    rounds = [json.loads(process.stdout.readline()) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert [each["plan"]["remove"] for each in rounds] == [scheduled] * 2
    assert f"{scheduled} of {scheduled} bots would be removed" in errors
    assert removed(recall_sandbox) == 0
    assert process.returncode == 0


def test_foreign_bots_on_the_command_line(run, scheduled: int, policy: str, recall_sandbox: RecallSandbox) -> None:
    """Bots with another scheme's keys go with the first sync, or can never be removed."""
    command = ("sync", "--policy", policy, "--yes", "--deduplication", "{start_time:%Y-%m-%d %H:%M}/{meeting_url}")
    assert run(*command).exit_code == 0
    assert removed(recall_sandbox) == 0
    assert run(*command, "--remove-foreign").exit_code == 0
    assert removed(recall_sandbox) == scheduled


def test_a_scheme_on_the_command_line(run, scheduled: int, tmp_path: Path) -> None:
    """A team's scheme needs a policy file of its own."""
    everything = str(tmp_path / "all.toml")
    same = run("plan", "--policy", everything, "--json", "--deduplication", "{start_time}-{meeting_url}")
    assert not Plan.from_json(same.stdout)
    other = Plan.from_json(run("plan", "--policy", everything, "--json", "--deduplication", "event").stdout)
    assert (len(other), {change.reason for change in other}) == (scheduled, {"foreign bot"})
    wrong = run("plan", "--policy", everything, "--deduplication", "{title}")
    assert wrong.exit_code == 2
    assert "--deduplication must be a template with the fields" in wrong.stderr
