"""What a message may show: no secret, and foreign text only in one short line without control characters."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

MAX_MESSAGE: Final = 500
"""Characters of a message."""
MASK: Final = "***"
MIN_KEY: Final = 6
"""Characters of a key that is hidden where a server sent it back: shorter ones are part of ordinary words."""
MIN_HALF: Final = 12
"""Characters of half a key that is hidden, too: a server may change or cut off what it sends back."""


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

    __slots__ = ("_halves", "_key", "_plain")

    def __init__(self, key: Secret) -> None:
        self._key = key
        forms = [key]
        for start in ("", "Token ", "token:", "Bearer "):
            coded = b64encode(f"{start}{key}".encode()).decode().rstrip("=")
            forms.append(Secret(coded[:-1]))
        # Real keys are long; hiding every letter of one that is not would hide what went wrong.
        self._plain = tuple(form for form in forms if len(form) >= MIN_KEY and len(key) >= MIN_KEY)
        middle = len(key) // 2
        self._halves = (Secret(key[:middle]), Secret(key[middle:])) if middle >= MIN_HALF else ()

    def text(self, text: str) -> str:
        """The text without the key."""
        text = _without(self._plain, text)
        if self._plain and _ESCAPED.search(text):
            text = re.sub("".join(map(_written, self._key)), MASK, text, flags=re.IGNORECASE)
        # Last, because a half that is hidden would hide from the others that the rest is a key.
        return _without(self._halves, text)

    def body(self, body: bytes) -> bytes:
        """The body without the key, and without the part of a key in which it was cut off."""
        text = body.decode("latin-1")  # one character for each byte
        masked = self.text(text)
        tail = masked[-6 * len(self._key) :]
        end = _unescaped(tail)
        if self._plain and any(end.endswith(self._key[:length]) for length in range(4, len(self._key))):
            masked = masked[: len(masked) - len(tail)]
        return body if masked == text else masked.encode("latin-1", "replace")

    def document(self, value: Any) -> Any:
        """The decoded JSON without the key, in names as well as in values."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(str(name)): self.document(part) for name, part in value.items()}
        return [self.document(part) for part in value] if isinstance(value, list) else value


def _without(forms: tuple[str, ...], text: str) -> str:
    """Return the text with each of the forms hidden, in upper and lower case."""
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
    """The text with the characters that are meant."""

    def meant(found: re.Match[str]) -> str:
        if found["bare"] is not None:
            return found["bare"]
        coded = found["json"] or found["url"] or found["hex"]
        return chr(int(coded, 16) if coded else int(found["number"]))

    return _ESCAPED.sub(meant, text)


def _written(char: str) -> str:
    """A pattern for a character in each of the ways in which it can be written."""
    code = ord(char)
    return f"(?:{re.escape(char)}|\\\\u{code:04x}|\\\\{re.escape(char)}|%{code:02x}|&#0*{code};|&#x0*{code:x};)"
