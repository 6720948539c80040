"""Calendars, and the secrets that connecting one takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recall_async.sandbox import RecallSandbox

pytestmark = pytest.mark.recall_sandbox(events=20, calendars=3)


@pytest.mark.parametrize("arguments", [(), ("list",), ("--platform", "google_calendar"), ("--json",)])
def test_list(run, recall_sandbox: RecallSandbox, arguments: tuple[str, ...]) -> None:
    """`recall-async calendars` alone would not list them, or a filter would be ignored."""
    shown = run("calendars", *arguments).stdout
    for calendar in recall_sandbox.snapshot()["calendars"]:
        assert (calendar["id"] in shown) == ("--platform" not in arguments or calendar["platform"] == "google_calendar")


def test_secrets_are_masked(run, recall_sandbox: RecallSandbox) -> None:
    """OAuth secrets would end up in terminals and logs, because the API sends them back."""
    calendar = recall_sandbox.snapshot()["calendars"][0]
    assert calendar["oauth_refresh_token"]
    shown = [run("calendars", "get", calendar["id"], *flag).stdout for flag in ((), ("--json",))]
    shown.append(run("calendars", "list", "--json").stdout)
    for text in shown:
        assert calendar["id"] in text
        assert calendar["oauth_client_secret"] not in text
        assert calendar["oauth_refresh_token"] not in text


def test_create_update_delete(run, recall_sandbox: RecallSandbox, tmp_path: Path) -> None:
    """The commands would not pass on what they were given, or pass a secret with its file's line break."""
    for name in ("secret", "token"):
        (tmp_path / name).write_text(f"the-{name}\n")
    created = run(
        "calendars", "create", "--platform", "google_calendar", "--oauth-client-id", "client",
        "--oauth-client-secret-file", str(tmp_path / "secret"), "--oauth-refresh-token-file", str(tmp_path / "token"),
        "--json",
    )  # fmt: skip
    calendar_id = json.loads(created.stdout)["id"]

    def on_server() -> dict:
        return next(c for c in recall_sandbox.snapshot()["calendars"] if c["id"] == calendar_id)

    assert (on_server()["oauth_client_secret"], on_server()["oauth_refresh_token"]) == ("the-secret", "the-token")
    assert "the-secret" not in created.output
    updated = run(
        "calendars", "update", calendar_id, "--webhook-url", "https://example.com/hook",
        env={"RECALL_OAUTH_REFRESH_TOKEN": "newer"},
    )  # fmt: skip
    assert "https://example.com/hook" in updated.stdout
    assert (on_server()["oauth_client_secret"], on_server()["oauth_refresh_token"]) == ("the-secret", "newer")
    assert run("calendars", "delete", calendar_id).exit_code == 0
    assert on_server()["status"] == "disconnected"


def test_create_without_secrets(run) -> None:
    """A missing secret would be found out by the API, or by nobody."""
    result = run("calendars", "create", "--platform", "google_calendar", "--oauth-client-id", "client")
    assert result.exit_code == 2
    assert "--oauth-client-secret-file, or set RECALL_OAUTH_CLIENT_SECRET" in result.stderr


def test_update_of_nothing(run, recall_sandbox: RecallSandbox) -> None:
    """An update that forgot its options would look like one that worked."""
    assert run("calendars", "update", recall_sandbox.snapshot()["calendars"][0]["id"]).exit_code == 2


def test_token(run, recall_sandbox: RecallSandbox) -> None:
    """`$(recall-async calendars token ID)` would hold more than the token."""
    calendar_id = recall_sandbox.snapshot()["calendars"][0]["id"]
    result = run("calendars", "token", calendar_id)
    assert result.stdout.startswith("sandbox-token-")
    assert result.stdout.count("\n") == 1
    assert set(json.loads(run("calendars", "token", calendar_id, "--json").stdout)) == {"token", "expires_at"}
