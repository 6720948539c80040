"""Read JSON that nobody specifies, and repair invalid JSON of the kinds that servers and calendar platforms send.

A repair is slow and happens only after a strict decoder has rejected a document: one lone surrogate, NaN or overflowing
number in the payload of one event must not make a page of a hundred events unreadable.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

D = TypeVar("D")

MAX_DEPTH = 200
"""The most levels of nesting; deeper objects and lists become `null`. Decoders accept a few hundred levels."""

_DOCUMENT = msgspec.json.Decoder(dict[str, Any])
_LIST = msgspec.json.Decoder(list[Any])
_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\]+|\\.?)*+"?)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<word>[-+0-9A-Za-z.]+)', re.DOTALL
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_ESCAPE = re.compile(
    r"(?P<lone>\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})|[c-fC-F][0-9a-fA-F]{2}))"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r'|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|(?P<stray>\\)|(?P<control>[\x00-\x1f])'
)


def read(decoder: msgspec.json.Decoder[D], raw: msgspec.Raw | msgspec.UnsetType) -> D | None:
    """Decode a document, repaired if necessary; `None` if it is missing or invalid all the same."""
    if not raw:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return decoder.decode(repaired(bytes(raw)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def document_of(raw: msgspec.Raw | msgspec.UnsetType) -> dict[str, Any]:
    """Decode an object; empty if it is missing or invalid."""
    return read(_DOCUMENT, raw) or {}


def list_of(raw: msgspec.Raw | msgspec.UnsetType) -> list[Any]:
    """Decode a list; empty if it is missing or invalid."""
    return read(_LIST, raw) or []


def text_of(value: Any) -> str | None:
    """Return the value if it is a non-empty string, otherwise `None`."""
    return value if isinstance(value, str) and value else None


def time_of(value: Any) -> datetime | None:
    """Parse a time in RFC 3339 text, as UTC without an offset; `None` if it is invalid."""
    try:
        return parse_time(value)
    except (TypeError, ValueError, OverflowError):
        return None


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time, with or without an offset, as UTC. Raises `ValueError`, `OverflowError` or `TypeError`."""
    moment = datetime.fromisoformat(text)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def in_utc(moment: datetime) -> datetime:
    """Return an aware time in UTC, or the earliest or latest time if a year before 1 or after 9999 results.

    Programs write such times for "never": `0001-01-01T00:00:00+01:00`.
    """
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return (datetime.min if moment.year == 1 else datetime.max).replace(tzinfo=UTC)


def objects_of(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list; empty for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def at(value: Any, *path: str) -> Any:
    """Return what an object has at this path of names; `None` if it has nothing there."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def repaired(body: bytes) -> bytes:
    """Return a document that a strict decoder can read. Its valid parts do not change.

    Lone surrogates and bytes that are not UTF-8 become U+FFFD. NaN, infinite and overflowing numbers, other unknown words,
    and objects and lists that are nested too deeply become `null`. A truncated document stays invalid.
    """
    source = body.decode("utf-8", "replace").removeprefix("\ufeff")
    out: list[str] = []
    depth = position = 0
    for token in _TOKEN.finditer(source):
        kind = token.lastgroup
        if kind == "close":
            depth -= 1
        if depth < MAX_DEPTH:
            out.append(source[position : token.start()])
            if kind == "text":
                out.append(_text(token[0]))
            elif kind == "word":
                out.append(_word(token[0]))
            elif kind == "open" and depth + 1 == MAX_DEPTH:
                out.append("null")
            elif kind != "close" or depth + 1 != MAX_DEPTH:
                out.append(token[0])
        position = token.end()
        if kind == "open":
            depth += 1
    out.append(source[position:])
    return "".join(out).encode()


def _text(quoted: str) -> str:
    return quoted if quoted.isprintable() and "\\" not in quoted else _ESCAPE.sub(_escape, quoted)


def _escape(found: re.Match[str]) -> str:
    match found.lastgroup:
        case "lone":
            return "\ufffd"
        case "stray":
            return r"\\"
        case "control":
            return f"\\u{ord(found[0]):04x}"
        case _:
            return found[0]


def _word(word: str) -> str:
    if word in ("true", "false", "null"):
        return word
    return word if _NUMBER.fullmatch(word) and math.isfinite(float(word)) else "null"
