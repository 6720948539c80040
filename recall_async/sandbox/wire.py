"""Where a request leads, and how an answer leaves: whole, cut off, or not at all."""

from __future__ import annotations

import socket
import struct
from typing import Any

from aiohttp import web

from recall_async.operations import OPERATIONS, Operation

from .answers import Answer, Refusal, detail, not_found, printable

_ROUTES: dict[str, dict[str, Operation[Any]]] = {}
for _operation in OPERATIONS.values():
    _ROUTES.setdefault(_operation.path, {})[_operation.method] = _operation
_ID_SEGMENT = 4


def route(request: web.BaseRequest) -> tuple[str, dict[str, Operation[Any]], str]:
    """The request's path with `{id}` in place of an id, the operations there by method, and the id as it was sent.

    The last slash may be missing.
    """
    segments = request.rel_url.raw_path.removesuffix("/").split("/")
    identifier = ""
    if len(segments) > _ID_SEGMENT:
        identifier, segments[_ID_SEGMENT] = segments[_ID_SEGMENT], "{id}"
    path = "/".join(segments) + "/"
    return path, _ROUTES.get(path, {}), identifier


def no_operation(method: str, methods: dict[str, Operation[Any]]) -> Answer:
    """404, or 405 where other methods are known."""
    if not methods:
        return not_found().answer
    return detail(405, f'Method "{printable(method)}" not allowed.', {"Allow": ", ".join(methods)}).answer


UNAUTHORIZED = Refusal(
    401,
    {"code": "authentication_failed", "detail": "Invalid API token, or a token of another region."},
    {"WWW-Authenticate": "Token"},
).answer


def throttled(seconds: int) -> Answer:
    """429, and when to come back."""
    message = f"Request was throttled. Expected available in {seconds} second{'s' * (seconds != 1)}."
    return detail(429, message, {"Retry-After": str(seconds)}).answer


def response(result: Answer) -> web.Response:
    """The whole answer."""
    headers = {"Content-Type": "application/json", **result.headers} if result.body else result.headers
    return web.Response(status=result.status, body=result.body, headers=headers)


def reset(request: web.BaseRequest) -> web.Response:
    """Drops the connection with a TCP reset; what is returned reaches nobody."""
    if (transport := request.transport) is not None:
        # Without lingering, closing the socket sends RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def truncated(request: web.BaseRequest, result: Answer) -> web.StreamResponse:
    """Announces the whole body, sends half of it, and closes the connection."""
    response = web.StreamResponse(status=result.status, headers={"Content-Type": "application/json", **result.headers})
    response.content_length = len(result.body)
    await response.prepare(request)
    await response.write(result.body[: len(result.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
