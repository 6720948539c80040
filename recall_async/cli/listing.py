"""Lists: an object per row, or per line of JSON, up to a limit, as the objects arrive."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from .numbers import Whole
from .streams import reader_gone
from .table import Column, Table
from .text import print_json, say

T = TypeVar("T")


def limit_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option `--limit` for a list of, say, "events"."""
    return click.option("--limit", type=Whole(1), metavar="N", help=f"Stop after N {what}.")


async def print_all(
    items: AsyncIterator[T],
    document: Callable[[T], Any] | None,
    columns: Sequence[Column],
    rows: Callable[[T], Iterable[Sequence[str]]],
    limit: int | None,
) -> int:
    """Print each item until there are `limit` or the reader is gone. Returns the number of items that were printed.

    With `document`, print the JSON that it makes of each; otherwise print its rows, on a terminal below the titles.
    """
    count, table = 0, Table(*columns)
    async for item in items:
        if document is not None:
            print_json(document(item))
        else:
            if not count and sys.stdout.isatty():
                click.echo(table.head())
            for cells in rows(item):
                click.echo(table.row(cells))
        count += 1
        if count == limit or reader_gone():
            break
    return count


def say_count(count: int, what: str, limit: int | None) -> None:
    """Print "5 events" to standard error, or that it stopped there."""
    stopped = "; there may be more, because --limit was reached" if count == limit else ""
    say(f"{count} {what if count != 1 else what.removesuffix('s')}{stopped}")
