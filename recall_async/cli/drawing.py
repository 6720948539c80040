"""Show a job's progress and failures: drawn on a terminal, in plain lines elsewhere."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from ..stopping import end_tasks
from .text import columns, duration, print_prose, say

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from ..bulk.progress import Progress
    from ..outage import Outage
    from .failures import Failures


WIDE = 72
"""Number of columns from which on failures are shown as a table."""


class Display(Protocol):
    """Shows the progress of a job."""

    interval: float
    """Seconds between two updates."""

    def update(self, progress: Progress) -> None:
        """Show the progress."""

    def say(self, text: str) -> None:
        """Show a remark beside the progress."""


@contextmanager
def display(title: str) -> Iterator[Display]:
    """Yield a display for the duration of a job."""
    if not _draws(sys.stderr):
        yield _Lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as RichProgress

    shown = (BarColumn(), TextColumn("{task.description}"))
    with RichProgress(*shown, console=Console(stderr=True), redirect_stdout=False) as bar:
        yield _Bar(bar)


@asynccontextmanager
async def redrawn(shown: Display, look: Callable[[], Progress]) -> AsyncIterator[None]:
    """Show the progress that `look` returns, now and then until the block ends."""

    async def redraw() -> None:
        while True:
            await asyncio.sleep(shown.interval)
            shown.update(look())

    task = asyncio.create_task(redraw())
    try:
        yield
    finally:
        await end_tasks({task})


class _Bar:
    interval = 0.2

    def __init__(self, bar: RichProgress) -> None:
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def update(self, progress: Progress) -> None:
        text = _figures(progress)
        self._bar.update(self._task, completed=progress.finished, total=progress.total, description=text)

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)


class _Lines:
    interval = 5.0

    def __init__(self, title: str) -> None:
        self._title = title

    def update(self, progress: Progress) -> None:
        say(f"{self._title}: {_figures(progress)}")

    def say(self, text: str) -> None:
        say(text)


def _figures(progress: Progress) -> str:
    if progress.outage is not None:
        return _outage(progress, progress.outage)
    parts = [str(progress.finished) if progress.total is None else f"{progress.finished}/{progress.total}"]
    if progress.store_silent:
        parts.append(f"waiting for Redis, silent for {duration(progress.store_silent)} (Ctrl-C ends the wait)")
        return ", ".join(parts)
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.skipped:
        parts.append(f"{progress.skipped} skipped")
    if progress.rate:
        parts.append(f"{progress.rate:.1f}/s")
    parts.append(f"quota {progress.taken}/{progress.limit}")
    if progress.paused:
        parts.append(f"paused {duration(progress.paused)}")
    if progress.eta:
        parts.append(f"{duration(progress.eta)} left")
    return ", ".join(parts)


def _outage(progress: Progress, outage: Outage) -> str:
    when = f"next try in {duration(outage.next_try)}" if outage.next_try else "trying now"
    waits = "the rest waits" if progress.total is None else f"{progress.total - progress.finished} actions wait"
    return f"server unavailable for {duration(outage.seconds)} ({outage.cause}); {when}; {waits}"


def draw_failures(failures: Failures, *, err: bool) -> None:
    """Print a table of the failures, if there are any, on standard output or standard error."""
    causes = failures.causes()
    if not causes:
        return
    stream = sys.stderr if err else sys.stdout
    width = columns(stream)
    if not _draws(stream) or width is None or width < WIDE:
        for cause in causes:
            example = f"for example event {cause.event_id}: {cause.example}"
            print_prose(f"{cause.count} x {cause.title}\n  {example}\n  {cause.advice}", err=err)
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True)
    for heading in ("failed", "because of", "for example, and what to do"):
        table.add_column(heading, overflow="fold")
    for cause in causes:
        example = f"{cause.event_id}\n{cause.example}\n{cause.advice}"
        table.add_row(str(cause.count), Text(cause.title), Text(example))
    Console(stderr=err, width=width).print(table)


def _draws(stream: TextIO) -> bool:
    """Return true for a terminal that can be drawn on."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"
