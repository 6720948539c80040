"""Replace a file atomically: a crash or a full disk leaves the former content."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from secrets import token_hex


def replace_file(path: str | os.PathLike[str], content: bytes) -> os.stat_result:
    """Replace the content of a file, or create it, and return its status. Raises `OSError`.

    The new content is written to a file beside it, flushed to the disk, and renamed. Each call uses another name, because a
    call in a thread continues after its task was cancelled. The file keeps its permissions, and a symbolic link its target.
    """
    path = os.path.realpath(path)
    folder, name = os.path.split(path)
    try:
        mode: int | None = stat.S_IMODE(os.stat(path).st_mode)
    except FileNotFoundError:
        mode = None
    new = os.path.join(folder, f".{name[:200]}.{token_hex(8)}")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with open(descriptor, "wb") as file:
            if mode is not None:
                with suppress(OSError):  # some file systems have no permissions
                    os.chmod(new, mode)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            status = os.fstat(file.fileno())
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
    return status
