"""Lists: an object per row, or per line of JSON, up to a limit, as the objects arrive."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from .command import Decorator
from .numbers import Whole
from .requests import ask
from .streams import reader_gone
from .table import Column, Table
from .text import print_json, say

if TYPE_CHECKING:
    from ..session import RecallSession

T = TypeVar("T")


def limit_option(what: str) -> Decorator:
    """Return the option `--limit` for a list of, say, "events"."""
    return click.option("--limit", type=Whole(1), metavar="N", help=f"Stop after N {what}.")


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """How a kind of object is listed."""

    what: str
    """What the objects are called, in the plural."""
    columns: Sequence[Column]
    rows: Callable[[T], Iterable[Sequence[str]]]
    """Returns the rows of an object in the table."""
    document: Callable[[T], Any]
    """Returns the JSON of an object."""

    def show(
        self,
        session: RecallSession,
        find: Callable[[RecallSession], AsyncIterator[T]],
        limit: int | None,
        *,
        as_json: bool,
    ) -> None:
        """Print what `find` yields, until there are `limit` objects or the reader is gone.

        On a terminal, the rows are below the titles. How many there are is said on standard error.
        """

        async def print_each(recall: RecallSession) -> int:
            count, table = 0, Table(*self.columns)
            async for item in find(recall):
                if as_json:
                    print_json(self.document(item))
                else:
                    if not count and sys.stdout.isatty():
                        click.echo(table.head())
                    for cells in self.rows(item):
                        click.echo(table.row(cells))
                count += 1
                if count == limit or reader_gone():
                    break
            return count

        count = ask(session, print_each)
        if not as_json:
            stopped = "; there may be more, because --limit was reached" if count == limit else ""
            say(f"{count} {self.what if count != 1 else self.what.removesuffix('s')}{stopped}")
