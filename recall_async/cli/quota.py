"""`quota`: the table of operations, as the client knows it, and what is in use of a quota that is shared."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import click

from ..operations import OPERATIONS, QUOTA_PERIOD
from .connection import Connection, connection_options
from .interrupt import run
from .text import duration, json_option, print_json

if TYPE_CHECKING:
    from ..limits.contract import LaneStatistics

EVERY = 1.0
"""Seconds between two looks."""


@click.command()
@click.option("--redis", metavar="URL", help="Show what is in use of the quota that is shared there [REDIS_URL].")
@click.option("--prefix", default="recall", show_default=True, help="What the store's keys begin with.")
@click.option("--watch", is_flag=True, help="Go on looking, once a second, until Ctrl-C.")
@json_option
@connection_options
def quota(connection: Connection, redis: str | None, prefix: str, watch: bool, as_json: bool) -> None:
    """Show the operations and their quotas per workspace, before the provider raises them.

    The server counts in a sliding window, for each operation on its own. With --redis, or REDIS_URL and --watch, it is
    what all processes on the workspace use of them at this moment. With --json it is one document, by operation; with
    --watch too, one on each line.
    """
    redis = redis or (os.environ.get("REDIS_URL") if watch else None)
    if redis is not None:
        # A workspace that is not named is known by its key.
        workspace = connection.workspace or os.environ.get("RECALL_WORKSPACE") or connection.session().workspace
        run(_look(redis, prefix, workspace, watch=watch, as_json=as_json))
    elif watch:
        raise click.UsageError("--watch needs --redis: what a process uses by itself, nobody else can see")
    elif as_json:
        rows = {
            name: {"method": row.method, "path": row.path, "limit": row.limit, "per": QUOTA_PERIOD}
            for name, row in OPERATIONS.items()
        }
        print_json(rows)
    else:
        click.echo(f"{'OPERATION':<32}{'REQUESTS':>9}  {'REQUEST'}")
        for name, row in OPERATIONS.items():
            click.echo(f"{name:<32}{row.limit:>9}  {row.method:<6} {row.path}")
        click.echo(f"\nRequests in any {QUOTA_PERIOD:g} seconds, per workspace.")


async def _look(url: str, prefix: str, workspace: str, *, watch: bool, as_json: bool) -> None:
    from ..limits.redis import RedisQuotaStore

    store = RedisQuotaStore.from_url(url, prefix=prefix)
    drawn = False
    while True:
        usage = await store.usage(workspace)
        if as_json:
            print_json({name: _document(lane) for name, lane in usage.items()})
        else:
            lines = _table(usage)
            if drawn and sys.stdout.isatty():
                click.echo(f"\x1b[{len(lines)}A\x1b[J", nl=False)
            click.echo("\n".join(lines))
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


def _table(usage: Mapping[str, LaneStatistics]) -> list[str]:
    lines = [f"{'OPERATION':<32}{'TAKEN':>7}{'OF':>7}{'IN':>8}"]
    for name, lane in usage.items():
        remarks = []
        if lane.paused:
            remarks.append(f"paused for {duration(lane.paused)}")
        if lane.pace is not None:
            remarks.append(f"at {lane.pace:.1f} a second after a 429")
        row = f"{name:<32}{lane.taken:>7}{lane.quota.limit:>7}{duration(lane.quota.per):>8}  {', '.join(remarks)}"
        lines.append(row.rstrip())
    return lines
