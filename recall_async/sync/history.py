"""`FileHistory`: the changes made to events, in a file that other processes and later runs read."""

from __future__ import annotations

import asyncio
import logging
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from .. import checks
from ..reading import check_replaceable
from ..replacing import replace_file
from .memory import Change, ChangeHistory

logger: logging.Logger = logging.getLogger("recall_async")

KEPT_FOR = timedelta(days=1)
"""Time after its event's start for which a change is kept."""
FEW = 1000
"""Number of lines up to which old changes are not deleted."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Change).decode


class FileHistory:
    """A history of changes in a file, one JSON object per line. Several processes of one machine may share it.

    Pass it to `RecallSession.plan` and `apply`, or to a `CalendarSyncer`, so that a change that did not last is
    recognized after a restart, and so that an older plan does not undo a later one of another process. A line that
    cannot be read is skipped and logged. Changes of past events are deleted. docs/sync.md

    Raises `ConfigurationError` for a device. Any other path that cannot be read or written is logged, and harms nothing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        check_replaceable("history", path)

    @property
    def name(self) -> str:
        """The path of the file."""
        return os.path.abspath(self._path)

    async def read(self, place: object | None) -> tuple[list[Change], object]:
        """Return the changes after `place`, or all, and the place to pass next time."""
        return await asyncio.to_thread(self._read, place)

    def add(self, change: Change) -> None:
        """Add a change. Raises `OSError`."""
        with open(self._path, "ab+") as file:
            # After a crash the last line may be torn.
            file.write((b"" if _ends_well(file) else b"\n") + _encode(change) + b"\n")

    def _read(self, place: object | None) -> tuple[list[Change], object]:
        try:
            with open(self._path, "rb") as file:
                status = os.fstat(file.fileno())
                is_same = isinstance(place, tuple) and place[0] == status.st_ino and place[1] <= status.st_size
                offset = place[1] if isinstance(place, tuple) and is_same else 0
                file.seek(offset)
                content = file.read()
        except FileNotFoundError:
            return [], None
        whole = content[: content.rfind(b"\n") + 1]  # another process may be writing the rest
        changes, kept = self._decoded(whole)
        if offset == 0 and whole.count(b"\n") > max(FEW, 2 * len(kept)):
            try:
                return changes, self._rewrite(kept)
            except OSError as error:
                logger.warning("the history %s: old changes could not be deleted: %s", self._path, error)
        return changes, (status.st_ino, offset + len(whole))

    def _decoded(self, content: bytes) -> tuple[list[Change], list[bytes]]:
        """Return the changes of events that are not past, and the lines to keep: theirs and the unreadable ones.

        An unreadable line may be of a later version, or the file may be another one that was named by mistake.
        """
        oldest = datetime.now(UTC) - KEPT_FOR
        changes: list[Change] = []
        kept: list[bytes] = []
        unreadable = 0
        for line in filter(None, content.split(b"\n")):
            try:
                change = _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                unreadable += 1
                kept.append(line)
            else:
                if change.start_time >= oldest:
                    changes.append(change)
                    kept.append(line)
        if unreadable:
            logger.warning("the history %s: %d lines cannot be read and are skipped", self._path, unreadable)
        return changes, kept

    def _rewrite(self, lines: list[bytes]) -> tuple[int, int]:
        """Replace the file. A line that another process adds at the same moment may be lost, which does no harm."""
        status = replace_file(self._path, b"".join(line + b"\n" for line in lines))
        return status.st_ino, status.st_size


def history_of(given: object) -> ChangeHistory | None:
    """Return the history that a program passed, as an object or as the path of its file.

    Raises `ConfigurationError`.
    """
    if isinstance(given, str | os.PathLike):
        return FileHistory(given)
    if given is None or (hasattr(given, "read") and hasattr(given, "add") and hasattr(given, "name")):
        return cast("ChangeHistory | None", given)
    raise checks.invalid("history", "a FileHistory, or the path of a file", given)


def _ends_well(file: BinaryIO) -> bool:
    """Return whether a file is empty or ends with a line break."""
    if file.seek(0, os.SEEK_END) == 0:
        return True
    file.seek(-1, os.SEEK_END)
    return file.read(1) == b"\n"
