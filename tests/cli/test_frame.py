"""The frame: what is imported when, and which exit status stands for what."""

from __future__ import annotations

import subprocess
import sys

import pytest
from click.testing import CliRunner

from recall_async import errors
from recall_async.cli.app import COMMANDS, Application, app
from recall_async.cli.status import Status, status_of

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
    """Each command added would slow down the help of all."""
    commands = {f"recall_async.cli.{place.partition(':')[0]}" for place, _ in COMMANDS.values()}
    assert imported_by("--help").isdisjoint(commands)


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
        ("bulk --pace ", ["smooth", "greedy"]),
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


def test_no_key_and_unknown_command_are_wrong_usage(run) -> None:
    """Wrong usage would look like a failure of the API."""
    missing = run("events", env={"RECALL_API_KEY": None})
    assert missing.exit_code == Status.USAGE
    assert "set RECALL_API_KEY, or name its file with --api-key-file" in missing.stderr
    assert run("evnts").exit_code == Status.USAGE
