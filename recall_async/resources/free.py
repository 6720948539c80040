"""Requests without a method of their own: any path of the API, with the quota that the caller names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .. import checks
from ..operations import OPERATIONS, OTHER, Operation, Request
from .fields import encode_object

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_PATH = re.compile(r"/api/[!-~]+")


def free_request(
    method: str, path: str, query: Mapping[str, str] | None, body: Mapping[str, Any] | None, quota: str
) -> Request[Any]:
    """Build a request to any path. Raises `ConfigurationError`."""
    checks.one_of("method", method, METHODS)
    checks.one_of("quota", quota, (*OPERATIONS, OTHER))
    checks.text("path", path)
    if not _PATH.fullmatch(path) or {"..", "."} & set(path.split("/")) or set("?#\\%") & set(path):
        raise checks.invalid("path", "a path of the API such as /api/v1/bot/, without a query", path)
    named = [
        (checks.text("a name in query", name), checks.text(f"query[{name!r}]", value, empty=True))
        for name, value in (query or {}).items()
    ]
    operation: Operation[Any] = Operation(quota, method, path, 0, object)
    return operation.request(query=named or None, body=None if body is None else encode_object("body", body))
