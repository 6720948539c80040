"""Replace a file atomically: a crash or a full disk leaves the former content."""

from __future__ import annotations

import os
from tempfile import mkstemp


def replace_file(path: str | os.PathLike[str], content: bytes) -> os.stat_result:
    """Replace the content of a file, or create it, and return its status. Raises `OSError`.

    The new content is written to a file beside it, flushed to the disk, and renamed. Each call uses another name, because a
    call in a thread continues after its task was cancelled.
    """
    folder, name = os.path.split(path)
    descriptor, new = mkstemp(dir=folder or os.curdir, prefix=f".{name}.")
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            status = os.fstat(file.fileno())
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise
    return status
