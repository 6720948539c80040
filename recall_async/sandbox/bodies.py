"""Decode request bodies as Django REST Framework does: JSON, forms and compressed bodies; 400 or 415 for all others."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from .replies import detail, field_error, printable

LARGEST = 64 * 1024 * 1024
"""Largest body in bytes, after decompression. A `bot_config` may contain pictures."""
_MOST_FIELDS = 1000
_DEEPEST = 200
"""The most accepted levels of nesting in JSON: responses nest the document in other objects."""
_JSON_FIELDS = ("bot_config", "metadata")
"""Fields whose value in a form is JSON."""


class Body:
    """A request body, decoded when an operation asks for it."""

    def __init__(self, content: bytes, content_type: str) -> None:
        self._content = content
        self._content_type = content_type
        self._read: dict[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Decode the body to an object. Raises a refusal: 400 for an invalid body, 415 for an unknown content type."""
        if self._read is None:
            self._read = self._decode()
        return self._read

    def _decode(self) -> dict[str, Any]:
        media_type = self._content_type.partition(";")[0].strip().lower()
        if not self._content:
            return {}
        if media_type == "application/json":
            return _read_json(self._content)
        if media_type == "application/x-www-form-urlencoded":
            return _read_fields(_pairs_of_form(self._content))
        if media_type == "multipart/form-data":
            return _read_fields(_pairs_of_parts(self._content, self._content_type))
        raise detail(415, f'Unsupported media type "{printable(media_type)}" in request.')


async def read(request: web.BaseRequest) -> Body:
    """Read the body of a request. Raises a refusal: 400 if it cannot be decompressed, 413 if it is too large."""
    content = bytearray()
    try:
        async for chunk in request.content.iter_any():
            content += chunk
            if len(content) > LARGEST:
                raise detail(413, "The request body is too large.")
    except web.RequestPayloadError as error:
        raise detail(400, f"The request body cannot be read: {printable(str(error))[:200]}") from None
    plain = _decompress(bytes(content), request.headers.get("Content-Encoding", "").strip().lower())
    return Body(plain, request.headers.get("Content-Type", ""))


def _decompress(content: bytes, encoding: str) -> bytes:
    """Decompress a body here: aiohttp's own decompression answers 500 to a broken one."""
    if encoding not in ("gzip", "deflate") or not content:
        return content
    unpack = zlib.decompressobj(16 + zlib.MAX_WBITS if encoding == "gzip" else zlib.MAX_WBITS)
    try:
        plain = unpack.decompress(content, LARGEST)
    except zlib.error as error:
        raise detail(400, f"The request body is not {encoding}: {error}") from None
    if unpack.unconsumed_tail:
        raise detail(413, "The request body is too large.")
    if not unpack.eof:
        raise detail(400, f"The request body is not {encoding}: it ends too early.")
    return plain


def _read_json(content: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise detail(400, f"JSON parse error - {error}") from None
    if _is_deep(content, document):
        raise detail(400, f"JSON parse error - more than {_DEEPEST} levels")
    if not isinstance(document, dict):
        raise field_error(
            "non_field_errors", f"Invalid data. Expected a dictionary, but got {type(document).__name__}."
        )
    return document


def _is_deep(content: bytes, document: Any) -> bool:
    if content.count(b"[") + content.count(b"{") <= _DEEPEST:
        return False
    level = [document]
    for _ in range(_DEEPEST):
        level = [part for value in level if isinstance(value, dict | list) for part in _parts(value)]
        if not level:
            return False
    return True


def _parts(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _pairs_of_form(content: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(content.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise detail(400, f"Form parse error - {printable(str(error))[:200]}") from None


def _pairs_of_parts(content: bytes, content_type: str) -> list[tuple[str, str]]:
    head = f"Content-Type: {printable(content_type)}\r\n\r\n".encode()
    message: EmailMessage = BytesParser(EmailMessage, policy=HTTP).parsebytes(head + content)
    if not message.is_multipart():
        raise detail(400, "Multipart form parse error - Invalid boundary in multipart.")
    pairs = []
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(payload, bytes):
            pairs.append((printable(name), payload.decode("utf-8", "replace")))
    return pairs


def _read_fields(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    fields: dict[str, Any] = dict(pairs)
    for name in _JSON_FIELDS:
        if name in fields:
            try:
                fields[name] = msgspec.json.decode(fields[name])
            except (msgspec.DecodeError, RecursionError):
                raise field_error(name, "Value must be valid JSON.") from None
    return fields
