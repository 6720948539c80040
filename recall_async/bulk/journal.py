"""The journal of a bulk job: its results and its checkpoint in one file of JSON lines.

A line is appended with a single write as soon as an action is finished, so killing the process loses no result. The
last line of an event counts.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import warnings
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from .. import checks
from ..errors import JournalError
from .records import Result, read_result, why_not_json, write_result

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MAX_LINE = 2**27
"""The most bytes in a line of a journal, because no response of the API is longer."""
_BEGINS = b'{"event_id":"'
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Journal:
    """The path and the options of a bulk job's journal file.

    A power failure loses at most the last `fsync_every` actions, a killed process none. A job that is restarted with
    the same file repeats temporary failures (no response, 409, 429, 5xx), and with `retry_failed` the other failures,
    too. `lock=False` is for file systems without locks: make sure that no other job writes to the file. Raises
    `ConfigurationError`.
    """

    path: str | os.PathLike[str]
    fsync_every: int = 100
    retry_failed: bool = False
    lock: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise checks.invalid("Journal.path", "the path of a file", self.path)
        checks.whole("Journal.fsync_every", self.fsync_every, at_least=1)
        checks.flag("Journal.retry_failed", self.retry_failed)
        checks.flag("Journal.lock", self.lock)


_open_files: weakref.WeakSet[JournalFile] = weakref.WeakSet()


class JournalFile:
    """An open journal, locked against other processes. Raises `JournalError`.

    - `job`: the id of the plan whose results it contains; `None` for a job without a plan.
    - `readonly`: read the file without changing it.
    """

    def __init__(self, journal: Journal, *, job: str | None = None, readonly: bool = False) -> None:
        self.path: Path = Path(journal.path)
        self.job = job
        self._fsync_every = journal.fsync_every
        self._unsynced = 0
        self._readonly = readonly
        self._locked = False
        try:
            self._raw = FileIO(os.fspath(self.path), "r" if readonly else "a+", opener=_open_at_once)
        except (OSError, ValueError) as error:
            raise self._failed("cannot be opened", error) from error
        try:
            found = os.fstat(self._raw.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise JournalError(f"the journal {self.path} must be a regular file: use another path")
            if journal.lock:
                self._lock()
                self._locked = True
            self._inode = found.st_dev, found.st_ino
            self._size = os.fstat(self._raw.fileno()).st_size
            if not self._size and not readonly:
                _sync_directory(self.path.parent)
            self._reader = self._open_reader()
        except BaseException:
            self._raw.close()
            raise
        _open_files.add(self)

    def _lock(self) -> None:
        try:
            if sys.platform == "win32":
                self._raw.seek(2**62)
                msvcrt.locking(self._raw.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise JournalError(
                f"the journal {self.path} is in use by another job: wait for its end, or use another file"
            ) from error
        except OSError as error:
            advice = ""
            if error.errno in _NO_LOCKS:
                advice = (
                    "Its file system has no locks: put the journal on another one, or, if no other job writes to it, "
                    "use Journal(path, lock=False) or --no-lock"
                )
            raise self._failed("cannot be locked", error, advice) from error

    def _open_reader(self) -> BinaryIO:
        try:
            reader = self.path.open("rb")
        except OSError as error:
            raise self._failed("cannot be read", error) from error
        found = os.fstat(reader.fileno())
        if (found.st_dev, found.st_ino) != self._inode:
            reader.close()
            raise self._replaced("was replaced by another file")
        return reader

    def results(self) -> Iterator[tuple[int, Result]]:
        """Yield every line with its place in the file.

        An incomplete last line, left by a killed process or a power failure, is removed. Raises `JournalError` for
        any other invalid line, and for lines of another plan; the file is not changed then.
        """
        place = 0
        with self._open_reader() as file:
            for number, text in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
                whole = place + len(text) < self._size or text.endswith(b"\n")
                if text.strip():
                    try:
                        result = read_result(text)
                    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                        if whole or not _is_torn(text):
                            raise JournalError(
                                f"{self.path}, line {number}, is not a line of a bulk job's journal: "
                                f"{why_not_json(error)}. Nothing was sent, and the file was not changed: use another "
                                "file, or correct the line."
                            ) from None
                        if not self._readonly:
                            self._truncate(place)
                        return
                    self._check_job(result)
                    yield place, result
                place += len(text)
                if not whole and not self._readonly:
                    self._write(b"\n")

    def _check_job(self, result: Result) -> None:
        if result.job == self.job:
            return
        if self.job is None:
            advice = "apply that plan (recall-async apply), or use another file"
        else:
            advice = "use another file, or apply the plan that it belongs to"
        owner = "a job without a plan" if result.job is None else f"the plan {result.job}"
        raise JournalError(f"the journal {self.path} belongs to {owner}: {advice}. Nothing was sent.")

    def result(self, place: int) -> Result:
        """Read the line at a place. Raises `JournalError` if it is no longer there."""
        try:
            self._reader.seek(place)
            return read_result(self._reader.readline())
        except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
            raise self._replaced("was changed by another process") from error

    def append(self, result: Result) -> None:
        """Append a line. If the disk is full, the file keeps its former content."""
        self._check_unchanged()
        self._write(write_result(result) + b"\n")
        self._unsynced += 1
        if self._unsynced >= self._fsync_every:
            self._sync()

    def _check_unchanged(self) -> None:
        found = os.fstat(self._raw.fileno())
        if found.st_size != self._size:
            raise self._replaced("was truncated" if found.st_size < self._size else "was written by another process")
        try:
            there = os.stat(self.path)
        except OSError:
            raise self._replaced("was deleted or moved") from None
        if (there.st_dev, there.st_ino) != self._inode:
            raise self._replaced("was replaced by another file")

    def _failed(self, what: str, error: Exception, advice: str = "") -> JournalError:
        reason = getattr(error, "strerror", None) or error
        return JournalError(f"the journal {self.path} {what}: {reason}{advice and f'. {advice}'}")

    def _replaced(self, how: str) -> JournalError:
        return JournalError(
            f"the journal {self.path} {how} during the job, so the job stopped. Restore the file before you restart the "
            "job: without it, all actions are performed again."
        )

    def _write(self, data: bytes) -> None:
        try:
            written = self._raw.write(data)
            while written < len(data):  # after a partial write, the next one raises the reason
                written += self._raw.write(data[written:])
        except (OSError, ValueError) as error:
            with suppress(OSError, ValueError):
                self._raw.truncate(self._size)
            advice = "It lacks the actions that were in flight: a restart with this file performs them again."
            raise self._failed("cannot be written", error, advice) from error
        self._size += len(data)

    def _truncate(self, size: int) -> None:
        try:
            self._raw.truncate(size)
        except OSError as error:
            raise self._failed("cannot be written", error) from error
        self._size = size

    def _sync(self) -> None:
        try:
            os.fsync(self._raw.fileno())
        except OSError as error:
            raise self._failed("may not be on the disk", error, "Check the disk's free space and health.") from error
        self._unsynced = 0

    def close(self) -> None:
        """Flush the file to the disk, and release the lock."""
        try:
            if self._unsynced:
                self._sync()
        finally:
            if self._locked and sys.platform != "win32":
                with suppress(OSError):
                    fcntl.flock(self._raw, fcntl.LOCK_UN)  # even if a child has just been forked
            self.abandon()

    def abandon(self) -> None:
        """Close the file as it is."""
        _open_files.discard(self)
        self._reader.close()
        self._raw.close()


def _open_at_once(path: str, flags: int) -> int:
    """Open a file. A named pipe is opened, too, without a wait for its writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def _close_in_child() -> None:
    """Close the journals in a forked child: a lock lasts while any process has the file open."""
    for file in list(_open_files):
        file.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_in_child)


def _is_torn(text: bytes) -> bool:
    """Return whether this is only the beginning of a line.

    A file system may leave zeros in place of data that was not written.
    """
    text = text.rstrip(b"\0")
    if not text or not (text.startswith(_BEGINS) or _BEGINS.startswith(text)):
        return not text
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    except UnicodeDecodeError:
        return True
    return False


def _sync_directory(path: Path) -> None:
    """Flush a new file's name to the disk, if the system supports it."""
    if sys.platform != "win32":
        with suppress(OSError):  # some file systems refuse, and the directory may be unreadable
            directory = os.open(path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)


def __getattr__(name: str) -> Any:
    if name == "Line":
        warnings.warn("recall_async.bulk.journal.Line is now recall_async.bulk.records.Result", DeprecationWarning, 2)
        return Result
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
