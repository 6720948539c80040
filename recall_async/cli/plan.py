"""`plan`: which requests give every event the bot that a policy wants."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

import click

from .command import Command, Decorator, WrittenFile, json_option
from .connection import Connection, connection_options
from .requests import ask
from .resume import following_command
from .status import Status
from .streams import naming
from .table import Column, Table
from .text import columns, defused, line, moment, print_prose, say_command

if TYPE_CHECKING:
    from ..sync.decide import Decision
    from ..sync.plan import Plan
    from ..sync.policy import RecordingPolicy

WIDE = 110
"""Number of columns from which on the reasons are shown."""


class Planning(NamedTuple):
    """The planning options: arguments of `RecallSession.plan`."""

    policy: RecordingPolicy
    calendars: tuple[UUID, ...] | None
    refresh: bool
    remove_foreign: bool
    tag: bool
    history: Path | None


history_option: Decorator = click.option(
    "--history", type=WrittenFile(), metavar="FILE",
    help="Record the changes to events in this file, for later runs.",
)  # fmt: skip


def planning_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the planning options to a command, as its parameter `planning`."""

    @click.option("--policy", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
                  metavar="POLICY.toml", help="The rules for which events get a bot.")  # fmt: skip
    @click.option("--deduplication", metavar="SCHEME", help="Which events share a bot, instead of the policy's setting: "
                  "meeting, company, event, or a template such as '{start_time}-{meeting_url}'.")  # fmt: skip
    @click.option(
        "--calendar-id",
        type=click.UUID,
        multiple=True,
        metavar="ID",
        help="Plan only for this calendar. May be repeated.",
    )
    @click.option(
        "--refresh", is_flag=True, help="Send bot_config to all bots again: the API does not show whether it changed."
    )
    @click.option("--remove-foreign", is_flag=True,
                  help="Also remove bots whose key the policy's scheme cannot have made.")  # fmt: skip
    @click.option("--tag", is_flag=True, help="Tag new bots, and send a changed bot_config to bots that are tagged.")
    @history_option
    @wraps(command)
    def planned(
        *args: Any,
        policy: Path,
        deduplication: str | None,
        calendar_id: tuple[UUID, ...],
        refresh: bool,
        remove_foreign: bool,
        tag: bool,
        history: Path | None,
        **options: Any,
    ) -> Any:
        from ..sync.policy import RecordingPolicy

        rules = RecordingPolicy.from_toml(policy)
        if deduplication is not None:
            rules = replace(rules, deduplication=deduplication)
        planning = Planning(rules, calendar_id or None, refresh, remove_foreign, tag, history)
        return command(*args, planning=planning, **options)

    return planned


@click.command(cls=Command)
@planning_options
@click.option("--out", type=WrittenFile(), metavar="PLAN.json",
              help="Write the plan to this file, for `recall-async apply`.")  # fmt: skip
@json_option
@connection_options
@click.pass_context
def plan(ctx: click.Context, connection: Connection, planning: Planning, out: Path | None, as_json: bool) -> Status:
    """Show which requests would give every event the bot that the policy wants. Changes nothing.

    Exit status: 0 if nothing needs to be done, otherwise 10.
    """
    made = ask(connection.session(), lambda recall: recall.plan(**planning._asdict()))
    if out is not None:
        with naming(out):
            out.write_text(made.to_json() + "\n", "utf-8")
    if as_json:
        click.echo(defused(made.to_json().encode()))
    else:
        _print(made)
        if out is not None and made:
            history = () if planning.history is None else ("--history", str(planning.history))
            say_command("To apply the plan:", following_command(ctx, "apply", str(out), *history))
    return Status.CHANGES if made else Status.DONE


def _print(plan: Plan) -> None:
    """Print a plan: a row for each event that needs a request, and a summary."""
    width = columns(sys.stdout)
    wide = width is None or width >= WIDE
    rows = [_row(decision, because=wide) for decision in plan]
    if rows:
        because = ("because",) if wide else ()
        rows.insert(0, ("start (UTC)", "action", *because, "event", "title"))
        table = Table(*(Column(cells[0], max(map(len, cells))) for cells in zip(*rows, strict=True)))
        for row in rows:
            click.echo(table.row(row))
    print_prose(plan.summary())


def _row(decision: Decision, *, because: bool) -> tuple[str, ...]:
    reason = (decision.reason or "no bot") + (", shared" if decision.detach else "")
    return (
        moment(decision.start_time),
        line(decision.kind),
        *((line(reason),) if because else ()),
        line(decision.event_id),
        line(decision.title)[:200],
    )
