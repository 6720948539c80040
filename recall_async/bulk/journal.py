"""The journal of a bulk job: its results and its checkpoint in one file of JSON lines.

A line is appended with a single write as soon as an action is finished, so that killing the process loses none. Of the
lines of one event the last is what holds. `config` and `replaces` are there for the job that is started again.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Any, Literal

import msgspec

from .. import errors
from ..errors import APIError, ConfigurationError, JournalError, RecallError
from ..resources.fields import encode_bot_config
from .actions import Action, Outcome, ScheduleBot, Status

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

MAX_LINE = 2**27
"""Bytes: no line of a journal is longer, since no answer of the API is."""
_BEGINS = b'{"event_id":"'


@dataclass(frozen=True, slots=True)
class Journal:
    """The file of a bulk job, with options: where it is, and how it is used.

    After a power cut, at most the last `fsync_every` actions are missing in it; if the process is killed, none. A job
    that is started again with the same file repeats failures that may pass by themselves (no answer, 409, 429, 5xx), and
    with `retry_failed` the others, too. Raises `ConfigurationError`.
    """

    path: str | os.PathLike[str]
    fsync_every: int = 100
    retry_failed: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.path, str | os.PathLike) or not os.fspath(self.path):
            raise ConfigurationError(f"Journal.path is {self.path!r}: it is the path of a file")
        if isinstance(self.fsync_every, bool) or not isinstance(self.fsync_every, int) or self.fsync_every < 1:
            raise ConfigurationError(f"Journal.fsync_every is {self.fsync_every!r}: it counts actions, at least 1")


class Line(msgspec.Struct, omit_defaults=True):
    """One finished action."""

    event_id: str
    action: Literal["schedule", "remove"]
    deduplication_key: str | None
    status: Status
    bots: msgspec.Raw
    """The bots of the event after the action, as the API answered them."""
    error: dict[str, Any] | None
    attempts: int
    at: str
    config: str | None = None
    """A hash of `bot_config`."""
    replaces: int = 0
    """How many of the last things that were done to the event it takes the place of, in the account of what a job did."""

    @property
    def identity(self) -> tuple[str, str, str | None, str | None]:
        """What makes two actions the same."""
        return self.event_id, self.action, self.deduplication_key, self.config


_decode = msgspec.json.Decoder(Line).decode
_encode = msgspec.json.Encoder().encode


def identity_of(action: Action) -> tuple[str, str, str | None, str | None]:
    """What makes two actions the same: event, kind, deduplication key and configuration; the times do not.

    Raises `ConfigurationError` for a `bot_config` that is no JSON.
    """
    event_id = _text(action.event_id).lower()
    if not isinstance(action, ScheduleBot):
        return event_id, "remove", None, None
    config = msgspec.json.decode(encode_bot_config({} if action.bot_config is None else action.bot_config))
    canonical = msgspec.json.encode(config, order="deterministic")
    return event_id, "schedule", _text(action.deduplication_key), blake2b(canonical, digest_size=16).hexdigest()


def line_of(outcome: Outcome, *, replaces: int) -> Line:
    """The line that tells of an outcome."""
    try:
        event_id, kind, key, config = identity_of(outcome.action)
    except ConfigurationError:
        assert isinstance(outcome.action, ScheduleBot)
        event_id, kind = _text(outcome.action.event_id).lower(), "schedule"
        key, config = _text(outcome.action.deduplication_key), None
    return Line(
        event_id=event_id,
        action="schedule" if kind == "schedule" else "remove",
        deduplication_key=key,
        status=outcome.status,
        bots=msgspec.Raw(_encode(outcome.event.bots if outcome.event is not None else ())),
        error=_document(outcome.error) if outcome.error is not None else None,
        attempts=outcome.attempts,
        at=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        config=config,
        replaces=replaces,
    )


def _text(value: object) -> str:
    """What was passed as a text, in a form that can be written, whatever it is."""
    return str(value).encode(errors="replace").decode()


def _document(error: RecallError) -> dict[str, Any]:
    document: dict[str, Any] = {"type": type(error).__name__, "message": str(error), "operation": error.operation}
    if isinstance(error, APIError):
        document |= {"status": error.status, "code": error.code, "detail": error.detail}
    return document


def error_in(line: Line) -> RecallError | None:
    """The error of a line as an exception."""
    if line.error is None:
        return None
    fields = dict(line.error)
    kind = getattr(errors, str(fields.pop("type", "")), RecallError)
    message = str(fields.pop("message", ""))
    try:
        error = kind(message, attempts=line.attempts, **fields)
    except TypeError:
        error = None
    return error if isinstance(error, RecallError) else RecallError(message, attempts=line.attempts)


class JournalFile:
    """A journal that is open, and locked against everybody else. Raises `JournalError`."""

    def __init__(self, journal: Journal) -> None:
        self.path = Path(journal.path)
        self._fsync_every = journal.fsync_every
        self._unsynced = 0
        try:
            self._raw = FileIO(os.fspath(self.path), "a+")
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be opened: {error.strerror}") from error
        try:
            found = os.fstat(self._raw.fileno())
            if not stat.S_ISREG(found.st_mode):
                raise JournalError(f"the journal {self.path} is not a file that can be read again: name another")
            self._lock()
            self._size = os.fstat(self._raw.fileno()).st_size
            if not self._size:
                _sync_directory(self.path.parent)
            self._reader = self.path.open("rb")
        except BaseException:
            self._raw.close()
            raise

    def _lock(self) -> None:
        try:
            if sys.platform == "win32":
                self._raw.seek(2**62)
                msvcrt.locking(self._raw.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(self._raw, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise JournalError(
                f"the journal {self.path} is in use by another job: wait until it has ended, or name another file"
            ) from error
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be locked: {error.strerror}") from error

    def count(self) -> int:
        """At most so many lines are in the file."""
        with self.path.open("rb") as file:
            return 1 + sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(2**20), b""))

    def lines(self) -> Iterator[tuple[int, Line]]:
        """Every line with its place in the file.

        A last line that was being written when the process or the power went away is taken out. Raises `JournalError` for
        any other line that is none, and leaves the file as it is.
        """
        place = 0
        with self.path.open("rb") as file:
            for number, text in enumerate(iter(lambda: file.readline(MAX_LINE), b""), 1):
                whole = place + len(text) < self._size or text.endswith(b"\n")
                if text.strip():
                    try:
                        line = _decode(text)
                    except (msgspec.DecodeError, UnicodeDecodeError) as error:
                        if whole or isinstance(error, msgspec.ValidationError) or not _is_torn(text):
                            raise JournalError(
                                f"{self.path}, line {number}, is not a line of a bulk job's journal: {error}. Nothing was "
                                "sent, and the file is as it was: name another, or mend the line."
                            ) from None
                        self._truncate(place)
                        return
                    yield place, line
                place += len(text)
                if not whole:
                    self._write(b"\n")

    def line(self, place: int) -> Line:
        """The line at a place."""
        self._reader.seek(place)
        return _decode(self._reader.readline())

    def append(self, line: Line) -> None:
        """Write a line. Where the disk is full, the file is left as it was."""
        self._write(_encode(line) + b"\n")
        self._unsynced += 1
        if self._unsynced >= self._fsync_every:
            self._sync()

    def _write(self, data: bytes) -> None:
        try:
            written = self._raw.write(data)
            while written < len(data):  # next to no room: the next write says why
                written += self._raw.write(data[written:])
        except (OSError, ValueError) as error:
            with suppress(OSError, ValueError):
                self._raw.truncate(self._size)
            raise JournalError(
                f"the journal {self.path} cannot be written: {getattr(error, 'strerror', error)}. Actions that were on "
                "their way are not in it, and will be done again when the job is started again with this file."
            ) from error
        self._size += len(data)

    def _truncate(self, size: int) -> None:
        try:
            self._raw.truncate(size)
        except OSError as error:
            raise JournalError(f"the journal {self.path} cannot be written: {error.strerror}") from error
        self._size = size

    def _sync(self) -> None:
        try:
            os.fsync(self._raw.fileno())
        except OSError as error:
            raise JournalError(
                f"the journal {self.path} may not be on the disk: {error.strerror}. See that it has room and is sound."
            ) from error
        self._unsynced = 0

    def close(self) -> None:
        """See that all of it is on the disk, and let others use it."""
        try:
            if self._unsynced:
                self._sync()
        finally:
            self._reader.close()
            self._raw.close()


def _is_torn(text: bytes) -> bool:
    """Whether this is the beginning of a line; a file system may leave zeros where data did not arrive."""
    text = text.rstrip(b"\0")
    return text.startswith(_BEGINS) or _BEGINS.startswith(text)


def _sync_directory(path: Path) -> None:
    """See that a new file's name is on the disk, where the system has a way to."""
    if sys.platform != "win32":
        with suppress(OSError):  # some file systems refuse, and a directory need not be readable
            directory = os.open(path, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
