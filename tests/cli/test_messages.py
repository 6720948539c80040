"""What the command line says when something fails: in its own words, with the file or the option that is meant."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from recall_async import ConnectionFailedError, RecallError
from recall_async.advice import _BY_STATUS, ADVICE, effect_of
from recall_async.cli.status import describe
from recall_async.operations import OPERATIONS

pytestmark = pytest.mark.recall_sandbox(events=20)
SAID = [*ADVICE.values(), *_BY_STATUS.values(), *map(effect_of, OPERATIONS.values())]
FULL = pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")


@pytest.mark.parametrize("text", SAID)
def test_no_python_in_messages(text: str) -> None:
    """The user of a command would be told to pass an argument to a function."""
    told = describe(RecallError(f"it failed. {text}"))
    assert not re.search(r"\w+_\w+|\w\(|\w=", told.replace("recall_async", "")), told
    assert not re.search(r"\. [a-z]", told), told


def test_server_that_is_away(run) -> None:
    """The user would not learn what to look at."""
    result = run("events", "--base-url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert result.stderr.endswith("Connection refused. Nothing was sent. Check --base-url and the network.\n")
    assert describe(ConnectionFailedError("x. Check base_url.")) == "x. Check --base-url."


def test_a_file_named_like_an_option(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "--policy.toml" is neither the file nor the option."""
    monkeypatch.chdir(tmp_path)
    Path("policy.toml").write_text("x = 1")
    planned = run("plan", "--policy", "policy.toml")
    assert planned.exit_code == 2
    assert "Error: policy.toml, line 1: unknown setting x" in planned.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "it is empty"),
        (b"\n", "it is empty"),
        (b"{]", "line 1, column 2 is not valid JSON: Expecting property name"),
        (b"\xd0\x00", "it must be UTF-8 text, got 0xd0 at byte 0"),
    ],
)
def test_a_plan_that_is_none(run, tmp_path: Path, text: bytes, told: str) -> None:
    """ "Expecting value: line 1 column 1 (char 0)" does not tell that the file is empty."""
    (tmp_path / "plan.json").write_bytes(text)
    applied = run("apply", str(tmp_path / "plan.json"))
    assert applied.exit_code == 2
    assert f"Error: this is not a plan that `recall-async plan --out` wrote: {told}" in applied.stderr


@FULL
def test_full_disk_names_the_file(run, start, tmp_path: Path) -> None:
    """ "[Errno 28] No space left on device" does not tell which disk is full."""
    (tmp_path / "policy.toml").write_text("")
    planned = run("plan", "--policy", str(tmp_path / "policy.toml"), "--out", "/dev/full")
    assert (planned.exit_code, planned.stderr) == (1, "Error: /dev/full: No space left on device\n")
    with open("/dev/full", "w") as full:
        _, told = start("events", stdout=full).communicate(timeout=20)
    assert told == "Error: standard output: No space left on device\n"


def test_a_file_that_cannot_be_written(run, tmp_path: Path) -> None:
    """ "[Errno 2]" is Python's, not the user's."""
    (tmp_path / "policy.toml").write_text("")
    nowhere = str(tmp_path / "none" / "plan.json")
    planned = run("plan", "--policy", str(tmp_path / "policy.toml"), "--out", nowhere)
    assert (planned.exit_code, planned.stderr) == (1, f"Error: {nowhere}: No such file or directory\n")


@FULL
def test_a_history_that_is_no_file(run, tmp_path: Path) -> None:
    """A device that never ends would be read until the memory is full."""
    (tmp_path / "policy.toml").write_text("")
    planned = run("plan", "--policy", str(tmp_path / "policy.toml"), "--history", "/dev/full")
    assert (planned.exit_code, planned.stderr) == (2, "Error: --history must be a regular file, got '/dev/full'\n")


def test_redis_that_is_away(run) -> None:
    """The user would read how Python writes an address, and not what to look at."""
    result = run("quota", "--redis", "redis://127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr == (
        "Error: Redis does not answer: 127.0.0.1:1: connection refused. Check --redis, and whether the server runs.\n"
    )


def test_an_outage_of_a_server_that_was_not_started(run, tmp_path: Path) -> None:
    """The user would read that no response came, not that nothing listens there, and the name of a Python argument."""
    actions = tmp_path / "actions.jsonl"
    actions.write_text('{"action": "remove", "event_id": "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"}\n')
    results = str(tmp_path / "results.jsonl")
    result = run("bulk", str(actions), "--results", results, "--max-outage", "0", "--base-url", "http://127.0.0.1:1")
    assert result.exit_code == 4
    assert "unavailable for 0 s (connection refused)" in result.stderr
    assert "or allow a longer outage with --max-outage." in result.stderr


def test_a_server_that_is_no_redis(run, recall_sandbox) -> None:
    """The user would read how Python writes bytes, and not that the address is another server's."""
    result = run("quota", "--redis", recall_sandbox.url.replace("http:", "redis:"))
    assert result.exit_code == 1
    assert result.stderr == "Error: Redis does not answer: the server that was reached is not a Redis: check --redis\n"


@pytest.mark.parametrize("command", ["calendars --status nonsense", "calendars update {} --webhook-url nonsense"])
def test_a_value_that_the_api_refuses(run, recall_sandbox, command: str) -> None:
    """The user would read of a field of the API, and not which option to correct."""
    calendar = recall_sandbox.snapshot()["calendars"][0]["id"]
    result = run(*command.format(calendar).split())
    assert result.exit_code == 1
    option = command.split()[-2]
    assert f"failed with 400: the API refuses {option}. Correct this, and give the command again." in result.stderr


def test_a_reason_in_parentheses() -> None:
    """The advice would stand within the parentheses of the reason, and the closing one would be lost."""
    said = (
        "Redis has not answered for 30.3 s (Error 111 connecting to 127.0.0.1:1. Connect call failed ('127.0.0.1', 1).)"
    )
    assert describe(RecallError(said)) == (
        "Redis has not answered for 30.3 s (127.0.0.1:1: connection refused). Check --redis, and whether the server runs."
    )


def test_an_address_of_another_machine(run) -> None:
    """The user would read how Python writes an address."""
    result = run("sandbox", "--host", "192.0.2.1")
    assert result.exit_code == 2
    assert result.stderr.endswith("cannot listen on 192.0.2.1 port 8765: it is not an address of this machine\n")
