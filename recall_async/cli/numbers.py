"""Numbers as options take them, with errors that say what a number must be."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    _Int = click.ParamType[int]
    _Float = click.ParamType[float]
else:
    _Int = _Float = click.ParamType


class Whole(_Int):
    """A whole number from `least` to `most`."""

    name = "integer"

    def __init__(self, least: int | None = None, most: int | None = None) -> None:
        self._least, self._most = least, most

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            number = int(str(value))
        except ValueError:
            number = None
        if number is None or not _lies_in(number, self._least, self._most):
            self.fail(f"must be a whole number{_range(self._least, self._most)}, got {str(value)!r:.80}", param, ctx)
        return number


class Number(_Float):
    """A number from `least` to `most`, or greater than `above`. `endless` ones may be infinite."""

    name = "float"

    def __init__(
        self,
        least: float | None = None,
        most: float | None = None,
        *,
        above: float | None = None,
        endless: bool = False,
    ) -> None:
        self._least, self._most, self._above, self._endless = least, most, above, endless

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        known = not math.isnan(number) and (self._endless or math.isfinite(number))
        if not (known and _lies_in(number, self._least, self._most, self._above)):
            finite = " finite" if math.isinf(number) and not self._endless else ""
            allowed = _range(self._least, self._most, self._above)
            self.fail(f"must be a{finite} number{allowed}, got {str(value)!r:.80}", param, ctx)
        return number


def _lies_in(number: float, least: float | None, most: float | None, above: float | None = None) -> bool:
    return (least is None or number >= least) and (most is None or number <= most) and (above is None or number > above)


def _range(least: float | None, most: float | None, above: float | None = None) -> str:
    if above is not None:
        return f" above {above:g}" + ("" if most is None else f" and at most {most:g}")
    if least is None:
        return ""
    return f" of at least {least:g}" if most is None else f" from {least:g} to {most:g}"
