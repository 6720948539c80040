"""Ctrl-C and SIGTERM in a bulk job: once it ends well, twice it ends now, and it can be gone on with."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import recall_async
from recall_async.cli.interrupt import run as run_interruptible
from recall_async.sandbox import RecallSandbox

pytestmark = pytest.mark.recall_sandbox(events=150, calendars=3)

SCHEDULE = "calendar_events.schedule_bot"


@pytest.fixture
def command(write_actions, tmp_path: Path) -> tuple[str, ...]:
    """A job that takes a few seconds at the real quota: 60 at once, and then 10 a second."""
    return ("bulk", str(write_actions(85)), "--results", str(tmp_path / "my results.jsonl"))


def done(command: tuple[str, ...]) -> int:
    """How many actions the results tell of."""
    results = Path(command[3])
    return results.read_bytes().count(b"\n") if results.exists() else 0


def answered(sandbox: RecallSandbox) -> int:
    """How many schedule requests the sandbox has answered."""
    return sandbox.report()["operations"][SCHEDULE]["accepted"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_finishes_what_is_on_its_way(start, wait_until, command, recall_sandbox, number: signal.Signals) -> None:
    """What the server did would be missing in the results, and the user would have to find out how to go on."""
    recall_sandbox.set_latency(0.3, 0.3)
    process = start(*command, "--concurrency", "10")
    wait_until(lambda: done(command) >= 5)
    process.send_signal(number)
    out, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert 10 <= done(command) == answered(recall_sandbox) < 85
    assert out.startswith(f"{done(command)} done, 0 failed, 0 skipped of 85")
    assert "Finishing the requests in flight" in told
    assert f"bulk {command[1]} --results '{command[3]}' --concurrency 10 --base-url http" in told
    recall_sandbox.set_latency(0, 0)
    process = start(*command, "--pace", "greedy", "--json")
    summary = json.loads(process.communicate(timeout=20)[0])
    assert process.returncode == 0
    assert summary["done"] == 85
    assert answered(recall_sandbox) == 85


def test_resume_command_works_when_pasted(
    start, wait_until, command, recall_sandbox: RecallSandbox, environment
) -> None:
    """The command that is printed would be of no use in another shell, or for a file whose name has a blank."""
    recall_sandbox.set_latency(0.3, 0.3)
    process = start(*command, "--concurrency", "10", "--json")
    wait_until(lambda: done(command) >= 5)
    process.send_signal(signal.SIGINT)
    resume = json.loads(process.communicate(timeout=30)[0])["resume"]
    recall_sandbox.set_latency(0, 0)
    bare = {name: value for name, value in environment.items() if not name.startswith("RECALL_")}
    shell = {
        **bare,
        "RECALL_API_KEY": recall_sandbox.api_key,
        "PYTHONPATH": str(Path(recall_async.__file__).parents[1]),
    }
    result = subprocess.run(
        resume, shell=True, cwd="/", env=shell, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(result.stdout)["done"] == 85
    assert answered(recall_sandbox) == 85


def test_twice_stops_now(start, arrived, wait_until, command, recall_sandbox: RecallSandbox) -> None:
    """A server that does not answer would hold the user's terminal for as long as it likes."""
    recall_sandbox.fault(SCHEDULE, kind="hang", times=None)
    process = start(*command, "--json")
    wait_until(lambda: arrived(SCHEDULE) > 5)
    process.send_signal(signal.SIGINT)
    told = ""
    while "Finishing" not in told:
        told += process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 130
    summary = json.loads(out)
    assert (summary["status"], summary["done"]) == ("interrupted", 0)
    assert f"--results '{command[3]}' --json --base-url http" in summary["resume"]
    assert done(command) == 0


def test_a_closed_terminal_is_one_interruption(start, wait_until, command, recall_sandbox: RecallSandbox) -> None:
    """Closing the terminal would cut off the requests in flight, and be a second Ctrl-C if the shell repeats it."""
    recall_sandbox.set_latency(0.3, 0.3)
    heeding = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}  # the tests may run under nohup
    process = start(*command, "--concurrency", "10", **heeding)
    wait_until(lambda: done(command) >= 5)
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
    out, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told.count("Finishing the requests in flight") == 1
    assert 10 <= done(command) == answered(recall_sandbox) < 85
    assert out.startswith(f"{done(command)} done, 0 failed, 0 skipped of 85")


def test_a_closed_terminal_does_not_end_what_nohup_started(
    start, wait_until, write_actions, tmp_path, recall_sandbox
) -> None:
    """A job that was started to survive the terminal would end with it."""
    recall_sandbox.set_latency(0.3, 0.3)
    results = tmp_path / "results.jsonl"
    ignoring = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    process = start("bulk", str(write_actions(20)), "--results", str(results), "--concurrency", "5", **ignoring)
    wait_until(lambda: results.exists() and results.read_bytes().count(b"\n") >= 5)
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=20)[0].startswith("20 done")
    assert process.returncode == 0


ID = "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"
CHANGES = {
    f"schedule {ID} --deduplication-key k": ("calendar_events.schedule_bot", f"event {ID}"),
    f"remove {ID}": ("calendar_events.remove_bot", f"event {ID}"),
    f"bots leave {ID} --yes": ("bots.leave_call", f"bots show {ID}"),
    f"calendars update {ID} --webhook-url https://notes.example/": ("calendars.update", f"calendars get {ID}"),
    f"calendars delete {ID} --yes": ("calendars.delete", "calendars"),
    "calendars create --platform google_calendar --oauth-client-id i": ("calendars.create", "calendars"),
}
"""Commands that change something, the operation that does it, and the command that shows what became of it."""


@pytest.mark.parametrize("command", CHANGES)
def test_a_change_in_flight_may_have_taken_effect(
    start, arrived, wait_until, environment, recall_sandbox: RecallSandbox, command: str
) -> None:
    """The user would take an interrupted change for one that was not made."""
    operation, look = CHANGES[command]
    environment |= {"RECALL_OAUTH_CLIENT_SECRET": "s", "RECALL_OAUTH_REFRESH_TOKEN": "t"}
    recall_sandbox.fault(operation, kind="hang", times=None)
    process = start(*command.split())
    wait_until(lambda: arrived(operation))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told.strip().startswith(f"Interrupted. The request may have taken effect: see `recall-async {look}`")


def test_a_change_that_was_not_sent(start, arrived, wait_until, recall_sandbox: RecallSandbox) -> None:
    """The user would look for the effect of a request that was never sent."""
    recall_sandbox.fault("calendar_events.retrieve", kind="hang", times=None)
    process = start("schedule", ID)
    wait_until(lambda: arrived("calendar_events.retrieve"))
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=20)
    assert (process.returncode, told.strip()) == (130, "Interrupted. Nothing was changed.")


def test_before_the_first_request(start, wait_until, command, tmp_path: Path) -> None:
    """Interrupting the check of a long file would show a traceback, or be SIGTERM's own end."""
    import os

    os.mkfifo(tmp_path / "endless")
    process = start("bulk", str(tmp_path / "endless"), "--results", command[3])
    with (tmp_path / "endless").open("w"):
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=20)
    assert (process.returncode, told.strip()) == (130, "Interrupted.")


def test_ending_before_the_end_of_the_last_request_is_no_interruption(
    start, wait_until, write_actions, tmp_path, recall_sandbox
):
    """A job whose last requests were finished after Ctrl-C would be reported as unfinished."""
    recall_sandbox.set_latency(0.5, 0.5)
    process = start("bulk", str(write_actions(5)), "--results", str(tmp_path / "r"))
    wait_until(lambda: recall_sandbox.report()["operations"][SCHEDULE]["peak"] == 5)
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=20)[0].startswith("5 done")
    assert process.returncode == 0


def test_ctrl_c_after_the_end_keeps_the_exit_status() -> None:
    """A command that did everything would be reported as killed while the interpreter ends."""
    program = (
        "import atexit, os, signal, sys\n"
        "sys.argv = ['recall-async', 'quota']\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
        "from recall_async.cli import main\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_handlers_are_put_back() -> None:
    """A program that runs a command within it would lose its own handling of Ctrl-C."""
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

    async def interrupted() -> None:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        run_interruptible(interrupted())
    assert run_interruptible(asyncio.sleep(0, "result")) == "result"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
