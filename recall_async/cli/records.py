"""Records in a file of JSON lines or CSV: each with its place, so that it can be read again by itself."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import stat
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, Protocol

import msgspec

from ..bulk.records import why_not_json
from ..reading import parts_of

BOM = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
UNKNOWN_DELIMITERS = "|:^~ "
MAX_RECORD = 2**27
"""The most bytes of a record; a picture in a `bot_config` has more than the 131,072 that Python allows by itself."""
MAX_COPY = 2**32
"""The most bytes of a pipe, which is copied to the disk."""
CARRIAGE_RETURNS = "lines end with a carriage return alone: save the file with LF or CRLF"


class Invalid(Exception):
    """An invalid record. The arguments are the problems."""


class Record(NamedTuple):
    """One record."""

    offset: int
    """Offset of its beginning, in bytes."""
    line: int
    """Number of its first line, from 1."""
    fields: Mapping[str, Any] | Invalid


class Records(Protocol):
    """A file's records."""

    def all(self) -> Iterator[Record]:
        """Yield each record once, in order."""

    def at(self, offset: int) -> Mapping[str, Any] | Invalid:
        """Return the fields of the record that begins there."""


class JSONLines:
    """One JSON object per line; empty lines do not count."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def all(self) -> Iterator[Record]:
        if problem := _why_no_text(self._file):
            yield Record(0, 1, Invalid(f"this is {problem}"))
            return
        offset = _skip_bom(self._file)
        for number, text in enumerate(lines_of(self._file), 1):
            is_whole = len(text) <= MAX_RECORD
            if text.strip() or not is_whole:
                yield Record(offset, number, _json_object(text, strictly=True))
            if not is_whole:
                return
            offset += len(text)

    def at(self, offset: int) -> Mapping[str, Any] | Invalid:
        self._file.seek(offset)
        return _json_object(self._file.readline())


class CSV:
    """One record per row, under a row of column names; empty cells are left out, and those of `json` columns decoded.

    Excel's dialects are understood: semicolons or tabs in place of commas, a first line `sep=;`, and empty columns at the
    end.
    """

    def __init__(
        self, file: BinaryIO, *, required: Collection[str], optional: Collection[str], json: Collection[str]
    ) -> None:
        self._file = file
        self._required = required
        self._known = (*required, *optional)
        self._json = json
        self._columns: list[str] = []
        self._delimiter = ","
        csv.field_size_limit(MAX_RECORD)

    def all(self) -> Iterator[Record]:
        if problem := _why_no_text(self._file):
            yield Record(0, 1, Invalid(f"this is {problem} (in Excel: CSV UTF-8)"))
            return
        offset = _skip_bom(self._file)
        skipped = self._find_delimiter(offset)
        offset = self._file.seek(offset + skipped)

        def lines() -> Iterator[str]:
            nonlocal offset
            for text in lines_of(self._file):
                offset += len(text)
                if offset - start > MAX_RECORD:
                    raise csv.Error(f"a row must have at most {MAX_RECORD} bytes")
                yield text.decode()

        reader = self._reader(lines())
        while True:
            start, line = offset, reader.line_num + 1 + bool(skipped)
            try:
                cells = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                yield Record(start, line, Invalid(_why_no_csv(error)))
                return
            if cells is None:
                return
            if not any(cells):
                continue
            if self._columns:
                yield Record(start, line, self._fields(cells, strictly=True))
                continue
            self._columns = [cell.strip() for cell in cells]
            while self._columns and not self._columns[-1]:
                self._columns.pop()
            if problems := list(self._problems_of_header()):
                yield Record(start, line, Invalid(*problems))
                return

    def at(self, offset: int) -> Mapping[str, Any] | Invalid:
        self._file.seek(offset)
        try:
            return self._fields(next(self._reader(text.decode() for text in self._file), []))
        except (csv.Error, UnicodeDecodeError) as error:
            return Invalid(_why_no_csv(error))

    def _reader(self, lines: Iterator[str]) -> Any:
        return csv.reader(lines, strict=True, delimiter=self._delimiter)

    def _find_delimiter(self, offset: int) -> int:
        """Detect the delimiter. Returns the number of bytes of the file that only declare it."""
        first = self._file.readline(4096)
        self._file.seek(offset)
        told = re.fullmatch(rb'"?sep=([;,\t|:])"?\r?\n?', first, re.IGNORECASE)
        if told:
            self._delimiter = told[1].decode(errors="replace")
            return len(first)
        if b"," not in first:
            self._delimiter = ";" if b";" in first else "\t" if b"\t" in first else ","
        return 0

    def _problems_of_header(self) -> Iterator[str]:
        for delimiter in UNKNOWN_DELIMITERS:
            if len(self._columns) == 1 and set(self._columns[0].split(delimiter)).issuperset(self._required):
                yield f"the columns are separated by {delimiter!r}: separate them by commas, semicolons or tabs"
                return
        for name in dict.fromkeys(self._columns):
            if name not in self._known:
                yield f"unknown column {name!r:.80}; there are {', '.join(self._known)}"
            elif self._columns.count(name) > 1:
                yield f"column {name} is there twice"
        for name in self._required:
            if name not in self._columns:
                yield f"column {name} is missing"

    def _fields(self, cells: list[str], *, strictly: bool = False) -> Mapping[str, Any] | Invalid:
        while len(cells) > len(self._columns) and not cells[-1]:
            cells.pop()
        if len(cells) != len(self._columns):
            return Invalid(f"the row has {len(cells)} cells, and the header {len(self._columns)}")
        fields: dict[str, Any] = {name: cell for name, cell in zip(self._columns, cells, strict=True) if cell}
        for name in self._json:
            if name in fields:
                fields[name] = _json(fields[name], strictly=strictly)
                if isinstance(fields[name], Invalid):
                    return Invalid(f"{name}: {fields[name]}")
        return fields


def _why_no_csv(error: Exception) -> str:
    what = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    if "new-line character" in what:
        what = CARRIAGE_RETURNS
    return f"invalid CSV: {what}"


def _json_object(text: bytes, *, strictly: bool = False) -> Mapping[str, Any] | Invalid:
    try:
        fields = _json(check_length(text), strictly=strictly)
    except ValueError as error:
        return Invalid(str(error))
    if isinstance(fields, Invalid):
        return Invalid(CARRIAGE_RETURNS) if b"\r" in text.rstrip() else fields
    return fields if isinstance(fields, dict) else Invalid("each line must be a JSON object")


def _json(text: bytes | str, *, strictly: bool) -> Any:
    """Return the value, or an `Invalid`; with `strictly`, a repeated name in an object is an error."""
    try:
        value = msgspec.json.decode(text)
        if strictly:
            json.loads(text, object_pairs_hook=_no_name_twice)
    except Invalid as problem:
        return problem
    except (ValueError, RecursionError) as error:
        return Invalid(why_not_json(error))
    return value


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        raise Invalid(f"{twice!r:.80} stands twice in one object")
    return found


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file. One that is too long for `check_length` comes in pieces."""
    return iter(lambda: file.readline(MAX_RECORD + 1), b"")


def check_length(text: bytes) -> bytes:
    """Return a line. Raises `ValueError` if it is too long."""
    if len(text) > MAX_RECORD:
        raise ValueError(f"a line must have at most {MAX_RECORD} bytes")
    return text


def open_twice(path: str) -> BinaryIO:
    """Open the file, or standard input for `-`, or a copy if it can be read only once.

    Raises `OSError`, and `ConfigurationError` for what may be read without end.
    """
    if path == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, "it is closed")
        return _copy(sys.stdin.buffer)
    source = open(path, "rb")  # noqa: SIM115
    if stat.S_ISREG(os.fstat(source.fileno()).st_mode):
        return source
    with source:
        return _copy(source)


def _copy(source: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        copy.writelines(parts_of("actions", source, MAX_COPY))
    except BaseException:
        copy.close()
        raise
    return copy


def is_csv(path: str, file: BinaryIO) -> bool:
    """Return whether the file is CSV, by its name or else by its first bytes."""
    suffix = path.lower().rpartition(".")[2]
    if suffix in ("csv", "jsonl", "ndjson", "json"):
        return suffix == "csv"
    file.seek(0)
    begins = file.read(4096).removeprefix(BOM).lstrip()
    return bool(begins) and not begins.startswith((b"{", b"["))


def _why_no_text(file: BinaryIO) -> str | None:
    """Return what the file is and what to do about it; `None` if it is text in UTF-8."""
    file.seek(0)
    begins = file.read(64)
    if begins.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return "a workbook or an archive: save it as text in UTF-8"
    if begins.startswith(b"\x1f\x8b"):
        return "compressed: decompress it"
    if begins.startswith(UTF_16) or b"\0" in begins:
        return "text in UTF-16 or UTF-32: save it in UTF-8"
    return None


def _skip_bom(file: BinaryIO) -> int:
    file.seek(0)
    return file.seek(len(BOM) if file.read(len(BOM)) == BOM else 0)
