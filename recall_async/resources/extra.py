"""Fields of the API that this package does not know yet: sent with the known fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import ConfigurationError
from .fields import encode_object

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def merged(body: bytes, extra: Mapping[str, Any] | None) -> bytes:
    """Add fields to the JSON object of a request's body. Raises `ConfigurationError` for a field that it contains."""
    if not extra:
        return body
    added, named = _fields.decode(encode_object("extra", extra)), _fields.decode(body)
    for name in added:
        if name in named:
            raise ConfigurationError(f"extra must not hold {name!r}, which has a parameter of its own")
    return msgspec.json.encode({**named, **added})
