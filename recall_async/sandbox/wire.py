"""Route requests, and send responses: complete, truncated, or not at all."""

from __future__ import annotations

import socket
import struct
from typing import Any

from aiohttp import web

from recall_async.operations import OPERATIONS, Operation

from .replies import Refusal, Reply, coded_error, detail, not_found, printable

_ROUTES: dict[str, dict[str, Operation[Any]]] = {}
for _operation in OPERATIONS.values():
    _ROUTES.setdefault(_operation.path, {})[_operation.method] = _operation
_ID_SEGMENT = 4


def route(request: web.BaseRequest) -> tuple[str, Operation[Any], str]:
    """Return a request's path with `{id}` in place of an id, its operation, and the id as it was sent.

    The trailing slash may be missing. Raises a refusal: 404, or 405 if the path has other methods.
    """
    segments = request.rel_url.raw_path.removesuffix("/").split("/")
    identifier = ""
    if len(segments) > _ID_SEGMENT:
        identifier, segments[_ID_SEGMENT] = segments[_ID_SEGMENT], "{id}"
    path = "/".join(segments) + "/"
    if path not in _ROUTES:
        raise not_found()
    methods = _ROUTES[path]
    if request.method not in methods:
        raise detail(405, f'Method "{printable(request.method)}" not allowed.', {"Allow": ", ".join(methods)})
    return path, methods[request.method], identifier


def unauthorized() -> Refusal:
    """Make a refusal: 401."""
    message = "Invalid API token, or a token of another region."
    return coded_error(401, "authentication_failed", message, {"WWW-Authenticate": "Token"})


def throttled(seconds: int) -> Refusal:
    """Make a refusal: 429 with `Retry-After`."""
    message = f"Request was throttled. Expected available in {seconds} second{'s' * (seconds != 1)}."
    return detail(429, message, {"Retry-After": str(seconds)})


def response(result: Reply) -> web.Response:
    """Send the complete response."""
    headers = {"Content-Type": "application/json", **result.headers} if result.body else result.headers
    return web.Response(status=result.status, body=result.body, headers=headers)


def reset(request: web.BaseRequest) -> web.Response:
    """Reset the TCP connection. The returned response is not sent."""
    if (transport := request.transport) is not None:
        # Without lingering, closing the socket sends RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def truncated(request: web.BaseRequest, result: Reply) -> web.StreamResponse:
    """Announce the complete body, send half of it, and close the connection."""
    response = web.StreamResponse(status=result.status, headers={"Content-Type": "application/json", **result.headers})
    response.content_length = len(result.body)
    await response.prepare(request)
    await response.write(result.body[: len(result.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
