"""What a message may show: no secret, and foreign text only in one short line without control characters."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

MAX_MESSAGE: Final = 500
"""Characters of a message."""
MASK: Final = "***"


class Secret(str):
    """Text that no `repr` shows: of itself, or of whatever holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"


class SecretBytes(bytes):
    """Bytes that no `repr` shows: the body of a request or response in which secrets are."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def one_line(text: str, limit: int = MAX_MESSAGE) -> str:
    """Write text in one line of at most `limit` characters, without control, escape or bidirectional characters."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return text


class KeyMask:
    """Hides an API key that a server sent back: as it is, escaped as in JSON, URLs or HTML, or in base64."""

    __slots__ = ("_cut", "_forms", "_key")

    def __init__(self, key: Secret) -> None:
        self._key = key
        self._forms: Callable[[str], str] | None = None
        self._cut: list[Callable[[str], str]] = []

    def text(self, text: str) -> str:
        """The text without the key."""
        return self._without()(text) if len(text) >= 8 else text

    def body(self, body: bytes) -> bytes:
        """The body without the key, and without the part of a key in which it was cut off."""
        text = body.decode("latin-1")  # one character for each byte
        masked = self._without()(text)
        for without_end in self._cut:
            masked = without_end(masked)
        return body if masked == text else masked.encode("latin-1", "replace")

    def document(self, value: Any) -> Any:
        """The decoded JSON without the key, in names as well as in values."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.document(part) for name, part in value.items()}
        return [self.document(part) for part in value] if isinstance(value, list) else value

    def _without(self) -> Callable[[str], str]:
        if self._forms is None:
            # Kept as functions: the representation of a pattern would show the key.
            chars = [_written(char) for char in self._key]
            whole = "".join(chars)
            for start in ("", "Token ", "token:", "Bearer "):
                coded = b64encode(f"{start}{self._key}".encode()).decode().rstrip("=")
                whole += f"|{re.escape(coded[: len(coded) - 1])}=*"
            self._forms = partial(re.compile(whole, re.IGNORECASE).sub, MASK)
            ends = [f"(?:{''.join(chars[:n])})\\Z" for n in range(len(chars) - 1, 3, -1)]
            self._cut = [partial(re.compile("|".join(ends), re.IGNORECASE).sub, "")] if ends else []
        return self._forms


def _written(char: str) -> str:
    """A pattern for a character in each of the ways in which it can be written."""
    code = ord(char)
    return f"(?:{re.escape(char)}|\\\\u{code:04x}|\\\\{re.escape(char)}|%{code:02x}|&#0*{code};|&#x0*{code:x};)"
