"""What the command line shows on a terminal, and how it ends within a program: in this process, in virtual time."""

from __future__ import annotations

import asyncio
import importlib
import io
import json
import re
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from recall_async import (
    AuthenticationError,
    Quota,
    QuotaStoreUnavailableError,
    RecallSession,
    ServerUnavailableError,
    cli,
    sandbox,
)
from recall_async.cli import app as application
from recall_async.cli.app import app
from recall_async.cli.bots import state_in_fields, state_in_words
from recall_async.cli.interrupt import HANGUP
from recall_async.cli.interrupt import run as run_interruptible
from recall_async.cli.records import open_twice
from recall_async.cli.resume import resume_command
from recall_async.cli.status import Status, status_of
from recall_async.cli.text import say_command
from recall_async.cli.watching import RECENT, Pace
from recall_async.jobs import JobQueue, JobStatus, WorkSummary
from recall_async.limits.contract import LaneStatistics
from recall_async.limits.redis import RedisQuotaStore
from tests import virtual_time

JOB = JobStatus(
    "tonight", total=100, done=0, failed=0, skipped=0, chunks_open=2, chunks_in_work=0, chunks_dead=0,
    submitted=True, cancelled=False,
)  # fmt: skip


class Screen(io.StringIO):
    """What a terminal was sent."""

    @property
    def buffer(self) -> Screen:
        return self

    def isatty(self) -> bool:
        return True

    def write(self, text: str | bytes) -> int:
        return super().write(text if isinstance(text, str) else text.decode())


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs the command line within this program, on a terminal: its status, and what it showed."""
    for name in ("RECALL_BASE_URL", "RECALL_REGION", "RECALL_WORKSPACE", "RECALL_LOG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RECALL_API_KEY", "key")
    monkeypatch.setenv("RECALL_REDIS_URL", "redis://127.0.0.1:1")

    def run(*words: str) -> tuple[int, str]:
        screen = Screen()
        monkeypatch.setattr(sys, "stdout", screen)
        return app(words, standalone_mode=False), screen.getvalue()

    return run


def looks(monkeypatch: pytest.MonkeyPatch, found: Iterable[JobStatus]) -> None:
    """Let a job's status be these in turn, a virtual second apart."""
    left = iter(found)

    async def status(queue: JobQueue, name: str) -> JobStatus:
        return next(left)

    monkeypatch.setattr(JobQueue, "status", status)
    monkeypatch.setattr("recall_async.cli.jobs.run", virtual_time.run)
    loop = asyncio.get_running_loop
    monkeypatch.setattr("recall_async.cli.jobs.monotonic", lambda: loop().time())


def test_a_watched_job_is_one_line_of_a_terminal(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is watched for an hour would scroll thousands of lines by, or leave its last bar above the result."""
    looks(monkeypatch, [JOB, replace(JOB, done=10), replace(JOB, done=99, failed=1, chunks_open=0)])
    status, text = shown("jobs", "status", "tonight", "--watch")
    first, second, last = text.split("\r\x1b[K")[1:]
    assert (status, first) == (Status.FAILED, "tonight: 0/100")
    assert second == "tonight: 10/100, 10.0/s, 9.0 s left"
    assert last.startswith("tonight: finished, 99 done, 1 failed")


def test_a_watched_job_is_a_line_for_each_change(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that follows a job would read the same document each second, or nothing until the end."""
    looks(monkeypatch, [JOB, JOB, replace(JOB, done=100, chunks_open=0)])
    status, text = shown("jobs", "status", "tonight", "--watch", "--json")
    assert (status, re.findall('"done": ?([0-9]+)', text)) == (Status.DONE, ["0", "100"])


def test_a_job_that_was_not_written_to_its_end(shown, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Somebody would wait for the end of a job whose submission was interrupted."""
    looks(monkeypatch, [replace(JOB, submitted=False)])
    assert shown("jobs", "status", "tonight")[0] == Status.DONE
    assert "the same submit command writes the rest" in capsys.readouterr().err


def test_the_pace_is_that_of_the_last_half_minute() -> None:
    """A job that stood still for an hour would be told to take days."""
    pace = Pace()
    for second, done in ((0.0, 0), (1000.0, 0), (1000.0 + RECENT, 60)):
        pace.note(replace(JOB, done=done), second)
    assert pace.text(replace(JOB, done=60)) == f", {60 / RECENT:.1f}/s, {40 / (60 / RECENT):.0f} s left"


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(("failed", "interrupted", "expected"), [
    (0, False, Status.DONE), (2, False, Status.FAILED), (0, True, Status.INTERRUPTED), (2, True, Status.INTERRUPTED),
])  # fmt: skip
def test_how_a_worker_ends(
    shown, monkeypatch: pytest.MonkeyPatch, capsys, failed: int, interrupted: bool, expected: Status, as_json: bool
) -> None:
    """A worker that was told to go, or whose actions failed, would end as if all had been done."""

    async def work(queue: JobQueue, session: RecallSession, **options: Any) -> WorkSummary:
        if interrupted:
            signal.raise_signal(signal.SIGTERM)
            await options["stop"].wait()
        return WorkSummary(done=5, failed=failed, skipped=1, chunks=1)

    monkeypatch.setattr(JobQueue, "work", work)
    status, text = shown("jobs", "work", *(["--json"] if as_json else []))
    assert status == expected
    assert ("Interrupted. Other workers" in capsys.readouterr().err) is interrupted
    assert ('"failures"' if as_json else f"5 done, {failed} failed, 1 skipped by this worker") in text


def test_watched_quotas_are_drawn_over_the_last_ones(shown, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal would scroll a table by each second, or lose the lines above the table."""
    lane = LaneStatistics(Quota(600, 60), 7, 593, 0, 0.0)
    left = [{"calendars.list": lane}] * 3

    async def usage(store: RedisQuotaStore, workspace: str) -> dict[str, LaneStatistics]:
        if not left:
            raise KeyboardInterrupt
        return left.pop()

    monkeypatch.setattr(RedisQuotaStore, "usage", usage)
    monkeypatch.setattr("recall_async.cli.quota.EVERY", 0.0)
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    app(("quota", "--watch"), standalone_mode=False)
    first, second, third = re.split(r"\x1b\[[0-9]+A\x1b\[J", screen.getvalue())
    assert first == second == third
    rows = re.findall(r"\x1b\[([0-9]+)A", screen.getvalue())
    assert rows == [str(first.count("\n"))] * 2


def test_watching_quotas_survives_an_outage_of_redis(shown, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """An operator would look away from an incident, and back at a prompt."""
    lane = LaneStatistics(Quota(600, 60), 7, 593, 0, 0.0)
    away = QuotaStoreUnavailableError("Redis does not answer: refused")
    found = [{"calendars.list": lane}, away, away, {"calendars.list": lane}]

    async def usage(store: RedisQuotaStore, workspace: str) -> dict[str, LaneStatistics]:
        if not found:
            raise KeyboardInterrupt
        seen = found.pop(0)
        if isinstance(seen, QuotaStoreUnavailableError):
            raise seen
        return seen

    monkeypatch.setattr(RedisQuotaStore, "usage", usage)
    monkeypatch.setattr("recall_async.cli.quota.EVERY", 0.0)
    app(("quota", "--watch", "--json"), standalone_mode=False)
    out, err = capsys.readouterr()
    assert [json.loads(line)["calendars.list"]["taken"] for line in out.splitlines()] == [7, 7]
    assert err.count("Redis does not answer: refused. Redis is asked again every second.") == 1
    found[:] = [away]
    assert shown("quota", "--watch") == (Status.FAILED, "")


def test_resumed_quotas_are_not_watched(shown, capsys) -> None:
    """Each second would end the pauses that the API asks for."""
    assert shown("quota", "--resume", "--watch")[0] == Status.USAGE
    assert "exclude each other" in capsys.readouterr().err


def test_a_bot_that_was_removed() -> None:
    """The table and the documents of an event would end in a traceback at a bot that is gone."""
    assert state_in_words(None) == "removed" == state_in_fields(None)["status"]


def test_a_server_that_stays_away_has_a_status_of_its_own() -> None:
    """A script would take an outage, after which it could try again, for a wrong key."""
    assert status_of(ServerUnavailableError("away")) is Status.UNAVAILABLE
    assert status_of(AuthenticationError("no", status=401)) is Status.REFUSED


def test_unknown_commands(shown, capsys) -> None:
    """A typing error would end in a KeyError."""
    assert shown("evnets")[0] == Status.USAGE
    assert "evnets" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [ImportError, ModuleNotFoundError])
def test_a_broken_installation_is_not_called_a_missing_extra(shown, kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback that tells what is broken would be cut off."""

    def broken(*_: object) -> None:
        raise kind("no module named yarl", name="yarl")

    monkeypatch.setattr(application, "import_module", broken)
    with pytest.raises(kind, match="yarl"):
        shown("events")


def test_the_program_tells_of_the_extra_only_if_it_is_missing(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Every broken package would be told of as if click were missing."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def broken(name: str) -> Callable[[], None]:
        def call() -> None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

        return call

    monkeypatch.setattr(application, "app", broken("yarl"))
    with pytest.raises(ModuleNotFoundError, match="yarl"):
        cli.main()
    monkeypatch.setattr(application, "app", broken("rich"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert "recall-async needs rich" in capsys.readouterr().err


def test_ctrl_c_while_commands_are_imported(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """Ctrl-C in the first tenth of a second would end in a traceback."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(application, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "\nInterrupted.\n")


def test_importing_the_program_does_not_run_it() -> None:
    """Tools that import all modules of a package would run a command, and exit."""
    assert importlib.import_module("recall_async.__main__").main is cli.main


@pytest.mark.skipif(HANGUP is None, reason="Windows has no hangup")
def test_a_repeated_hangup_is_no_second_interruption() -> None:
    """A shell that repeats the hangup would cut off the requests in flight."""
    assert HANGUP is not None
    gently = []
    before = signal.signal(HANGUP, signal.SIG_DFL)  # ignored where the tests run under nohup

    async def work() -> str:
        signal.raise_signal(HANGUP)
        signal.raise_signal(HANGUP)
        await asyncio.sleep(0)
        return "done"

    try:
        assert run_interruptible(work(), gently=lambda: gently.append(1)) == "done"
    finally:
        signal.signal(HANGUP, before)
    assert gently == [1]


def test_a_bot_that_may_stay(shown, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """A no at the question would make the bot leave its call all the same."""

    async def no(question: str) -> bool:
        return False

    monkeypatch.setattr("recall_async.cli.bots.confirm", no)
    monkeypatch.setattr(sys, "stdin", Screen())
    assert shown("bots", "leave", "497f6eca-6276-4993-bfeb-53cbbbba6f08")[0] == Status.FAILED
    assert "Nothing was changed." in capsys.readouterr().err


@pytest.mark.parametrize("fails", [False, True])
def test_a_sandbox_in_this_process(shown, monkeypatch: pytest.MonkeyPatch, capsys, fails: bool) -> None:
    """An error of a sandbox that served would be told as a port that is taken."""

    async def serve(server: sandbox.RecallSandbox, announce: Callable[[sandbox.RecallSandbox], None]) -> None:
        async with server:
            announce(server)
        if fails:
            raise OSError(5, "broken")

    monkeypatch.setattr(sandbox, "serve", serve)
    status, text = shown("sandbox", "--port", "0", "--events", "3", "--json")
    told = capsys.readouterr().err
    assert '"url"' in text
    assert (status, "It answered 0 requests" in told, "cannot listen" in told) == (
        Status.FAILED if fails else Status.DONE, not fails, False,
    )  # fmt: skip


def test_the_command_that_continues_names_one_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command that is pasted would be refused for a region beside a URL, or read another standard input."""
    monkeypatch.setenv("RECALL_BASE_URL", "http://here")
    monkeypatch.setenv("RECALL_REGION", "us-east-1")
    command = click.Command("bulk", params=[click.Option(["--base-url"]), click.Option(["--region"])])
    context = click.Context(command, obj=["recall-async", "bulk", "-"])
    (tmp_path / "a b").write_text("{}")
    with (tmp_path / "a b").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        told = resume_command(context)
    assert "bulk - --base-url http://here" in told
    assert "--region" not in told
    assert told.endswith(f" < '{tmp_path / 'a b'}'" if sys.platform == "linux" else "input")


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("redis://u:hunter2@host:6379/0", "redis://u:***@host:6379/0"),
        ("redis://:hunt@er2@host", "redis://:***@host"),
        ("redis://host/0?password=hunter2&db=1", "redis://host/0?password=***&db=1"),
        ("redis+sentinel://u:hunter2@one,two:1/name", "redis+sentinel://u:***@one,two:1/name"),
        ("https://host:8080/a@b", "https://host:8080/a@b"),
    ],
)
@pytest.mark.parametrize("joined", [False, True])
def test_the_command_that_continues_shows_no_password(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str, printed: str, joined: bool
) -> None:
    """The password of Redis or of a proxy stands in the log of each job that was interrupted."""
    monkeypatch.delenv("RECALL_BASE_URL", raising=False)
    monkeypatch.delenv("RECALL_REGION", raising=False)
    words = [f"--redis={given}"] if joined else ["--redis", given]
    command = click.Command("bulk", params=[click.Option(["--redis"])])
    told = resume_command(click.Context(command, obj=["recall-async", "bulk", "x", *words]))
    assert "hunt" not in told
    assert "er2" not in told
    assert printed in told
    say_command("To go on with it:", told)
    assert ("with the password in place of ***:" in capsys.readouterr().err) is ("***" in printed)


def test_a_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`recall-async bulk - <&-` would end in a traceback."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(OSError, match="it is closed"):
        open_twice("-")
