"""Records in a file of JSON lines or CSV: each with its place, so that it can be read again by itself."""

from __future__ import annotations

import csv
import errno
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, Protocol

import msgspec

BOM = b"\xef\xbb\xbf"


class Invalid(Exception):
    """What is wrong with a record: its arguments are the problems."""


class Record(NamedTuple):
    """One record."""

    offset: int
    """Where it begins, in bytes."""
    line: int
    """Where it begins, in lines from 1."""
    fields: Mapping[str, Any] | Invalid


class Records(Protocol):
    """A file's records."""

    def all(self) -> Iterator[Record]:
        """Each of them, once, in order."""

    def at(self, offset: int) -> Mapping[str, Any] | Invalid:
        """The fields of the one that begins there."""


class JSONLines:
    """One JSON object per line; empty lines do not count."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def all(self) -> Iterator[Record]:
        offset = _skip_bom(self._file)
        for number, text in enumerate(self._file, 1):
            if text.strip():
                yield Record(offset, number, _json_object(text))
            offset += len(text)

    def at(self, offset: int) -> Mapping[str, Any] | Invalid:
        self._file.seek(offset)
        return _json_object(self._file.readline())


class CSV:
    """One record per row, under a row of column names; empty cells are left out, and those of `json` columns decoded."""

    def __init__(
        self, file: BinaryIO, *, required: Collection[str], optional: Collection[str], json: Collection[str]
    ) -> None:
        self._file = file
        self._required = required
        self._known = (*required, *optional)
        self._json = json
        self._columns: list[str] = []

    def all(self) -> Iterator[Record]:
        offset = _skip_bom(self._file)

        def lines() -> Iterator[str]:
            nonlocal offset
            for text in self._file:
                offset += len(text)
                yield text.decode()

        reader = csv.reader(lines(), strict=True)
        while True:
            start, line = offset, reader.line_num + 1
            try:
                cells = next(reader, None)
            except (csv.Error, UnicodeDecodeError) as error:
                yield Record(start, line, Invalid(f"this is no CSV in UTF-8: {error}"))
                return
            if cells is None:
                return
            if not any(cells):
                continue
            if self._columns:
                yield Record(start, line, self._fields(cells))
                continue
            self._columns = [cell.strip() for cell in cells]
            if problems := list(self._problems_of_header()):
                yield Record(start, line, Invalid(*problems))
                return

    def at(self, offset: int) -> Mapping[str, Any] | Invalid:
        self._file.seek(offset)
        try:
            return self._fields(next(csv.reader((text.decode() for text in self._file), strict=True), []))
        except (csv.Error, UnicodeDecodeError) as error:
            return Invalid(f"this is no CSV in UTF-8: {error}")

    def _problems_of_header(self) -> Iterator[str]:
        for name in dict.fromkeys(self._columns):
            if name not in self._known:
                yield f"{name!r:.80} is no column; there are {', '.join(self._known)}"
            elif self._columns.count(name) > 1:
                yield f"column {name} is there twice"
        for name in self._required:
            if name not in self._columns:
                yield f"column {name} is missing"

    def _fields(self, cells: list[str]) -> Mapping[str, Any] | Invalid:
        if len(cells) != len(self._columns):
            return Invalid(f"the row has {len(cells)} cells, and the header {len(self._columns)}")
        fields: dict[str, Any] = {name: cell for name, cell in zip(self._columns, cells, strict=True) if cell}
        for name in self._json:
            if name in fields:
                try:
                    fields[name] = msgspec.json.decode(fields[name])
                except ValueError as error:
                    return Invalid(f"{name} is no JSON: {error}")
        return fields


def _json_object(text: bytes) -> Mapping[str, Any] | Invalid:
    try:
        fields = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        return Invalid(f"this is no JSON: {error}")
    return fields if isinstance(fields, dict) else Invalid("this is no JSON object; each line is one")


def open_twice(path: str) -> BinaryIO:
    """The file, or standard input for `-`: a copy of it if it can be read only once. Raises `OSError`."""
    if path == "-":
        if sys.stdin is None:
            raise OSError(errno.EBADF, "it is closed")
        return _copy(sys.stdin.buffer)
    source = open(path, "rb")  # noqa: SIM115
    if source.seekable():
        return source
    with source:
        return _copy(source)


def _copy(source: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115
    shutil.copyfileobj(source, copy)
    return copy


def is_csv(path: str, file: BinaryIO) -> bool:
    """By the file's name, or else by how it begins."""
    suffix = path.lower().rpartition(".")[2]
    if suffix in ("csv", "jsonl", "ndjson", "json"):
        return suffix == "csv"
    file.seek(0)
    begins = file.read(4096).removeprefix(BOM).lstrip()
    return bool(begins) and not begins.startswith((b"{", b"["))


def _skip_bom(file: BinaryIO) -> int:
    file.seek(0)
    return file.seek(len(BOM) if file.read(len(BOM)) == BOM else 0)
