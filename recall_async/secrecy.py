"""What a message may show: no secret, and foreign text only in one short line without control characters."""

from __future__ import annotations

from collections.abc import Mapping
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
    """Hides an API key that a server sent back, in whichever encoding."""

    __slots__ = ("_bytes", "_key")

    def __init__(self, key: Secret) -> None:
        self._key = key
        self._bytes = SecretBytes(key.encode())

    def text(self, text: str) -> str:
        """The text without the key."""
        return text.replace(self._key, MASK)

    def body(self, body: bytes) -> bytes:
        """The body without the key, and without the part of a key in which it was cut off."""
        key = self._bytes
        body = body.replace(key, MASK.encode())
        part = next((n for n in range(len(key) - 1, 3, -1) if body.endswith(key[:n])), 0)
        return body[: len(body) - part]

    def document(self, value: Any) -> Any:
        """The decoded JSON without the key, in names as well as in values."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.document(part) for name, part in value.items()}
        return [self.document(part) for part in value] if isinstance(value, list) else value
