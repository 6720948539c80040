"""Read settings from a TOML file. Errors name the line."""

from __future__ import annotations

import difflib
import logging
import os
import re
import tomllib
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ConfigurationError
from ..reading import read_file

logger: logging.Logger = logging.getLogger("recall_async")

_PROBE = "a-key-that-no-file-has"


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
    except RecursionError:
        raise ConfigurationError(f"{os.fspath(path)} is not a valid TOML file: it is nested too deeply") from None
    if not settings:
        # It may have been emptied by accident, by a full disk or a template without values.
        logger.warning("%s has no settings: every meeting with a URL gets a bot", os.fspath(path))
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
    key = re.compile(rf"""\s*(\[{{0,2}})\s*(["']?){re.escape(name)}\2\s*[].=]""")
    for number, line in enumerate(lines, 1):
        if (found := key.match(line)) is not None:
            try:
                before = tomllib.loads("\n".join([*lines[: number - 1], f"{_PROBE} = 0"]))
            except ValueError:
                continue  # inside a value of several lines
            if found[1] or _PROBE in before:  # otherwise it is in a table
                return number
    return 1
