"""Asking before bots are removed: on a terminal always, elsewhere when it would be many."""

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
    """So many bots, and such a share of all bots: more than both is too many. `None` is not looked at."""

    number: int | None
    percent: float | None

    def allows(self, removals: int, bots: int) -> bool:
        """Tell whether so many of the bots may go without a word."""
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
    """Give a command the options that say whether bots may be removed, as the parameters `yes` and `max_removals`."""
    for option in (
        click.option("--max-removals", type=_MaxRemovals(), default="10,10%", show_default=True, metavar="N,P%",
                     help="Without a terminal, stop if more than N bots and more than P % of all would be removed."),
        click.option("--yes", is_flag=True, help="Remove bots without asking, however many."),
    ):  # fmt: skip
        command = option(command)
    return command


class TooManyRemovals(click.ClickException):
    """More bots would be removed than the command may remove without being told so."""


async def may_remove(removals: int, bots: int, *, yes: bool, limit: Limit, ask: bool = True, what: str = "") -> bool:
    """Tell whether a command may remove so many of so many bots: it is few, `--yes` says so, or a person does.

    Asks on a terminal if `ask`, also about what else it does, if that is given. Raises `TooManyRemovals` where nobody can be
    asked.
    """
    if yes or not (removals or what):
        return True
    if ask and can_ask():
        return await confirm(f"{what}Remove {removals} of {bots} bots?")
    if limit.allows(removals, bots):
        return True
    raise TooManyRemovals(
        f"{removals} of {bots} bots would be removed, more than --max-removals {limit} allows. None was. Look at them, then "
        "pass --yes or a larger --max-removals."
    )
