"""Make standard output and standard error robust: against a reader that goes away, a full disk, a narrow encoding."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

_gone: set[int] = set()
_failed: set[int] = set()
_forgiven: set[int] = {2}
"""Streams whose failure is not an error. Nobody can be told that standard error failed."""


def harden() -> None:
    """Make output survive: characters that a stream cannot encode become `?`, a closed pipe swallows the rest.

    A job does not end because nobody reads what it prints, and its exit status says how it went.
    """
    _forgiven.discard(1)
    sys.stdout, sys.stderr = _hardened(sys.stdout or _nowhere()), _hardened(sys.stderr or _nowhere())


def forgive_output() -> None:
    """Keep the exit status if standard output cannot be written: what is printed only says how the work went."""
    _forgiven.add(1)


def reader_gone() -> bool:
    """True once nobody reads standard output any more, as after `recall-async events | head`."""
    return 1 in _gone


@contextmanager
def naming(file: object) -> Iterator[None]:
    """Name the file in an error that does not, as that of a full disk."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(file)) from None


def _nowhere() -> TextIO:
    """Return a stream that replaces one that was closed before the start, as by `>&-`."""
    return open(os.devnull, "w", encoding="utf-8")


def _hardened(stream: TextIO) -> TextIO:
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)  # with PYTHONUNBUFFERED there is no buffer
    if not isinstance(raw, io.FileIO):
        stream.reconfigure(errors="replace")
        return stream
    stream.flush()
    tty = stream.isatty()
    return io.TextIOWrapper(
        io.BufferedWriter(_Output(raw, stream)),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=tty or stream.line_buffering,
        write_through=stream.write_through,
    )


class _Output(io.RawIOBase):
    """A file that takes whatever is written to it once its reader has gone, or once it has failed."""

    def __init__(self, file: io.FileIO, stream: TextIO) -> None:
        self._file = file
        self._stream = stream  # which would close the file if it were forgotten

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self._file.isatty()

    def fileno(self) -> int:
        return self._file.fileno()

    def write(self, data: object) -> int | None:
        size = memoryview(data).nbytes  # type: ignore[arg-type]
        number = self.fileno()
        if number in _gone or number in _failed:
            return size
        try:
            return self._file.write(data)  # type: ignore[arg-type]
        except BrokenPipeError:
            _gone.add(number)
            return size
        except OSError as error:
            _failed.add(number)  # or the interpreter would try again, and complain, when it ends
            if number not in _forgiven:
                raise OSError(error.errno, error.strerror, "standard output") from None
            if number == 1:
                print(f"Standard output cannot be written: {error.strerror}", file=sys.stderr)
            return size
