"""What is printed bears strangers' texts, narrow encodings and readers that go away."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recall_async.cli.text import fitted, line, print_json, printable
from recall_async.sandbox import RecallSandbox
from tests.cli.conftest import upcoming

pytestmark = pytest.mark.recall_sandbox(events=150, calendars=3)


@pytest.mark.parametrize("arguments", [("events", "--json", "--include-deleted"), ("events",), ("calendars",)])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_reader_that_goes_away(start, environment: dict[str, str], arguments: tuple[str, ...], unbuffered: str) -> None:
    """`recall-async events | head` would end in a traceback, or fail under `set -o pipefail`."""
    environment["PYTHONUNBUFFERED"] = unbuffered
    process = start(*arguments)
    process.stdout.close()
    told = process.stderr.read()
    assert process.wait(timeout=20) == 0, told
    assert "Error" not in told


def test_job_whose_output_nobody_reads(start, write_actions, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """A job would end in the middle because a pager was closed."""
    process = start("bulk", str(write_actions(20)), "--results", str(tmp_path / "r.jsonl"))
    process.stdout.close()
    process.stderr.close()
    assert process.wait(timeout=20) == 0
    assert recall_sandbox.report()["operations"]["calendar_events.schedule_bot"]["accepted"] == 20


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_full_disk_is_one_message(start) -> None:
    """A list that was cut short by a full disk would look complete, or end in a traceback."""
    with open("/dev/full", "w") as full:
        process = start("events", "--json", stdout=full)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 1
    assert told.startswith("Error: ")
    assert told.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("streams", [("stdout",), ("stderr",), ("stdout", "stderr")])
def test_job_whose_output_fails(start, write_actions, tmp_path: Path, recall_sandbox, streams, options) -> None:
    """A job that did everything would be reported as failed, because what it says of it does not fit on a disk."""
    job = ("bulk", str(write_actions(20)), "--results", str(tmp_path / "r.jsonl"), *options)
    with open("/dev/full", "w") as full:
        process = start(*job, **dict.fromkeys(streams, full))
        _, told = process.communicate(timeout=20)
    assert process.returncode == 0, told
    if streams == ("stdout",):
        assert "Standard output cannot be written: No space left" in told


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_change_whose_output_fails(
    start, run, environment: dict[str, str], recall_sandbox: RecallSandbox, options: tuple[str, ...]
) -> None:
    """A script would repeat a change that was made, because what is printed of it does not fit on a disk."""
    event, *_, other = upcoming(recall_sandbox)
    calendar, other = recall_sandbox.snapshot()["calendars"][0]["id"], other["id"]
    bot = json.loads(run("schedule", event["id"], "--json").stdout)["bots"][0]["bot_id"]
    begins = datetime.fromisoformat(event["start_time"])
    recall_sandbox.advance((begins - datetime.now(UTC)).total_seconds() + 60)
    environment |= {"RECALL_OAUTH_CLIENT_SECRET": "secret", "RECALL_OAUTH_REFRESH_TOKEN": "token"}
    for change in (
        ("calendars", "create", "--platform", "google_calendar", "--oauth-client-id", "client"),
        ("calendars", "update", calendar, "--webhook-url", "https://notes.example/hooks"),
        ("bots", "leave", bot),
        ("schedule", other),
        ("remove", other),
    ):
        with open("/dev/full", "w") as full:
            process = start(*change, *options, stdout=full)
            _, told = process.communicate(timeout=20)
        assert (process.returncode, told.count("\n")) == (0, 1), (change, told)
        assert told.startswith("Standard output cannot be written: No space left"), change


def test_closed_output(environment: dict[str, str]) -> None:
    """`>&-` would end in a traceback."""
    for closing in (">&-", "2>&-", ">&- 2>&-"):
        command = f"{sys.executable} -m recall_async events {closing}"
        result = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stderr
        assert "Traceback" not in result.stderr


def test_title_that_the_encoding_lacks(start, environment: dict[str, str], recall_sandbox: RecallSandbox) -> None:
    """One emoji in a title would end the listing in a traceback on a Windows terminal."""
    environment["PYTHONIOENCODING"] = "cp1252"
    process = start("calendars", "--email", "🤖@example.com", "--platform", "🤖")
    _, told = process.communicate(timeout=20)
    assert "Traceback" not in told
    program = "from recall_async.cli.streams import harden; harden(); print('🤖 Łódź')"
    result = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert result.stdout.decode("cp1252") == "? ?ód?\n"


def test_terminal_escapes_are_defused() -> None:
    """A stranger's invitation could rewrite the screen of whoever lists events."""
    assert printable("\x1b[2Jtitle\x07\u202e") == "�[2Jtitle��"
    assert printable("\x9d0;title\x9c \u2066abc\u2069") == "�0;title� �abc�"
    assert line(" a\r\nb\t") == "a b"
    assert line("\N{WOMAN}\u200d\N{PERSONAL COMPUTER}") == "\N{WOMAN}\u200d\N{PERSONAL COMPUTER}"


def test_json_keeps_its_value_and_defuses_the_terminal(capsysbinary) -> None:
    """A C1 control character or a mark of direction in JSON would be obeyed, or lost."""
    title = "a\x9d0;owned\x9c \u202egnp.exe \U000e0041 Łódź \x7f"
    print_json({"title": title})
    written = capsysbinary.readouterr().out.decode()
    assert printable(written) == written
    assert json.loads(written)["title"] == title
    assert "Łódź" in written


def test_cut_to_the_width_of_a_terminal() -> None:
    """A title in Japanese would wrap, since its characters take two columns."""
    assert fitted("short", 5) == "short"
    assert fitted("longer", 5) == "long…"
    assert fitted("会議のタイトル", 8) == "会議の…"
    assert fitted("e\u0301e\u0301e\u0301", 3) == "e\u0301e\u0301e\u0301"
