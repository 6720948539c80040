"""Reading settings from a TOML file, with the line of whatever is wrong with it."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError


def read_policy_file(
    path: str | os.PathLike[str], known: Sequence[str], check: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """The settings in a file, each accepted by `check(name, value)`.

    Raises `ConfigurationError` that names every key that is unknown and every value that `check` does not accept, each
    with its line.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
        settings = tomllib.loads(text)
    except ValueError as error:  # also what tomllib and the decoding of UTF-8 raise
        raise ConfigurationError(f"{os.fspath(path)} is no TOML file: {error}") from error
    lines = text.replace("\r\n", "\n").split("\n")
    wrong = []
    for name, value in settings.items():
        try:
            if name not in known:
                raise ConfigurationError(_unknown(name, known))
            check(name, value)
        except ConfigurationError as error:
            wrong.append(f"{os.fspath(path)}, line {_line_of(name, lines)}: {error}")
    if wrong:
        raise ConfigurationError("\n".join(wrong))
    return settings


def _unknown(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
    return f"no setting is called {name}; {hint}"


def _line_of(name: str, lines: Sequence[str]) -> int:
    """The line, from 1, on which a top-level key first stands."""
    begun = 0
    for number in range(1, len(lines) + 1):
        try:
            settings = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue  # in the middle of a value
        if name in settings:
            break
        begun = number
    return begun + 1
