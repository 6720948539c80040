"""Repair invalid JSON of the kinds that servers and calendar platforms are known to send.

This is slow and happens only after a strict decoder has rejected a document: one lone surrogate, NaN or overflowing number
in the payload of one event must not make a page of a hundred events unreadable.
"""

from __future__ import annotations

import math
import re

MAX_DEPTH = 200
"""The most levels of nesting; deeper objects and lists become `null`. Decoders accept a few hundred levels."""

_TOKEN = re.compile(
    r'(?P<text>"(?:[^"\\]+|\\.?)*+"?)|(?P<open>[\[{])|(?P<close>[\]}])|(?P<word>[-+0-9A-Za-z.]+)', re.DOTALL
)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_ESCAPE = re.compile(
    r"(?P<lone>\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})|[c-fC-F][0-9a-fA-F]{2}))"
    r"|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    r'|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})|(?P<stray>\\)|(?P<control>[\x00-\x1f])'
)


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
