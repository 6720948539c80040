"""Files without an end: a device or an endless pipe in place of a file is refused, and other pipes are read."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from recall_async import ConfigurationError, RecordingPolicy
from recall_async.reading import parts_of, read_file
from recall_async.sandbox import RecallSandbox

pytestmark = [
    pytest.mark.recall_sandbox(events=20),
    pytest.mark.skipif(sys.platform != "linux", reason="/dev/zero is a Unix device"),
]
EVENT = "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"
BULK = ("bulk", "--results", "{tmp}/results.jsonl")
CREATE = ("calendars", "create", "--platform", "google_calendar", "--oauth-client-id", "client")
READERS = {
    "PLAN": ("apply", "{file}"),
    "ACTIONS": (*BULK, "{file}"),
    "ACTIONS of a job in Redis": ("jobs", "submit", "{file}", "--name", "job", "--redis", "redis://127.0.0.1:9"),
    "EVENTS": ("actions", "{file}"),
    "--policy": ("plan", "--policy", "{file}"),
    "--policy of sync": ("sync", "--policy", "{file}"),
    "--policy of actions": ("actions", "--policy", "{file}"),
    "--bot-config": ("schedule", EVENT, "--bot-config", "@{file}"),
    "--bot-config of actions": ("actions", "--bot-config", "@{file}"),
    "--bot-config of bulk": (*BULK, "{actions}", "--bot-config", "{file}"),
    "--api-key-file": ("events", "--api-key-file", "{file}"),
    "--ca-file": ("events", "--ca-file", "{file}"),
    "--history": ("plan", "--policy", "{policy}", "--history", "{file}"),
    "--oauth-refresh-token-file": (*CREATE, "--oauth-refresh-token-file", "{file}"),
    "--oauth-client-secret-file": (*CREATE, "--oauth-client-secret-file", "{file}"),
}


@pytest.fixture
def words(tmp_path: Path) -> Callable[[str, object], list[str]]:
    """Returns the command that reads a file, with this file in its place."""
    (tmp_path / "actions").write_text(json.dumps({"action": "remove", "event_id": EVENT}) + "\n")
    (tmp_path / "policy").write_text("")

    def make(name: str, file: object) -> list[str]:
        known = {"file": file, "tmp": tmp_path, "actions": tmp_path / "actions", "policy": tmp_path / "policy"}
        return [word.format(**known) for word in READERS[name]]

    return make


@pytest.mark.parametrize("name", READERS)
def test_a_device_is_refused(run, words, name: str) -> None:
    """The command would read until the memory is full."""
    result = run(*words(name, "/dev/zero"))
    assert result.exit_code == 2, result.output
    kind = "a regular file" if name == "--history" else "a file, a pipe or a terminal"
    assert result.stderr.endswith(f"Error: {name.partition(' of ')[0]} must be {kind}, got '/dev/zero'\n")


@pytest.mark.parametrize("name", ["PLAN", "ACTIONS", "EVENTS"])
def test_a_device_as_standard_input_is_refused(start, words, name: str) -> None:
    """A redirection would reach what a name does not."""
    with open("/dev/zero", "rb") as zeros:
        _, told = start(*words(name, "-"), stdin=zeros).communicate(timeout=60)
    assert f"Error: {name} must be a file, a pipe or a terminal, got '<stdin>'" in told


@pytest.mark.parametrize("name", [name for name in READERS if name not in ("--history", "--ca-file")])
def test_the_null_device_is_an_empty_file(run, words, name: str) -> None:
    """`< /dev/null` and `cat no-files*` would be refused as endless."""
    assert "must be a file" not in run(*words(name, "/dev/null")).stderr


@pytest.mark.parametrize("place", ["/dev/stdin", "-", "fifo"])
def test_pipes_are_read(start, run, tmp_path: Path, place: str) -> None:
    """A plan, a policy or actions out of another program would have to be stored in a file first."""
    (tmp_path / "policy").write_text('title_includes = ["no such title"]\n')
    plan = run("plan", "--policy", str(tmp_path / "policy"), "--json").stdout
    action = json.dumps({"action": "remove", "event_id": EVENT}) + "\n"
    for command, text in (
        (["apply"], plan),
        (["bulk", "--results", str(tmp_path / "results"), "--dry-run"], action),
        (["actions"], ""),
        *([(["plan", "--policy"], "min_attendees = 1000\n")] if place != "-" else []),
    ):
        if place == "fifo":
            where = str(tmp_path / command[0])
            os.mkfifo(where)
            threading.Thread(target=Path(where).write_text, args=(text,), daemon=True).start()
            result = run(*command, where)
            assert result.exit_code == 0, (command, result.output)
        else:
            process = start(*command, place, stdin=-1)
            _, told = process.communicate(text, timeout=60)
            assert process.returncode == 0, (command, told)


def test_a_pipe_without_an_end_is_refused(run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words) -> None:
    """`yes | recall-async bulk -` would fill the disk, and a policy out of such a pipe the memory."""
    for place in ("reading.MAX_FILE", "cli.apply.MAX_PLAN", "cli.records.MAX_COPY"):
        monkeypatch.setattr(f"recall_async.{place}", 2**21)
    for name in ("PLAN", "ACTIONS", "--policy", "--bot-config", "--api-key-file"):
        fifo = tmp_path / name
        os.mkfifo(fifo)
        ended = threading.Event()

        def write(fifo: Path = fifo, ended: threading.Event = ended) -> None:
            with fifo.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(b"y\n" * 2**15)
                except BrokenPipeError:
                    ended.set()

        threading.Thread(target=write, daemon=True).start()
        result = run(*words(name, fifo))
        assert result.exit_code == 2, result.output
        assert f"Error: {name} must have at most {2**21} bytes, got more" in result.stderr
        assert ended.wait(60)


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("ACTIONS", '{"action": "' + "x" * 2000, ":1: a line must have at most 1000 bytes"),
        ("ACTIONS", "\n" + " " * 2000, ":2: a line must have at most 1000 bytes"),
        ("ACTIONS", "action,event_id\n" + "x" * 2000, ":2: invalid CSV: a row must have at most 1000 bytes"),
        ("ACTIONS", "action,event_id\n" + '"\n",' * 500, ":2: invalid CSV: a row must have at most 1000 bytes"),
        ("EVENTS", "\n" + '{"id": "' + "x" * 2000, ":2: not an event of `recall-async events --json`: a line must have"),
    ],
)  # fmt: skip
def test_a_line_without_an_end_is_refused(run, monkeypatch, tmp_path: Path, words, name, text, told) -> None:
    """A file of lines, which needs little memory otherwise, would be held in memory as a whole."""
    monkeypatch.setattr("recall_async.cli.records.MAX_RECORD", 1000)
    (tmp_path / "lines").write_text(text)
    result = run(*words(name, tmp_path / "lines"))
    assert result.exit_code == 2, result.output
    assert told in result.stderr
    assert "2 errors" not in result.stderr


@pytest.mark.parametrize("options", [(), ("--dry-run",)])
@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_results_that_are_no_file(run, tmp_path: Path, words, options: tuple[str, ...], kind: str) -> None:
    """A dry run would wait for a writer for ever, and a job would resume from what never ends."""
    os.mkfifo(tmp_path / "pipe")
    results = "/dev/zero" if kind == "device" else str(tmp_path / "pipe")
    words("ACTIONS", "")
    result = run("bulk", str(tmp_path / "actions"), "--results", results, *options)
    assert result.exit_code == 2, result.output
    assert f"Error: the journal {results} must be a regular file: use another path" in result.stderr


def test_a_library_call_refuses_a_device_too(tmp_path: Path) -> None:
    """A program with a wrong path would be killed for its memory, without a word."""
    with pytest.raises(ConfigurationError, match="policy must be a file, a pipe or a terminal, got '/dev/zero'"):
        RecordingPolicy.from_toml("/dev/zero")
    (tmp_path / "large").write_bytes(b"x" * 100)
    with (tmp_path / "large").open("rb") as file, pytest.raises(ConfigurationError, match="at most 99 bytes, got more"):
        b"".join(parts_of("plan", file, 99))
    assert len(read_file("plan", tmp_path / "large")) == 100


def test_a_configuration_that_is_no_json(run, tmp_path: Path, recall_sandbox: RecallSandbox) -> None:
    """Deep nesting would end in a traceback, and an image as configuration in words about a codec."""
    (tmp_path / "config").write_bytes(b"\xff\xd8")
    for given, told in (
        ("[" * 100_000, "invalid JSON: nested too deeply"),
        ("{", "invalid JSON: unexpected end of input"),
        (f"@{tmp_path / 'config'}", f"cannot read {tmp_path / 'config'}: it is not UTF-8 text"),
        (f"@{tmp_path / 'none'}", f"cannot read {tmp_path / 'none'}: No such file or directory"),
    ):
        result = run("schedule", EVENT, "--bot-config", given)
        assert result.exit_code == 2
        assert f"Invalid value for --bot-config: {told}" in result.stderr
