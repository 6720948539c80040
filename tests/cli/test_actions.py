"""From events to the actions of a bulk job: with a policy or a filter, from the API or from a file."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recall_async import CalendarEvent, Deduplication
from recall_async.sandbox import RecallSandbox
from tests.cli.conftest import upcoming

pytestmark = pytest.mark.recall_sandbox(events=150, calendars=3)


def wanted(sandbox: RecallSandbox) -> set[str]:
    """Events that are not over and have a meeting URL."""
    now = datetime.now(UTC).isoformat()
    return {
        event["id"]
        for event in sandbox.snapshot()["events"]
        if event["end_time"] > now and event["meeting_url"] and not event["is_deleted"]
    }


def test_one_path_from_events_to_bots(run, recall_sandbox: RecallSandbox, tmp_path: Path) -> None:
    """`events --json` would have to be turned into actions by a program of the user's own."""
    events = run("events", "--json").stdout
    offline = {"RECALL_API_KEY": None}
    made = run("actions", "-", "--bot-config", '{"bot_name": "Notes"}', input=events, env=offline)
    assert made.exit_code == 0, made.output
    (tmp_path / "actions.jsonl").write_text(made.stdout)
    done = run("bulk", str(tmp_path / "actions.jsonl"), "--results", str(tmp_path / "r.jsonl"), "--json")
    summary = json.loads(done.stdout)
    assert (summary["failed"], summary["done"]) == (0, len(made.stdout.splitlines()))
    scheduled = {row["id"]: row for row in recall_sandbox.snapshot()["events"] if row["bots"]}
    assert scheduled.keys() <= wanted(recall_sandbox)
    assert {bot["config"]["bot_name"] for bot in recall_sandbox.snapshot()["bots"]} == {"Notes"}
    removed = run("actions", "--remove")
    assert {json.loads(text)["event_id"] for text in removed.stdout.splitlines()} == scheduled.keys()
    assert {json.loads(text)["action"] for text in removed.stdout.splitlines()} == {"remove"}


def test_a_policy_decides(run, recall_sandbox: RecallSandbox, tmp_path: Path) -> None:
    """The actions would be others than those of `plan` with the same policy."""
    policy = tmp_path / "policy.toml"
    policy.write_text('external_only = true\ndeduplication = "company"\n[bot_config]\nbot_name = "P"\n')
    plan = json.loads(run("plan", "--policy", str(policy), "--json").stdout)
    listed = run("actions", "--policy", str(policy))
    stored = run("actions", "-", "--policy", str(policy), input=run("events", "--json").stdout)
    assert listed.stdout == stored.stdout
    made = {row["event_id"]: row for row in map(json.loads, listed.stdout.splitlines())}
    scheduled = {row["event_id"] for row in plan["decisions"] if row["kind"] == "schedule"}
    now = datetime.now(UTC).isoformat()
    started = {row["id"] for row in recall_sandbox.snapshot()["events"] if row["start_time"] <= now}
    assert made.keys() - started == scheduled - started
    assert {row["bot_config"]["bot_name"] for row in made.values()} == {"P"}


def test_filters_hold_for_listed_and_for_stored_events(run, recall_sandbox: RecallSandbox) -> None:
    """A filter would be ignored where events come from a file."""
    calendar = upcoming(recall_sandbox)[-1]["calendar_id"]
    options = ("--calendar-id", calendar, "--from", "tomorrow", "--to", "+5d")
    listed = run("actions", *options).stdout
    assert listed
    assert run("actions", "-", *options, input=run("events", "--json").stdout).stdout == listed
    assert len(run("actions", *options, "--limit", "2").stdout.splitlines()) == 2


@pytest.mark.parametrize("text", ["{}", "not json", "[]", '{"id": 1}'])
def test_what_is_no_event_is_named_by_its_line(run, text: str) -> None:
    """A damaged file would end in a traceback, or give fewer bots than it has events."""
    result = run("actions", "-", input=f"\n{text}\n")
    assert result.exit_code == 2
    assert ":2: not an event" in result.stderr


def test_policy_and_configuration_exclude_each_other(run, tmp_path: Path) -> None:
    """One of two configurations would be dropped in silence."""
    policy = tmp_path / "policy.toml"
    policy.write_text("")
    assert run("actions", "--policy", str(policy), "--bot-config", "{}").exit_code == 2


def test_schedule_uses_the_meeting_scheme(run, recall_sandbox: RecallSandbox) -> None:
    """A bot scheduled by hand would not be the one that `plan` expects, and a meeting would get two."""
    event = upcoming(recall_sandbox)[-1]
    done = run("schedule", event["id"], "--json")
    assert done.exit_code == 0, done.output
    (bot,) = json.loads(done.stdout)["bots"]
    import msgspec

    found = msgspec.json.decode(run("event", event["id"], "--json").stdout, type=CalendarEvent)
    assert bot["deduplication_key"] == Deduplication.MEETING(found)
