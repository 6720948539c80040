"""Ask before bots are removed. Without a terminal, stop if too many would be removed."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from .asking import can_ask, confirm

if TYPE_CHECKING:
    _LimitType = click.ParamType["Limit"]
else:
    _LimitType = click.ParamType

_LIMIT = re.compile(r"(?P<number>\d{1,9})(,(?P<share>\d{1,3}(\.\d{1,6})?)%)?|(?P<alone>\d{1,3}(\.\d{1,6})?)%")


class Limit(NamedTuple):
    """A number and a percentage of all bots. More removals than both are too many; `None` has no effect."""

    number: int | None
    percent: float | None

    def allows(self, removals: int, bots: int) -> bool:
        """Return whether `removals` of `bots` bots may be removed without asking."""
        few = self.number is not None and removals <= self.number
        small = self.percent is not None and removals * 100 <= self.percent * bots
        return few or small or not removals

    def __str__(self) -> str:
        number = None if self.number is None else str(self.number)
        percent = None if self.percent is None else f"{self.percent:g}%"
        return ",".join(filter(None, (number, percent)))


class _MaxRemovals(_LimitType):
    name = "limit"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Limit:
        if isinstance(value, Limit):
            return value
        text = str(value).replace(" ", "")
        found = _LIMIT.fullmatch(text)
        if found is None:
            self.fail(f"must be a number, a share or both, such as 10, 5% or 10,10%, got {text!r:.80}", param, ctx)
        number, percent = found["number"], found["share"] or found["alone"]
        return Limit(None if number is None else int(number), None if percent is None else float(percent))


def removal_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options `--yes` and `--max-removals` to a command."""
    for option in (
        click.option("--max-removals", type=_MaxRemovals(), default="10,10%", show_default=True, metavar="N,P%",
                     help="Without a terminal, stop if more than N bots and more than P % of all bots would be removed."),
        click.option("--yes", is_flag=True, help="Remove any number of bots without asking."),
    ):  # fmt: skip
        command = option(command)
    return command


class TooManyRemovals(click.ClickException):
    """The command would remove more bots than `--max-removals` allows."""


async def may_remove(removals: int, bots: int, *, yes: bool, limit: Limit, ask: bool = True, what: str = "") -> bool:
    """Return whether a command may remove `removals` of `bots` bots.

    Asks on a terminal if `ask` is true; the question begins with `what`. Raises `TooManyRemovals` if it cannot ask and the
    limit does not allow the removals.
    """
    if yes or not (removals or what):
        return True
    if ask and can_ask():
        return await confirm(f"{what}Remove {removals} of {bots} bots?")
    if limit.allows(removals, bots):
        return True
    raise TooManyRemovals(
        f"{removals} of {bots} bots would be removed, more than --max-removals {limit} allows. Nothing was changed. "
        "Check them with `recall-async plan`, then pass --yes or a larger --max-removals."
    )
