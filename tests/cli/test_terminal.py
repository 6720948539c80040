"""On a terminal: a bar that moves, a table of failures, and the keys that a user presses."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from recall_async import NotFoundError, Progress
from recall_async.cli.drawing import display, draw_failures
from recall_async.cli.failures import Failures
from recall_async.cli.jobs import _figures_of
from recall_async.cli.watching import Pace
from recall_async.jobs import JobStatus
from recall_async.outage import Outage
from recall_async.sandbox import RecallSandbox
from tests.cli.conftest import upcoming

pytestmark = pytest.mark.recall_sandbox(events=150, calendars=3)


class Terminal:
    """A process in a terminal of its own."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))

        def take_terminal() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
            preexec_fn=take_terminal,
        )
        os.close(slave)
        self.text = ""

    def read(self) -> bool:
        """Wait for more on the screen; false if there will be no more."""
        try:
            self.text += os.read(self._master, 65536).decode()
        except OSError:
            return False
        return True

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(environment: dict[str, str]) -> Iterator[Callable[..., Terminal]]:
    """Starts the command line in a terminal."""
    opened: list[Terminal] = []

    def open_terminal(*arguments: str, columns: int = 100) -> Terminal:
        opened.append(
            Terminal(
                [sys.executable, "-m", "recall_async", *arguments],
                {**environment, "TERM": "xterm", "COLUMNS": str(columns)},
            )
        )
        return opened[-1]

    yield open_terminal
    for each in opened:
        each.close()


def test_bar_table_and_ctrl_c(terminal, write_actions, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """The user would not see how far the job is and what fails, or have no key that ends it well."""
    unknown = "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"
    first = {
        "action": "remove",
        "event_id": unknown,
        "start_time": "2020-01-01T00:00:00Z",
        "end_time": "2999-01-01T00:00:00Z",
    }
    recall_sandbox.set_latency((1.0, 1.0), (0, 0))  # the job takes 15 s: time enough to see it in its course
    job = ("bulk", str(write_actions(90, first)), "--results", str(tmp_path / "r.jsonl"), "--concurrency", "6")
    shown = terminal(*job)
    while not re.search(r"[1-9]\d?/91, 1 failed, .*quota [1-9]\d?/600, \d", shown.text):
        assert shown.read(), shown.text
    shown.type("\x03")
    while shown.read():
        pass
    assert shown.process.wait(timeout=20) == 130
    assert "Finishing the requests in flight" in shown.text
    assert "│ 404 not found │" in shown.text
    assert f"--results {tmp_path / 'r.jsonl'}" in shown.text.replace("\r\n", "")
    assert "Traceback" not in shown.text


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize(
    "command",
    ["events", "calendars", "plan --policy policy.toml", "quota", "bulk --help", "jobs --help", "events --limit x"],
)
def test_rows_fit_the_terminal(terminal, command: str, columns: int, tmp_path: Path) -> None:
    """Rows, help and errors would be broken in the middle of a word, or ids cut off, where the terminal is narrow."""
    (tmp_path / "policy.toml").write_text("min_attendees = 0\n")
    shown = terminal(*command.replace("policy.toml", str(tmp_path / "policy.toml")).split(), columns=columns)
    while shown.read():
        pass
    rows = shown.text.replace("\r", "").splitlines()
    assert len(rows) > 3
    assert [row for row in rows if len(row) > columns] == []
    if command in ("events", "calendars") or command.startswith("plan"):
        ids = re.findall(r"\b[0-9a-f]{8}-[0-9a-f-]+", shown.text)
        assert ids
        assert {len(each) for each in ids} == {36}


@pytest.mark.parametrize("columns", [80, 120])
def test_the_list_of_bots_tells_why_each_ended(terminal, run, recall_sandbox: RecallSandbox, columns: int) -> None:
    """The reason would be cut off, or its title would stand alone on a line of its own."""
    event = upcoming(recall_sandbox)[-1]
    bot = json.loads(run("schedule", event["id"], "--json").stdout)["bots"][0]["bot_id"]
    recall_sandbox.fail_bot(bot, "timeout_exceeded_waiting_room")
    recall_sandbox.advance(40 * 86400)
    shown = terminal("bots", columns=columns)
    while shown.read():
        pass
    head, *rows = shown.text.replace("\r", "").splitlines()
    assert head.split() == ["JOINS", "(UTC)", "BOT", "STATUS"]
    assert all(len(row) <= columns for row in rows)
    told = " ".join(" ".join(rows).split())
    assert re.search(rf"{bot} fatal \(timeout_exceeded_waiting_room\)", told), shown.text


def progress(**values: object) -> Progress:
    """A job in its course."""
    usual = {
        "done": 10, "failed": 0, "skipped": 0, "resumed": 0, "total": 400, "rate": 9.96, "taken": 70, "limit": 600,
        "waited": 0.0, "paused": 0.0, "eta": 39.0,
    }  # fmt: skip
    return Progress(**{**usual, **values})


def test_lines_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A log would be full of a bar's control characters, or say nothing of a job for an hour."""
    with display("bulk") as shown:
        assert 1 <= shown.interval <= 10
        shown.update(progress())
        shown.update(progress(failed=2, skipped=1, paused=12.0, total=None, eta=None, rate=0.0))
        shown.update(progress(store_silent=7.0, eta=None))
        shown.update(progress(outage=Outage(75.0, "503", 12.0)))
        shown.update(progress(outage=Outage(75.0, "no response", 0.0), total=None))
        shown.say("a remark")
    assert capsys.readouterr().err.splitlines() == [
        "bulk: 10/400, 10.0/s, quota 70/600, 39 s left",
        "bulk: 13, 2 failed, 1 skipped, quota 70/600, paused 12 s",
        "bulk: 10/400, waiting for Redis, silent for 7.0 s (Ctrl-C ends the wait)",
        "bulk: server unavailable for 1 min 15 s (503); next try in 12 s; 390 actions wait",
        "bulk: server unavailable for 1 min 15 s (no response); trying now; the rest waits",
        "a remark",
    ]


def test_the_pace_of_a_watched_job_is_on_the_screen() -> None:
    """The rate and the time left would be cut off at 80 columns, behind the counts of chunks."""
    status = JobStatus(
        "tonight", total=50_000, done=1200, failed=3, skipped=12,
        chunks_open=200, chunks_in_work=4, chunks_dead=1, submitted=True, cancelled=False,
    )  # fmt: skip
    pace = Pace()
    pace.note(replace(status, done=1100), 0.0)
    pace.note(status, 10.0)
    told = _figures_of(status) + pace.text(status)
    assert told == "tonight: 1215/50000, 3 failed, 12 skipped, 1 given up, 10.0/s, 1 h 21 min left"
    assert len(_figures_of(replace(status, chunks_dead=0)) + pace.text(status)) < 80


@pytest.mark.parametrize("columns", [40, 100])
def test_failures_fit_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The columns of the table of failures would be a few letters wide in a narrow terminal."""
    failures = Failures()
    failures.add("2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11", NotFoundError("Not found"))
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    draw_failures(failures, err=False)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, shown)) <= columns
    assert any("2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11" in row for row in shown)
