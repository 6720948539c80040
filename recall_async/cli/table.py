"""Tables whose rows fit the terminal: a row takes several lines where it is narrow, and no word is broken."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from .text import columns, fitted, padded

GAP, INDENT = "  ", "  "
LEAST = 8
"""Characters of the last column that are shown beside others."""


class Column(NamedTuple):
    """A column of a table."""

    title: str
    width: int
    right: bool = False
    """Align to the right."""


class Table:
    """Makes the rows of a table for standard output. The last column is as wide as the rest of the line.

    On a terminal, its text is cut. A column that does not fit on the line goes to the next one, indented. Elsewhere each row
    is one line.
    """

    def __init__(self, *given: Column) -> None:
        self._columns = given
        self._width = columns(sys.stdout)
        self._lines: list[list[int]] = [[]]
        free = self._width
        for number, column in enumerate(given):
            needed = max(LEAST, len(column.title)) if number == len(given) - 1 else column.width
            if free is not None and self._width is not None:
                if self._lines[-1] and needed > free:
                    self._lines.append([])
                    free = self._width - len(INDENT)
                free -= column.width + len(GAP)
            self._lines[-1].append(number)

    def head(self) -> str:
        """Return the titles of the columns."""
        return self.row([column.title for column in self._columns])

    def row(self, cells: Sequence[str]) -> str:
        """Return a row. Lines without text are left out."""
        lines = [self._line(numbers, cells) for numbers in self._lines]
        return "\n".join(text for text in lines if text)

    def _line(self, numbers: list[int], cells: Sequence[str]) -> str:
        text = INDENT if numbers[0] else ""
        place = len(text)
        for number in numbers:
            column, last = self._columns[number], number == numbers[-1]
            width = column.width if column.right or not last else 0
            text += padded(cells[number], width - (len(text) - place), right=column.right) + ("" if last else GAP)
            place += column.width + len(GAP)
        return (text if self._width is None else fitted(text, self._width)).rstrip()
