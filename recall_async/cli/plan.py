"""`plan`: what would have to be done for every event to have the bot that a policy says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from .command import Command
from .connection import Connection, connection_options
from .interrupt import run
from .planned import print_plan
from .status import Status
from .text import json_option, say

if TYPE_CHECKING:
    from ..sync.plan import Plan


def planning_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which events get which bots, as the parameters `policy`, `calendar_id` and `refresh`."""
    for option in (
        click.option("--refresh", is_flag=True,
                     help="Send bot_config again to all: the API does not show whether it changed."),
        click.option("--calendar-id", type=click.UUID, multiple=True, metavar="ID",
                     help="Only this calendar; may be repeated."),
        click.option("--policy", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
                     metavar="POLICY.toml", help="Which events get a bot."),
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(cls=Command)
@planning_options
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), metavar="PLAN.json",
              help="Where the plan is written for `recall-async apply`.")  # fmt: skip
@json_option
@connection_options
def plan(
    connection: Connection, policy: Path, calendar_id: tuple[UUID, ...], refresh: bool, out: Path | None, as_json: bool
) -> Status:
    """Show what has to be done for every event to have the bot that the policy says, and no other. Nothing is sent.

    Exit status: 0 if there is nothing to do, 10 if there is.
    """
    from ..sync.policy import RecordingPolicy

    rules = RecordingPolicy.from_toml(policy)
    session = connection.session()

    async def make() -> Plan:
        async with session as recall:
            return await recall.plan(policy=rules, calendars=calendar_id or None, refresh=refresh)

    made = run(make())
    if out is not None:
        out.write_text(made.to_json() + "\n", "utf-8")
    if as_json:
        click.echo(made.to_json())
    else:
        print_plan(made)
        if out is not None and made:
            say(f"To do it:\n  recall-async apply {out}")
    return Status.CHANGES if made else Status.DONE
