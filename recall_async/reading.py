"""Read a file that a user named. One without an end, such as /dev/zero, is refused before it fills the memory."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import BinaryIO

from .checks import invalid
from .errors import ConfigurationError

MAX_FILE = 2**27
"""The most bytes of a file that is read as a whole. A `bot_config` may hold pictures."""
PART = 2**20


def read_file(name: str, path: str | os.PathLike[str]) -> bytes:
    """Return the content of the file that the argument `name` names. Raises `ConfigurationError` and `OSError`."""
    with open(path, "rb") as file:
        return b"".join(parts_of(name, file, MAX_FILE))


def parts_of(name: str, file: BinaryIO, at_most: int) -> Iterator[bytes]:
    """Yield an open file in parts. Raises `ConfigurationError` for a device, and for more than `at_most` bytes."""
    check_kind(name, file)
    size = 0
    while part := file.read(PART):
        size += len(part)
        if size > at_most:
            raise ConfigurationError(f"{name} must have at most {at_most} bytes, got more")
        yield part


def check_replaceable(name: str, path: str | os.PathLike[str]) -> None:
    """Check that a program may read and replace the file at `path`: not a device or a pipe.

    Raises `ConfigurationError`.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # opening it says more
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise invalid(name, "a regular file", str(path))


def check_kind(name: str, file: BinaryIO | str | os.PathLike[str]) -> None:
    """Check that a file, open or named by its path, is none that goes on forever. Raises `ConfigurationError`."""
    if isinstance(file, str | os.PathLike):
        where: int | str = os.fspath(file)
        shown = where
    else:
        try:
            where, shown = file.fileno(), getattr(file, "name", "-")
        except OSError:  # it is in memory
            return
    found = os.stat(where)
    if stat.S_ISCHR(found.st_mode):
        ends = found.st_rdev == os.stat(os.devnull).st_rdev or (isinstance(where, int) and os.isatty(where))
    else:
        ends = not stat.S_ISBLK(found.st_mode)
    if not ends:
        raise invalid(name, "a file, a pipe or a terminal", shown)
