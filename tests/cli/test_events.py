"""Events and their bots, one at a time."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from recall_async.cli.text import duration
from recall_async.sandbox import RecallSandbox
from tests.cli.conftest import upcoming

pytestmark = pytest.mark.recall_sandbox(events=150, calendars=3)


def test_listing_as_json_is_pure_and_complete(run, recall_sandbox: RecallSandbox) -> None:
    """A program could not read the list, or would miss events behind the first page."""
    result = run("events", "--include-deleted", "--json")
    events = [json.loads(text) for text in result.stdout.splitlines()]
    assert {event["id"] for event in events} == {event["id"] for event in recall_sandbox.snapshot()["events"]}
    assert all(isinstance(event["raw"], dict) for event in events)
    assert result.stderr == ""


def test_deleted_events_only_when_asked_for(run, recall_sandbox: RecallSandbox) -> None:
    """Deleted events would look like meetings that take place."""
    deleted = {event["id"] for event in recall_sandbox.snapshot()["events"] if event["is_deleted"]}
    assert deleted
    shown = run("events").stdout
    assert not any(event_id in shown for event_id in deleted)
    assert all(event_id in run("events", "--include-deleted").stdout for event_id in deleted)


def test_filters(run, recall_sandbox: RecallSandbox) -> None:
    """A filter would be accepted and have no effect."""
    event = upcoming(recall_sandbox)[-1]
    start = event["start_time"]
    result = run("events", "--calendar-id", event["calendar_id"], "--from", start, "--to", start, "--json")
    events = [json.loads(text) for text in result.stdout.splitlines()]
    assert event["id"] in {e["id"] for e in events}
    assert {(e["calendar_id"], e["start_time"]) for e in events} == {(event["calendar_id"], start)}
    assert run("events", "--from", "soon").exit_code == 2
    assert len(run("events", "--limit", "7").stdout.splitlines()) == 7
    assert len(run("events", "--from", "yesterday", "--to", "+30d").stdout.splitlines()) > 7
    assert run("events", "--from", "+40d").stdout == ""


def test_schedule_show_remove(run, recall_sandbox: RecallSandbox) -> None:
    """The three commands would not do what they say to the server's state."""
    event_id = upcoming(recall_sandbox)[-1]["id"]
    config = {"bot_name": "Notes"}
    done = run("schedule", event_id, "--deduplication-key", "k", "--bot-config", json.dumps(config), "--json")
    assert done.exit_code == 0
    (bot,) = recall_sandbox.snapshot()["bots"]
    assert (bot["key"], bot["config"]) == ("k", config)
    assert json.loads(done.stdout)["bots"][0]["bot_id"] == bot["id"]
    assert f"bot        {bot['id']}" in run("event", event_id).stdout
    assert "bot        none" in run("remove", event_id).stdout
    assert recall_sandbox.snapshot()["bots"] == []


def test_config_from_a_file(run, recall_sandbox: RecallSandbox, tmp_path: Path) -> None:
    """A configuration that is too long for an argument could not be given."""
    file = tmp_path / "bot.json"
    file.write_text('{"bot_name": "From a file"}')
    event_id = upcoming(recall_sandbox)[-1]["id"]
    assert run("schedule", event_id, "--deduplication-key", "k", "--bot-config", f"@{file}").exit_code == 0
    assert recall_sandbox.snapshot()["bots"][0]["config"] == {"bot_name": "From a file"}


@pytest.mark.parametrize("config", ["{", "[]", '"text"', "@/no/such/file", '{"a": NaN}', "\udcff"])
def test_bad_config_sends_nothing(run, recall_sandbox: RecallSandbox, config: str) -> None:
    """Half a configuration would replace the whole one that the bot has."""
    result = run("schedule", upcoming(recall_sandbox)[-1]["id"], "--deduplication-key", "k", "--bot-config", config)
    assert result.exit_code == 2
    assert "--bot-config" in result.stderr
    assert sum(recall_sandbox.report()["operations"]["calendar_events.schedule_bot"].values()) == 0


def test_list_says_which_events_can_have_a_bot(run, recall_sandbox: RecallSandbox) -> None:
    """A user would pick an event without a meeting URL, and be told so by the API."""
    shown = {row.split()[2]: row.split()[3] for row in run("events", "--include-deleted").stdout.splitlines()}
    for event in recall_sandbox.snapshot()["events"]:
        expected = "gone" if event["is_deleted"] else "0" if event["meeting_url"] else "-"
        assert shown[event["id"]] == expected


def test_failure_is_one_message(run) -> None:
    """A failed call would print a traceback, or end like one that succeeded."""
    result = run("event", "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11", "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: calendar_events.retrieve failed with 404")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_call(start, arrived, wait_until, recall_sandbox: RecallSandbox, number: signal.Signals) -> None:
    """Interrupting a call that hangs would show a traceback, or do nothing."""
    recall_sandbox.fault("calendar_events.list", kind="hang", times=None)
    process = start("events")
    wait_until(lambda: arrived("calendar_events.list"))
    process.send_signal(number)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told.strip() == "Interrupted."


def test_durations() -> None:
    """An hour and a half would be told in seconds."""
    assert [duration(s) for s in (0.25, 59.6, 61, 3599.9, 5040)] == [
        "0.2 s",
        "60 s",
        "1 min 1 s",
        "1 h 0 min",
        "1 h 24 min",
    ]
