"""The frame: what is imported when, and which exit status stands for what."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from recall_async import errors
from recall_async.cli.app import COMMANDS, Application, app
from recall_async.cli.command import ConnectionOption, commands
from recall_async.cli.status import Status, status_of

EVENT = "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"
HEAVY = ("aiohttp", "rich", "recall_async.session", "recall_async.sandbox.server")


def imported_by(*arguments: str) -> set[str]:
    """The modules in memory after the command line ran with these arguments."""
    program = (
        "import sys\n"
        f"sys.argv = ['recall-async', *{arguments!r}]\n"
        "from recall_async.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "sys.stdout = sys.stderr\n"
        "print('\\n'.join(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stderr.split())


@pytest.mark.parametrize(
    "arguments", [("--help",), ("--version",), ("quota",), ("events", "--help"), ("sandbox", "--help")]
)
def test_no_heavy_import_before_it_is_needed(arguments: tuple[str, ...]) -> None:
    """Help would take as long as aiohttp and rich take to import."""
    assert imported_by(*arguments).isdisjoint(HEAVY)


def test_help_imports_no_command() -> None:
    """Each command added would slow down the help of all, and an event loop would take half of its time."""
    commands = {f"recall_async.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values()}
    assert imported_by("--help").isdisjoint({*commands, "asyncio", "email.utils"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there(name: str) -> None:
    """A row of the table would name a command that cannot be imported, or one that is called something else."""
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert app.commands == {}
    assert isinstance(app, Application)
    assert f"recall-async {name}" in CliRunner().invoke(app, [name, "--help"], prog_name="recall-async").stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("ca", ["calendars"]),
        ("calendars c", ["create"]),
        ("bulk --pa", ["--pace"]),
        ("bulk --pace ", ["auto", "smooth", "greedy"]),
    ],
)
def test_completion(typed: str, offered: list[str]) -> None:
    """Shell completion would be broken by commands that are imported late, or by the default of `calendars`."""
    words = f"recall-async {typed}"
    env = {"_RECALL_ASYNC_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    result = CliRunner().invoke(app, [], prog_name="recall-async", env=env)
    assert result.stdout.split() == [f"plain,{word}" for word in offered]


def test_no_arguments_shows_help() -> None:
    """A newcomer who types the bare name would learn nothing."""
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "sandbox" in result.output


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.AuthenticationError("no"), Status.REFUSED),
        (errors.InsufficientCreditError("no"), Status.REFUSED),
        (errors.RequestBlockedError("no"), Status.REFUSED),
        (errors.NotFoundError("no"), Status.FAILED),
        (errors.ConnectionFailedError("no"), Status.FAILED),
        (errors.ServerUnavailableError("no"), Status.UNAVAILABLE),
        (errors.ConfigurationError("no"), Status.USAGE),
        (OSError(28, "No space left on device"), Status.FAILED),
    ],
)
def test_exit_status_of_errors(error: Exception, status: Status) -> None:
    """Scripts could not tell a wrong key from a failure that is worth repeating."""
    assert status_of(error) is status


def test_without_click_it_says_how_to_install_it() -> None:
    """Whoever installed the library alone would get a traceback from its command."""
    program = "import sys; sys.modules['click'] = None; from recall_async.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr == "recall-async needs click for this: pip install 'recall-async[cli]'\n"


@pytest.mark.parametrize("arguments", [("events",), ("jobs", "list")])
def test_without_the_extra_redis_it_says_how_to_install_it(arguments: tuple[str, ...]) -> None:
    """Whoever installed the command line alone would get a traceback from `--redis`."""
    words = ["recall-async", *arguments, "--redis", "redis://127.0.0.1"]
    program = (
        f"import os, sys; sys.modules['redis'] = None; sys.argv = {words}; os.environ['RECALL_API_KEY'] = 'key'\n"
        "from recall_async.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.endswith("needs the extra redis: pip install 'recall-async[redis]'\n")
    assert result.stderr.startswith("Error: ")


def test_no_key_and_unknown_command_are_wrong_usage(run) -> None:
    """Wrong usage would look like a failure of the API."""
    missing = run("events", env={"RECALL_API_KEY": None})
    assert missing.exit_code == Status.USAGE
    assert "set RECALL_API_KEY, or name its file with --api-key-file" in missing.stderr


def walk(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        found = command.get_command(ctx, name)
        assert found is not None
        yield from walk(found, (*path, name))


OFFLINE = {("demo",), ("sandbox",)} | {
    ("jobs", name) for name in ("submit", "list", "retry", "status", "results", "cancel")
}


def test_connection_options_are_the_same_everywhere() -> None:
    """One command could not share the quota, or use the proxy, that its neighbour can."""
    shared = {
        path: {p.opts[0] for p in command.params if isinstance(p, ConnectionOption)} for path, command in walk(app)
    }
    expected = {
        "--region", "--base-url", "--api-key-file", "--workspace", "--redis", "--prefix", "--quota-scale", "--timeout",
        "--proxy", "--ca-file", "--trust-env", "-v",
    }  # fmt: skip
    assert {path: options for path, options in shared.items() if path not in OFFLINE and options != expected} == {}
    assert "Connection options:" in CliRunner().invoke(app, ["events", "--help"]).stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["evnts"], "no such command 'evnts'. Did you mean events"),
        (["jbos"], "Did you mean jobs or bots?"),
        (["calendars", "lst"], "no such command 'lst'. Did you mean list?"),
        (["jobs", "wrok"], "Did you mean work?"),
        (["events", "--limt", "3"], "--limit"),
        (["xyzzy"], "no such command 'xyzzy'."),
    ],
)
def test_typing_errors_are_met_with_a_suggestion(run, arguments: list[str], told: str) -> None:
    """A user would have to look up in the help what the shell could have said."""
    result = run(*arguments)
    assert result.exit_code == Status.USAGE
    assert told in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["schedule", EVENT, "--deduplication-key", ""], "--deduplication-key "),
        (["schedule", EVENT, "--deduplication-key", "x" * 2001], "--deduplication-key "),
        (["events", "--from", "soon"], "'--from'"),
        (["events", "--calendar-id", "abc"], "'--calendar-id'"),
        (["event", "abc"], "'EVENT_ID'"),
        (["events", "--base-url", "ftp://x"], "--base-url "),
        (["events", "--timeout", "nan"], "--timeout "),
        (["events", "--limit", "0"], "must be a whole number of at least 1, got '0'"),
        (["events", "--limit", "abc"], "must be a whole number of at least 1, got 'abc'"),
        (["events", "--timeout", "0"], "must be a number above 0, got '0'"),
        (["sandbox", "--port", "70000"], "must be a whole number from 0 to 65535, got '70000'"),
        (["sandbox", "--quota-scale", "-1"], "must be a number above 0, got '-1'"),
        (["sandbox", "--unusual", "2"], "must be a number from 0 to 1, got '2'"),
    ],
)
def test_errors_speak_of_options(run, arguments: list[str], told: str) -> None:
    """A user of the command line would read the names of Python parameters."""
    result = run(*arguments)
    assert result.exit_code == Status.USAGE
    assert told in result.stderr.replace("--timeout'", "--timeout '")
    assert "__" not in result.stderr
    assert "range" not in result.stderr
    assert not re.search(r"(?<!-)\b(base_url|deduplication_key|event_id|start_time)\b", result.stderr)


def test_every_screen_fits_eighty_columns(run) -> None:
    """Help and tables would wrap in the middle of words in a terminal of 80 columns."""
    screens = [run(*path, "--help", terminal_width=80).stdout for path, _ in walk(app)]
    screens += [run("--help", terminal_width=80).stdout, run("quota").stdout]
    assert [text for screen in screens for text in screen.splitlines() if len(text) > 80] == []


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("name", [name for name, _ in commands(app)])
def test_no_option_is_broken_over_two_lines(name: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--max-` at the end of a line, and `removals` on the next, could neither be found nor copied."""
    monkeypatch.setenv("COLUMNS", str(width))
    shown = CliRunner().invoke(app, [*name.split(), "--help"]).stdout
    assert not re.search(r"--[a-z-]*-\n", shown), shown
    assert "\u2011" not in shown
