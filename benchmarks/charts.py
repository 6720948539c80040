"""Charts of the report: one look for all, written as SVG that is the same for the same data.

Matplotlib is imported when the first chart is drawn, so that measurements in processes of their own do without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS = "#d9480f"
OTHERS = ("#1971c2", "#2f9e44", "#9c36b5", "#e8a100", "#0c8599", "#868e96", "#c2255c")
LIMIT = "#212529"

_LOOK: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#adb5bd",
    "axes.grid": True,
    "axes.labelcolor": "#495057",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.family": "sans-serif",
    "font.size": 10,
    "grid.color": "#e9ecef",
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "recall_async",
    "xtick.color": "#495057",
    "ytick.color": "#495057",
}


def chart(
    rows: int = 1, columns: int = 1, *, size: tuple[float, float] = (9.0, 4.0), **axes: Any
) -> tuple[Figure, Any]:
    """A figure of `size` inches and its axes, as `Figure.subplots` gives them."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(_LOOK)
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **axes)


def bars(axes: Axes, values: dict[str, float], *, ours: str, form: str = "{:.1f}") -> None:
    """Horizontal bars from the top down, `ours` in our colour, each with its value as text."""
    drawn = axes.barh(
        list(values), list(values.values()), color=[OURS if name == ours else OTHERS[5] for name in values]
    )
    axes.bar_label(drawn, labels=[form.format(value) for value in values.values()], padding=4)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xmargin(0.12)


def powers(axes: Axes, counts: Sequence[int]) -> None:
    """A logarithmic x axis whose ticks are these counts, in plain digits."""
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.set_xticks([], minor=True)


def save(figure: Figure, path: Path) -> None:
    """Write the SVG, without a date, so that it changes only when the data do."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
