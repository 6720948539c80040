"""What a benchmark hands back, and how it reads as a section of the report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .rounds import Figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Chart


class Unavailable(Exception):
    """This benchmark cannot run here, and why: the harness says so, and leaves its section as it was."""


@dataclass(frozen=True, slots=True)
class Target:
    """One row of the table of targets: what is to be reached, what was measured, and the verdict."""

    text: str
    value: str
    reached: bool
    reason: str = ""
    """Shown unless it was reached: what stands in the way, and how far one can get."""
    edge: str = ""
    """Where the measured figure may lie, if the target lies there, too: one run reaches it and the next does not."""

    @property
    def verdict(self) -> str:
        return "reached" if self.reached else f"**on the edge**: {self.edge}" if self.edge else "**missed**"


def judged(
    text: str,
    figures: Sequence[Figure],
    *,
    at_most: float = math.inf,
    at_least: float = -math.inf,
    form: str = "{:.2f} ×",
    said: str = "",
    reason: str = "",
) -> Target:
    """A target for figures that differ from run to run, all of which must reach it.

    It is reached or missed where their intervals say so, and on the edge where an interval contains it. One figure that
    misses makes the target missed, whatever the others do. `said` is shown in place of the figures.
    """
    reached = all(at_least <= figure.low and figure.high <= at_most for figure in figures)
    missed = any(figure.high < at_least or at_most < figure.low for figure in figures)
    return Target(
        text,
        said or " and ".join(form.format(figure.value) for figure in figures),
        reached,
        reason,
        ""
        if reached or missed
        else " and ".join(f"{form.format(figure.low)} to {form.format(figure.high)}" for figure in figures),
    )


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a head; `caption` stands above it. The columns in `left` are text, the others numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    left: Sequence[int] = (0,)

    def markdown(self) -> str:
        """The table, its columns padded so that it reads well as text too."""
        widths = [max(3, *(len(row[place]) for row in (self.head, *self.rows))) for place in range(len(self.head))]
        rule = ["-" * width if place in self.left else "-" * (width - 1) + ":" for place, width in enumerate(widths)]

        def line(row: Sequence[str]) -> str:
            cells = (
                cell.ljust(width) if place in self.left else cell.rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            return f"| {' | '.join(cells)} |"

        text = "\n".join(line(row) for row in (self.head, rule, *self.rows))
        return f"{self.caption}\n\n{text}" if self.caption else text


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one benchmark. Texts are Markdown; every figure in them comes from the run."""

    title: str
    method: str
    """What is compared, on which work, and how it is measured."""
    tables: Sequence[Table]
    targets: Sequence[Target] = ()
    losses: Sequence[str] = ()
    """Where somebody else does better: one sentence each, shown at the top of the report."""
    notes: Sequence[str] = ()
    """What a reader should know to read the numbers; shown below the tables."""
    figure: Chart | None = None
    """Made with `benchmarks.charts.chart`."""
    alt: str = ""
    """What the figure shows, for those who cannot see it."""
    packages: Sequence[str] = field(default=())
    """Distributions measured beside ours, whose versions the report states."""

    def markdown(self, name: str) -> str:
        """The section of the report under its heading."""
        parts = [self.method]
        if self.figure is not None:
            parts.append(f"![{self.alt}](benchmarks/{name}.svg)")
        parts += [table.markdown() for table in self.tables]
        if self.targets:
            parts.append(targets_table(self.targets).markdown())
        if self.notes:
            parts.append("\n".join(f"* {note}" for note in self.notes))
        return "\n\n".join(parts)


def targets_table(targets: Sequence[Target], names: Sequence[str] = ()) -> Table:
    """Targets with their verdicts; `names` of their benchmarks, one for each, make a first column of links."""
    verdicts = [(target.text, target.value, target.verdict) for target in targets]
    if not names:
        return Table(("target", "measured", "verdict"), verdicts, left=(0, 2))
    links = [f"[`{name}`](#{name})" for name in names]
    rows = [(link, *verdict) for link, verdict in zip(links, verdicts, strict=True)]
    return Table(("benchmark", "target", "measured", "verdict"), rows, left=(0, 1, 3))
