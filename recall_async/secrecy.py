"""Hide secrets in messages, and shorten text from outside to one line without control characters."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

MAX_MESSAGE: Final = 500
"""The most characters of a message."""
MASK: Final = "***"
MIN_KEY: Final = 6
"""The least characters of a key that is hidden in a response: shorter keys could be part of ordinary words."""
MIN_HALF: Final = 12
"""The least characters of half a key that is hidden, too: a server may return a changed or truncated key."""


class Secret(str):
    """A string whose `repr` is masked, also in the `repr` of an object that contains it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"'{MASK}'"


class SecretBytes(bytes):
    """Bytes whose `repr` shows only their number: the body of a request or response that contains secrets."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


def one_line(text: str, limit: int = MAX_MESSAGE) -> str:
    """Return text as one line of at most `limit` characters, without control, escape or bidirectional characters."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return text


class KeyMask:
    """Hides an API key in what a server sends: in plain text, escaped for JSON, URLs or HTML, or in base64."""

    __slots__ = ("_halves", "_key", "_plain")

    def __init__(self, key: Secret) -> None:
        self._key = key
        forms = [key]
        for start in ("", "Token ", "token:", "Bearer "):
            coded = b64encode(f"{start}{key}".encode()).decode().rstrip("=")
            forms.append(Secret(coded[:-1]))
        # Real keys are long. Hiding each occurrence of a short one would make messages unreadable.
        self._plain = tuple(form for form in forms if len(form) >= MIN_KEY and len(key) >= MIN_KEY)
        middle = len(key) // 2
        self._halves = (Secret(key[:middle]), Secret(key[middle:])) if middle >= MIN_HALF else ()

    def text(self, text: str) -> str:
        """Return the text without the key."""
        text = _without(self._plain, text)
        if self._plain and _ESCAPED.search(text):
            text = re.sub("".join(map(_written, self._key)), MASK, text, flags=re.IGNORECASE)
        # Last: after half a key is hidden, the whole key is no longer found.
        return _without(self._halves, text)

    def body(self, body: bytes) -> bytes:
        """Return the body without the key, also if the body was truncated within the key."""
        text = body.decode("latin-1")  # one character for each byte
        masked = self.text(text)
        tail = masked[-6 * len(self._key) :]
        end = _unescaped(tail)
        if self._plain and any(end.endswith(self._key[:length]) for length in range(4, len(self._key))):
            masked = masked[: len(masked) - len(tail)]
        return body if masked == text else masked.encode("latin-1", "replace")

    def document(self, value: Any) -> Any:
        """Return decoded JSON without the key, in names as well as in values."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.document(part) for name, part in value.items()}
        return [self.document(part) for part in value] if isinstance(value, list) else value


def _without(forms: tuple[str, ...], text: str) -> str:
    """Return the text with each of the forms hidden, ignoring case."""
    lower = text.lower()
    for form in forms:
        if form.lower() in lower:
            text = re.sub(re.escape(form), MASK, text, flags=re.IGNORECASE)
    return text


_ESCAPED = re.compile(
    r"\\u00(?P<json>[0-9a-f]{2})|\\(?P<bare>[^u])|%(?P<url>[0-9a-f]{2})|&#x0*(?P<hex>[0-9a-f]{2});|&#0*(?P<number>[0-9]{2,3});",
    re.IGNORECASE,
)


def _unescaped(text: str) -> str:
    """Return the text with its escapes decoded."""

    def decoded(found: re.Match[str]) -> str:
        if found["bare"] is not None:
            return found["bare"]
        coded = found["json"] or found["url"] or found["hex"]
        return chr(int(coded, 16) if coded else int(found["number"]))

    return _ESCAPED.sub(decoded, text)


def _written(char: str) -> str:
    """Return a pattern that matches a character in each of its escaped forms."""
    code = ord(char)
    return f"(?:{re.escape(char)}|\\\\u{code:04x}|\\\\{re.escape(char)}|%{code:02x}|&#0*{code};|&#x0*{code:x};)"
