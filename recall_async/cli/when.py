"""Moments as people type them: `2026-11-27`, `tomorrow`, `+2d`, or a full time."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .command import Decorator

if TYPE_CHECKING:
    _Datetime = click.ParamType[datetime]
else:
    _Datetime = click.ParamType

_OFFSET = re.compile(r"([+-])(\d{1,6})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAYS = {"yesterday": -1, "today": 0, "tomorrow": 1}
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TO_THE_MINUTE = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?!\d|:)")


class When(_Datetime):
    """A moment, in UTC unless it names its time zone. A day is its beginning, or with `end=True` its end."""

    name = "time"

    def __init__(self, *, end: bool = False) -> None:
        self._end = end

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value).strip()
        try:
            return _moment(text, _now(ctx), end=self._end)
        except (ValueError, OverflowError):
            self.fail(
                f"must be a time such as 2026-11-27, tomorrow, +2d or 2026-11-27T18:30:00Z, got {text!r:.80}",
                param,
                ctx,
            )


def range_options(what: str) -> Decorator:
    """Return the options `--from` and `--to`, for the parameters `start` and `end`, of `what`: "events that start".

    The command raises `click.UsageError` for an end before the start.
    """

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option("--from", "start", type=When(), metavar="TIME", help=f"Only {what} at TIME or later.")
        @click.option("--to", "end", type=When(end=True), metavar="TIME", help=f"Only {what} at TIME or earlier.")
        @wraps(command)
        def within(*args: Any, start: datetime | None, end: datetime | None, **options: Any) -> Any:
            if start is not None and end is not None and end < start:
                raise click.UsageError(f"--to must be after --from, got {_text(end)}, which is before {_text(start)}")
            return command(*args, start=start, end=end, **options)

        return within

    return give


def _text(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%S}Z"


def _now(ctx: click.Context | None) -> datetime:
    """Return the current time, the same for all options of a command."""
    now = datetime.now(UTC)
    if ctx is not None:
        now = ctx.meta.setdefault("recall_async.now", now)
    return now


def _moment(text: str, now: datetime, *, end: bool) -> datetime:
    if text == "now":
        return now
    if offset := _OFFSET.fullmatch(text):
        sign, number, unit = offset.groups()
        return now + timedelta(**{_UNITS[unit]: int(number) * (1 if sign == "+" else -1)})
    day = None
    if text in _DAYS:
        day = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=_DAYS[text])
    elif _DATE.fullmatch(text):
        day = datetime.fromisoformat(text).replace(tzinfo=UTC)
    if day is not None:
        return day + timedelta(days=1, microseconds=-1) if end else day
    text = _TO_THE_MINUTE.sub(r"\1T\2:00", text)
    moment = msgspec.convert(text, datetime)
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
