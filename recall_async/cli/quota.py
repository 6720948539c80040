"""`quota`: the table of operations and their quotas, and how much of a shared quota is in use."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ..errors import QuotaStoreUnavailableError
from ..operations import OPERATIONS, QUOTA_PERIOD
from .command import Command, json_option
from .connection import Connection, connection_options
from .interrupt import interrupted_with, run
from .status import describe
from .streams import forgive_output
from .table import Column, Table
from .text import duration, line, print_json, print_prose, say

if TYPE_CHECKING:
    from ..limits.contract import LaneStatistics

EVERY = 1.0
"""Seconds between two looks."""


@click.command(cls=Command)
@click.option("--watch", is_flag=True, help="Show it again every second, until Ctrl-C.")
@click.option(
    "--resume", is_flag=True, help="End the pauses after a 429, and the slower pace after them; needs --redis."
)
@json_option
@connection_options
def quota(connection: Connection, watch: bool, resume: bool, as_json: bool) -> None:
    """Show the quota of each operation; with --redis, how much of it all processes together use now.

    The server counts the requests of a workspace in a sliding window, for each operation separately. Give the same
    --workspace and --prefix as the programs that share the quota. With --json, one document by operation; with --watch
    too, one per line.
    """
    quotas = connection.quotas()
    if resume and connection.redis is None:
        raise click.UsageError("--resume needs --redis: the pause of a quota that is not shared ends with its process")
    if resume and watch:
        raise click.UsageError("--resume and --watch exclude each other")
    if resume and connection.redis is not None:
        with interrupted_with("Some pauses may have ended: give the same command again."):
            run(_resume(connection.redis, connection.prefix, connection.shared_workspace, as_json=as_json))
    elif connection.redis is not None:
        run(_look(connection.redis, connection.prefix, connection.shared_workspace, watch=watch, as_json=as_json))
    elif watch:
        raise click.UsageError("--watch needs --redis: a quota that is not shared is visible to its own process only")
    elif as_json:
        rows = {
            name: {"method": row.method, "path": row.path, "limit": quotas[name].limit, "per": quotas[name].per}
            for name, row in OPERATIONS.items()
        }
        print_json(rows)
    else:
        table = Table(Column("OPERATION", 28), Column("LIMIT", 5, right=True), Column("REQUEST", 44))
        click.echo(table.head())
        for name, row in OPERATIONS.items():
            click.echo(table.row((name, str(quotas[name].limit), f"{row.method:<6} {row.path}")))
        click.echo("")
        print_prose(f"LIMIT: requests in any {QUOTA_PERIOD:g} seconds, per workspace.")


async def _resume(url: str, prefix: str, workspace: str, *, as_json: bool) -> None:
    from ..limits.redis import RedisQuotaStore

    ended = await RedisQuotaStore.from_url(url, prefix=prefix).resume(workspace)
    forgive_output()
    if as_json:
        print_json({name: round(seconds, 3) for name, seconds in ended.items()})
    elif ended:
        for name, seconds in ended.items():
            what = f"a pause that had {duration(seconds)} to go" if seconds else "the slower pace after a 429"
            click.echo(f"{name}: ended {what}")
    else:
        click.echo(f"no operation of workspace {line(workspace)} was paused")


async def _look(url: str, prefix: str, workspace: str, *, watch: bool, as_json: bool) -> None:
    from ..limits.redis import RedisQuotaStore

    store = RedisQuotaStore.from_url(url, prefix=prefix)
    drawn = False
    usage: Mapping[str, LaneStatistics] | None = None
    told = ""
    while True:
        try:
            usage = await store.usage(workspace)
        except QuotaStoreUnavailableError as error:
            if usage is None:
                raise
            if (text := describe(error)) != told:
                say(f"{text.rstrip('.')}. Redis is asked again every second.")
            told, drawn = text, False
        else:
            told = ""
            if as_json:
                print_json({name: _document(lane) for name, lane in usage.items()})
            else:
                rows = _table(workspace, usage)
                if drawn and sys.stdout.isatty():
                    click.echo(f"\x1b[{len(rows)}A\x1b[J", nl=False)
                click.echo("\n".join(rows))
                drawn = True
            if not watch:
                return
        await asyncio.sleep(EVERY)


def _document(lane: LaneStatistics) -> dict[str, float | None]:
    return {
        "limit": lane.quota.limit,
        "per": lane.quota.per,
        "taken": lane.taken,
        "free": lane.free,
        "paused": round(lane.paused, 3),
        "pace": lane.pace,
    }


def _table(workspace: str, usage: Mapping[str, LaneStatistics]) -> list[str]:
    """Return the lines of the table of a workspace."""
    table = Table(
        Column("OPERATION", 29),
        Column("IN USE", 6, right=True),
        Column("LIMIT", 6, right=True),
        Column("WINDOW", 6, right=True),
        Column("", 8),
    )
    rows = [f"Workspace {line(workspace)}", table.head()]
    for name, lane in usage.items():
        remarks = []
        if lane.paused:
            remarks.append(f"paused for {duration(lane.paused)}")
        if lane.pace is not None:
            remarks.append(f"{lane.pace:.1f}/s after a 429")
        per = f"{lane.quota.per:g} s"
        rows.append(table.row((line(name), str(lane.taken), str(lane.quota.limit), per, ", ".join(remarks))))
    return "\n".join(rows).splitlines()
