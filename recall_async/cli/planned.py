"""Print a plan: one line per event that needs a request, and a summary."""

from __future__ import annotations

import sys
from datetime import UTC
from typing import TYPE_CHECKING

import click

from .text import columns, fitted, line, print_prose

if TYPE_CHECKING:
    from ..sync.decide import Decision
    from ..sync.plan import Plan

WIDE = 110
"""Number of columns from which on the reasons are shown."""


def print_plan(plan: Plan) -> None:
    """Print a plan. On a terminal, lines are cut to its width."""
    width = columns(sys.stdout)
    rows = [_row(decision, because=width is None or width >= WIDE) for decision in plan]
    if rows:
        because = () if len(rows[0]) == 4 else ("because",)
        rows.insert(0, ("start (UTC)", "action", *because, "event", "title"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        text = "  ".join(cell.ljust(cells) for cell, cells in zip(row, widths, strict=True)).rstrip()
        click.echo(text if width is None else fitted(text, width))
    print_prose(plan.summary())


def _row(decision: Decision, *, because: bool) -> tuple[str, ...]:
    reason = (decision.reason or "no bot") + (", shared" if decision.detach else "")
    return (
        f"{decision.start_time.astimezone(UTC):%Y-%m-%d %H:%M}",
        line(decision.kind),
        *((line(reason),) if because else ()),
        line(decision.event_id),
        line(decision.title)[:200],
    )
