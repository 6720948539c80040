"""Print the output of commands: text that is safe on a terminal, times, and JSON."""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable
from datetime import datetime
from typing import Any, TextIO

import click
import msgspec

from ..lenient import in_utc
from ..secrecy import MASK

_JOINERS = "\u200c\u200d"
"""Invisible, but scripts and emoji need them between two characters."""
_HIDDEN_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]")
"""Characters that JSON does not escape and that a terminal may obey: C1 controls and marks of direction."""


def printable(text: str) -> str:
    """Replace the characters that a terminal would obey: titles and responses are written by strangers."""
    return "".join(c if c.isprintable() or c in _JOINERS else "\n" if c == "\n" else "�" for c in text)


def line(text: str | None) -> str:
    """Return `text` on one line."""
    return printable(" ".join((text or "").split()))


def padded(text: str, width: int, *, right: bool = False) -> str:
    """Fill `text` with spaces to `width` columns of a terminal, on the left if it is aligned to the `right`."""
    space = " " * (width - sum(map(_columns, text)))
    return space + text if right else text + space


def fitted(text: str, width: int) -> str:
    """Cut `text` to `width` columns of a terminal. Some characters take two."""
    if sum(map(_columns, text)) <= width:
        return text
    kept, left = [], width - 1
    for character in text:  # pragma: no branch - it is too wide
        left -= _columns(character)
        if left < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + "…"


def _columns(character: str) -> int:
    if unicodedata.combining(character) or character in _JOINERS or unicodedata.category(character) == "Mn":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def moment(when: datetime) -> str:
    """Format a time to the minute, in UTC."""
    return f"{in_utc(when):%Y-%m-%d %H:%M}"


def place(meeting_url: object) -> str | None:
    """Return where a meeting is: its URL, or the fields of the object that some responses have in its place."""
    if meeting_url is None or isinstance(meeting_url, str):
        return meeting_url
    fields = msgspec.to_builtins(meeting_url)
    told = [f"{name.replace('_', ' ')} {value}" for name, value in fields.items() if value and name != "platform"]
    return f"{fields.get('platform') or 'a meeting'}: {', '.join(told)}"


def duration(seconds: float) -> str:
    """Format a duration, such as `1 h 24 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min"


def say(text: str) -> None:
    """Print a remark to standard error. On a terminal, break lines between words."""
    print_prose(text, err=True)


def say_error(text: str) -> None:
    """Print an error message to standard error."""
    say(f"Error: {text}")


def say_command(text: str, command: str) -> None:
    """Print a remark and a command to standard error. The command is one line, so that it can be pasted."""
    say(f"{text.removesuffix(':')}, with the password in place of {MASK}:" if MASK in command else text)
    click.echo(f"  {line(command)}", err=True)


def columns(stream: TextIO) -> int | None:
    """Return the width of the terminal that a stream goes to; `None` if it is not a terminal."""
    return shutil.get_terminal_size().columns if stream.isatty() else None


def print_prose(text: str, *, indent: str = "", err: bool = False) -> None:
    """Print sentences. On a terminal, break lines between words and indent all but the first."""
    width = columns(sys.stderr if err else sys.stdout)
    for paragraph in printable(text).splitlines():
        if width is not None:
            begin = paragraph[: len(paragraph) - len(paragraph.lstrip())]
            # Words stay whole, so that ids and URLs can be copied.
            paragraph = textwrap.fill(
                paragraph, width, subsequent_indent=begin + indent, break_long_words=False, break_on_hyphens=False
            )
        click.echo(paragraph, err=err)


def print_card(title: str, rows: Iterable[tuple[str, str | None]]) -> None:
    """Print an object: a title, and a line for each field that has a value."""
    click.echo(line(title))
    for name, value in rows:
        if value:
            click.echo(f"  {name:<10} {line(value)}")


def print_json(document: Any) -> None:
    """Print a JSON document on one line, without characters that a terminal would obey."""
    # A line break between the values of the API's own JSON is a space.
    click.echo(defused(msgspec.json.encode(document).replace(b"\r", b" ").replace(b"\n", b" ")))


def defused(text: bytes) -> bytes:
    """Return JSON of the same value without characters that a terminal would obey."""
    if not text.isascii() or b"\x7f" in text:
        # Such characters stand in texts only, where an escape means the same.
        text = _HIDDEN_IN_JSON.sub(lambda found: json.dumps(found[0])[1:-1], text.decode(errors="replace")).encode()
    return text
