"""Print a plan: one line per event that needs a request, and a summary."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from .table import Column, Table
from .text import columns, line, moment, print_prose

if TYPE_CHECKING:
    from ..sync.decide import Decision
    from ..sync.plan import Plan

WIDE = 110
"""Number of columns from which on the reasons are shown."""


def print_plan(plan: Plan) -> None:
    """Print a plan. On a terminal, rows have its width."""
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
