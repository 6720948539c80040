"""What commands print: text that is safe on a terminal, times, and JSON alone on standard output."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click
import msgspec

json_option = click.option("--json", "as_json", is_flag=True, help="Machine-readable output alone on standard output.")


def printable(text: str) -> str:
    """`text` without what a terminal would obey: titles and answers are written by strangers."""
    return "".join(c if c.isprintable() else "\n" if c == "\n" else "�" for c in text)


def line(text: str | None) -> str:
    """`text` on one line."""
    return printable(" ".join((text or "").split()))


def moment(when: datetime) -> str:
    """A time to the minute, in UTC."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """A span of time, such as `1 h 24 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min"


def say(text: str) -> None:
    """A remark that is no part of the output."""
    click.echo(text, err=True)


def print_json(document: Any) -> None:
    """One JSON document on a line of its own."""
    click.echo(msgspec.json.encode(document))
