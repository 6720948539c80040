"""Read settings from a TOML file. Errors name the line."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConfigurationError
from ..reading import read_file


def read_policy_file(
    path: str | os.PathLike[str], known: Sequence[str], check: Callable[[str, Any], Any]
) -> dict[str, Any]:
    """Read the settings in a file. `check(name, value)` checks and returns each value.

    Raises `ConfigurationError` that names each unknown key and each value that `check` rejects, with its line.
    """
    content = read_file("policy", path)
    try:
        text = content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        settings = tomllib.loads(text)
    except ValueError as error:  # tomllib and the UTF-8 decoder raise subclasses
        raise ConfigurationError(f"{os.fspath(path)} is not a valid TOML file: {error}") from error
    lines = text.split("\n")
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
    hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}"
    return f"unknown setting {name}; {hint}"


def _line_of(name: str, lines: Sequence[str]) -> int:
    """Return the first line, counted from 1, with a top-level key."""
    begun = 0
    for number in range(1, len(lines) + 1):  # pragma: no branch - all lines have it
        try:
            settings = tomllib.loads("\n".join(lines[:number]))
        except tomllib.TOMLDecodeError:
            continue  # inside a value of several lines
        if name in settings:
            break
        begun = number
    return begun + 1
