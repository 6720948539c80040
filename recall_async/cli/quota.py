"""`quota`: the table of operations, as the client knows it."""

from __future__ import annotations

import click

from ..operations import OPERATIONS, QUOTA_PERIOD
from .text import json_option, print_json


@click.command()
@json_option
def quota(as_json: bool) -> None:
    """Show the operations and their quotas per workspace, before the provider raises them.

    The server counts in a sliding window, for each operation on its own. With --json it is one document, by operation.
    """
    if as_json:
        rows = {
            name: {"method": row.method, "path": row.path, "limit": row.limit, "per": QUOTA_PERIOD}
            for name, row in OPERATIONS.items()
        }
        print_json(rows)
        return
    click.echo(f"{'OPERATION':<32}{'REQUESTS':>9}  {'REQUEST'}")
    for name, row in OPERATIONS.items():
        click.echo(f"{name:<32}{row.limit:>9}  {row.method:<6} {row.path}")
    click.echo(f"\nRequests in any {QUOTA_PERIOD:g} seconds, per workspace.")
