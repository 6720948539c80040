"""The frame of the command line: its commands, and the exit status of each ending.

A command is a function that returns its exit status or nothing. Its module is imported when the command is used, and must
not import aiohttp, rich or the session at its top, so that `--help` and completion are fast.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from ..errors import RecallError
from .command import Group, show
from .status import Status, describe, status_of
from .streams import harden
from .text import say, say_error

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("demo:demo", "Schedule bots on a sandbox at the real quotas, and ask its server what it saw."),
    "sandbox": ("sandbox:sandbox", "Run a local server that behaves like the API."),
    "schedule": ("events:schedule", "Schedule a bot on a calendar event, or replace it."),
    "remove": ("events:remove", "Remove the bots from a calendar event."),
    "events": ("events:events", "List calendar events."),
    "event": ("events:event", "Show one calendar event and its bots."),
    "actions": ("actions:actions", "Write the actions that `bulk` and `jobs submit` work on."),
    "calendars": ("calendars:calendars", "List, show, connect, change and disconnect calendars."),
    "bots": ("bots:bots", "List and show bots, and make them leave their calls."),
    "bulk": ("bulk:bulk", "Schedule and remove bots on many events; can be resumed."),
    "jobs": ("jobs:jobs", "Run bulk jobs on several machines, through Redis."),
    "plan": ("plan:plan", "Show which bots must be scheduled, moved or removed."),
    "apply": ("apply:apply", "Carry out a plan; can be resumed."),
    "sync": ("sync:sync", "Plan and apply, once or repeatedly."),
    "quota": ("quota:quota", "Show the quotas, and how much of them is in use."),
}
"""By name: where the command is in this package, and its line in `--help`."""


class Application(Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(f".{module}", __package__), attribute)
        return command

    def _summary_of(self, ctx: click.Context, name: str) -> str:
        return COMMANDS[name][1]

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        extra.setdefault("obj", [info_name, *args])
        return super().make_context(info_name, args, parent, **extra)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with a `Status`; without `standalone_mode` it is returned."""
        harden()
        try:
            status = super().main(args, prog_name, complete_var, standalone_mode=False, **extra) or Status.DONE
        except click.exceptions.Abort as ended:
            # What the command says about what it did, if it says something.
            say(" ".join(["Interrupted.", *map(str, getattr(ended.__cause__, "args", ()))]))
            status = Status.INTERRUPTED
        except click.ClickException as error:
            show(error)
            status = Status.USAGE
        except ImportError as error:
            if error.name is not None:
                raise
            say_error(str(error))  # an extra that is missing
            status = Status.USAGE
        except (RecallError, OSError) as error:
            say_error(describe(error))
            status = status_of(error)
        if not standalone_mode:
            return status
        sys.exit(status)


@click.group(
    cls=Application,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "\b\n"
        "Exit status: 0 done, 1 something failed, 2 invalid usage or input, 3 refused\n"
        "(API key, credit, firewall), 4 server unavailable for longer than\n"
        "--max-outage, 10 changes to make (plan), 130 interrupted.\n\n"
        "\b\n"
        "Completion, here for bash (also zsh_source and fish_source):\n"
        '  eval "$(_RECALL_ASYNC_COMPLETE=bash_source recall-async)"'
    ),
)
@click.version_option(package_name="recall-async")
def app() -> None:
    """Schedule Recall.ai meeting bots on calendar events, within the API's quotas.

    \b
    The API key is read from RECALL_API_KEY, or from the file that is given with
    --api-key-file.
    """
