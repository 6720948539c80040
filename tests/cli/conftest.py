"""The command line in this process, and as a process of its own, both connected to a sandbox."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from recall_async.cli.app import app
from recall_async.sandbox import RecallSandbox

Run = Callable[..., Result]


def upcoming(sandbox: RecallSandbox) -> list[dict[str, Any]]:
    """The sandbox's events that can have a bot, the soonest first."""
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    events = [
        event
        for event in sandbox.snapshot()["events"]
        if event["start_time"] > soon and event["meeting_url"] and not event["is_deleted"]
    ]
    return sorted(events, key=lambda event: str(event["start_time"]))


@pytest.fixture
def environment(recall_sandbox: RecallSandbox) -> dict[str, str]:
    """What the environment says about the sandbox, and nothing of what the developer's own says."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("RECALL_")}
    return {**own, "RECALL_BASE_URL": recall_sandbox.url, "RECALL_API_KEY": recall_sandbox.api_key}


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process: `exit_code`, `stdout` and `stderr`."""
    for name in [name for name in os.environ if name.startswith("RECALL_")]:
        monkeypatch.delenv(name)

    def invoke(*arguments: str, env: dict[str, str | None] | None = None, **options: object) -> Result:
        with monkeypatch.context() as patch:
            for name, value in {**environment, **(env or {})}.items():
                patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
            result = CliRunner().invoke(app, arguments, prog_name="recall-async", **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def start(environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the command line as a process, with pipes; what still runs at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, **options: object) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(
            [sys.executable, "-m", "recall_async", *arguments], env=environment, text=True, **{**pipes, **options}
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], object]], None]:
    """Returns once a condition holds in another process; fails the test if it never does."""

    def wait(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            time.sleep(0.005)

    return wait


@pytest.fixture
def arrived(recall_sandbox: RecallSandbox) -> Callable[[str], int]:
    """How many requests for an operation the sandbox has counted, those under way included."""
    return lambda operation: recall_sandbox.report()["operations"][operation]["peak"]


@pytest.fixture
def write_actions(recall_sandbox: RecallSandbox, tmp_path: Path) -> Callable[..., Path]:
    """Writes a file that schedules a bot for each of some upcoming events, and what other lines it is given."""

    def write(count: int, *others: dict[str, object], shared: int = 1) -> Path:
        events = upcoming(recall_sandbox)[:count]
        assert len(events) == count
        lines: list[dict[str, object]] = [
            {
                "action": "schedule",
                "event_id": event["id"],
                "deduplication_key": f"key {number // shared}",
                "bot_config": {"bot_name": "Notes"},
                "start_time": event["start_time"],
            }
            for number, event in enumerate(events)
        ]
        path = tmp_path / "actions.jsonl"
        path.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *others]))
        return path

    return write
