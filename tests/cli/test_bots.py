"""`bots`, and the status of bots in `event` and `events`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from recall_async.sandbox import RecallSandbox
from tests.cli.conftest import upcoming

pytestmark = pytest.mark.recall_sandbox(events=150, calendars=3)


@pytest.fixture
def scheduled(run, recall_sandbox: RecallSandbox) -> list[dict[str, Any]]:
    """The first events with a bot each, the soonest first."""
    events = upcoming(recall_sandbox)[:3]
    for event in events:
        config = json.dumps({"bot_name": "Notes", "metadata": {"event": event["id"]}})
        result = run("schedule", event["id"], "--deduplication-key", event["id"], "--bot-config", config, "--json")
        event["bots"] = json.loads(result.stdout)["bots"]
    return events


def begin(sandbox: RecallSandbox, event: dict[str, Any], seconds: float = 60) -> None:
    start = datetime.fromisoformat(event["start_time"])
    sandbox.advance((start - datetime.now(UTC)).total_seconds() + seconds)


def bot_id(event: dict[str, Any]) -> str:
    return event["bots"][0]["bot_id"]


def test_list(run, scheduled: list[dict[str, Any]]) -> None:
    """A bot is not listed, or a filter has no effect."""
    for arguments in ((), ("list",), ("--status", "ready"), ("--status", "done", "--status", "ready")):
        shown = run("bots", *arguments).stdout
        assert all(f"{bot_id(event)}  ready" in shown for event in scheduled)
    one = run("bots", "--metadata", f"event={scheduled[1]['id']}", "--json")
    (found,) = [json.loads(text) for text in one.stdout.splitlines()]
    assert (found["id"], found["status"], found["bot_name"]) == (bot_id(scheduled[1]), "ready", "Notes")
    assert run("bots", "--status", "done").stdout == ""
    assert run("bots", "--from", "+40d").stdout == ""
    assert len(run("bots", "--limit", "2").stdout.splitlines()) == 2
    assert run("bots", "--metadata", "event").exit_code == 2


def test_show_what_became_of_a_bot(run, recall_sandbox: RecallSandbox, scheduled: list[dict[str, Any]]) -> None:
    """Nobody can see on the command line why a bot did not join."""
    recall_sandbox.fail_bot(bot_id(scheduled[0]), "meeting_not_started")
    begin(recall_sandbox, scheduled[0])
    shown = run("bots", "show", bot_id(scheduled[0])).stdout
    assert "status     fatal (meeting_not_started)" in shown
    assert "in_waiting_room" in shown
    document = json.loads(run("bots", "show", bot_id(scheduled[0]), "--json").stdout)
    assert (document["status"], document["sub_code"], document["joined_at"]) == ("fatal", "meeting_not_started", None)
    assert document["status_changes"][-1]["code"] == "fatal"
    recall_sandbox.advance(40 * 24 * 3600)
    assert "https://media.example/" in run("bots", "show", bot_id(scheduled[2])).stdout


@pytest.mark.parametrize(("status", "code"), [(401, 3), (400, 1), (500, 1)])
def test_bots_that_cannot_be_read(
    run, recall_sandbox: RecallSandbox, scheduled: list[dict[str, Any]], status: int, code: int
) -> None:
    """A traceback of a group of exceptions in place of the reason."""
    recall_sandbox.fault("bots.retrieve", kind="status", status=status, times=None)
    for words in (("events", "--bots"), ("event", scheduled[0]["id"], "--bots")):
        result = run(*words)
        assert result.exit_code == code
        assert f"Error: bots.retrieve failed with {status}" in result.stderr


def test_leave(run, recall_sandbox: RecallSandbox, scheduled: list[dict[str, Any]]) -> None:
    """A bot stays in a meeting that it was told to leave, or leaves another one."""
    assert run("bots", "leave", bot_id(scheduled[0])).exit_code == 1
    begin(recall_sandbox, scheduled[0])
    assert "call_ended (bot_received_leave_call)" in run("bots", "leave", bot_id(scheduled[0])).stdout
    again = run("bots", "leave", bot_id(scheduled[0]), "--yes")
    assert (again.exit_code, "cannot_command_completed_bot" in again.stderr) == (1, True)
    assert run("bots", "show", "nobody").exit_code == 2


def test_events_show_their_bots_on_request(run, recall_sandbox: RecallSandbox, scheduled: list[dict[str, Any]]) -> None:
    """A list of events does not tell which of their bots have joined."""
    begin(recall_sandbox, scheduled[0])
    first, second = scheduled[:2]
    plain = run("event", first["id"]).stdout
    assert "status" not in plain
    assert "  status   in_call_recording" in run("event", first["id"], "--bots").stdout
    entry = json.loads(run("event", first["id"], "--bots", "--json").stdout)["bots"][0]
    assert (entry["status"], entry["sub_code"], entry["joined_at"] is None) == ("in_call_recording", None, False)
    lines = run("events", "--bots").stdout.splitlines()
    assert any(bot_id(first) in text and text.endswith("in_call_recording") for text in lines)
    events = [json.loads(text) for text in run("events", "--bots", "--json").stdout.splitlines()]
    statuses = {bot["bot_id"]: bot["status"] for event in events for bot in event["bots"]}
    assert statuses.keys() == {bot_id(event) for event in scheduled}
    assert statuses[bot_id(first)] == "in_call_recording"
    assert statuses[bot_id(second)] in ("ready", "in_call_recording")
