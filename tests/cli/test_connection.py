"""Where a command connects to, and with which key."""

from __future__ import annotations

from pathlib import Path

import pytest

from recall_async import RetryPolicy
from recall_async.sandbox import RecallSandbox

pytestmark = pytest.mark.recall_sandbox(events=20, api_key="correct-horse")


def test_key_from_a_file(run, tmp_path: Path) -> None:
    """A key that is kept in a file, with an editor's line break or BOM, could not be used."""
    file = tmp_path / "key"
    file.write_text("\ufeffcorrect-horse\n", encoding="utf-8")
    assert run("calendars", "--api-key-file", str(file), env={"RECALL_API_KEY": None}).exit_code == 0


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"\xff\xfe\x00k"])
def test_file_without_a_key(run, tmp_path: Path, content: bytes) -> None:
    """A damaged key file would end in a traceback, or be printed."""
    file = tmp_path / "key"
    file.write_bytes(content)
    result = run("calendars", "--api-key-file", str(file))
    assert result.exit_code == 2
    assert "two" not in result.output


def test_wrong_key_is_refused_and_not_shown(run, recall_sandbox: RecallSandbox) -> None:
    """The key would end up in a log."""
    result = run("events", env={"RECALL_API_KEY": "battery-staple"})
    assert result.exit_code == 3
    assert "another region" in result.stderr
    assert "battery-staple" not in result.output
    assert "Traceback" not in result.output


def test_key_is_no_argument(run) -> None:
    """Every user of the machine could read it in the list of processes."""
    for name in ("events", "schedule", "calendars list"):
        help_text = run(*name.split(), "--help").stdout
        assert "--api-key-file FILE" in help_text
        assert "--api-key " not in help_text


def test_region_goes_before_the_environment(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--region would be ignored by whoever has RECALL_BASE_URL set."""
    from recall_async.cli import connection

    opened = []
    original = connection.Connection.session
    monkeypatch.setattr(connection.Connection, "session", lambda self: opened.append(original(self)) or exit(0))
    run("events", "--region", "eu-central-1")
    run("events", "--region", "eu-central-1", "--base-url", "https://proxy.example")
    run("events", env={"RECALL_WORKSPACE": "team"})
    assert "https://eu-central-1.recall.ai" in repr(opened[0])
    assert "https://proxy.example" in repr(opened[1])
    assert opened[2].workspace == "team"


def test_unknown_region(run) -> None:
    """A typing error in the region would be sent to some host."""
    result = run("events", "--region", "mars")
    assert result.exit_code == 2
    assert "eu-central-1" in result.stderr


def test_no_server(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that was not started would show as a traceback."""
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.0)
    result = run("event", "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11", "--base-url", "http://127.0.0.1:9")
    assert result.exit_code == 1
    assert "no answer from http://127.0.0.1:9" in result.stderr


@pytest.mark.parametrize(("flag", "said"), [("-v", False), ("-vv", True)])
def test_verbose(start, recall_sandbox: RecallSandbox, flag: str, said: bool) -> None:
    """A command that waits would not say what for, or its log would be in its output."""
    recall_sandbox.fault("calendar_events.list", status=503, times=1, headers={"Retry-After": "0"})
    process = start("events", flag, "--json")
    out, told = process.communicate(timeout=20)
    assert process.returncode == 0
    assert all(text.startswith("{") for text in out.splitlines())
    assert "503" in told
    assert ("DEBUG" in told) is said
    assert "correct-horse" not in told


@pytest.mark.parametrize(
    ("arguments", "env", "named"),
    [
        ((), {"RECALL_API_KEY": ""}, "RECALL_API_KEY must"),
        ((), {"RECALL_API_KEY": "a b"}, "RECALL_API_KEY must"),
        ((), {"RECALL_REGION": "mars"}, "RECALL_REGION must"),
        ((), {"RECALL_REGION": "mars", "RECALL_BASE_URL": None}, "RECALL_REGION must"),
        ((), {"RECALL_BASE_URL": "ftp://x"}, "RECALL_BASE_URL must"),
        (("--base-url", "ftp://x"), {}, "--base-url must"),
        (("--region", "mars"), {}, "--region must"),
        (("--quota-scale", "inf"), {}, "--quota-scale must"),
        (("--quota-scale", "nan"), {}, "--quota-scale must"),
        (("--quota-scale", "1e20"), {}, "--quota-scale must"),
        (("--timeout", "nan"), {}, "--timeout must"),
        (("--timeout", "1e300"), {}, "--timeout must"),
    ],
)
def test_an_error_names_what_the_user_set(
    run, arguments: tuple[str, ...], env: dict[str, str | None], named: str
) -> None:
    """Would blame an option that nobody gave for a variable of the environment, or name a parameter of Python."""
    result = run("events", "--limit", "1", *arguments, env=env)
    assert result.exit_code == 2
    assert named in result.stderr.replace("Invalid value for ", "").replace(": must", " must").replace("'", "")


@pytest.mark.parametrize(
    "arguments",
    [("calendars", "--platform", "zoom"), ("calendars", "create", "--platform", "zoom", "--oauth-client-id", "x")],
)
def test_no_error_speaks_of_exceptions(run, arguments: tuple[str, ...]) -> None:
    """Would refer a user of the command line to an attribute of an exception."""
    secrets = {"RECALL_OAUTH_CLIENT_SECRET": "a", "RECALL_OAUTH_REFRESH_TOKEN": "b"}
    result = run(*arguments, env=secrets)
    assert result.exit_code == 1
    assert "the API refuses --platform" in result.stderr
    assert "exception" not in result.stderr
    assert "detail" not in result.stderr
