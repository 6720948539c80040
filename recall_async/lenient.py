"""Repair of JSON that breaks the standard in ways that servers and calendar platforms are known for.

It is the slow path, taken when a document was refused: one lone surrogate, NaN or number too large for a double in the
payload of one event must not make a page of a hundred unreadable.
"""

from __future__ import annotations

import math
import re

MAX_DEPTH = 200
"""Objects and lists within each other; deeper ones become `null`. Decoders stop at a few hundred."""

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
    """Write a document anew so that a strict decoder can read it; what is right in it stays as it is.

    Lone surrogates and bytes that are not UTF-8 become U+FFFD; NaN, infinite and overflowing numbers, other unknown words
    and what is nested too deep become `null`. Brackets that do not match stay wrong, so a truncated document stays one.
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
