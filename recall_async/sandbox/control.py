"""Requests to the sandbox itself, at `/_sandbox/…`. They need no API key."""

from __future__ import annotations

import re
from typing import Any, Protocol

from aiohttp import web

from .fields import identifier
from .replies import Reply, detail, not_found, reply
from .workspace import Workspace


class Server(Protocol):
    """The part of the server that these requests use."""

    workspace: Workspace

    def reset(self) -> None: ...
    async def mutate_slowly(self, number: int) -> list[dict[str, Any]]: ...
    def advance(self, seconds: float) -> None: ...
    def fail_bot(self, bot_id: str, sub_code: str) -> None: ...
    def revoke(self, calendar_id: str) -> None: ...


async def control(server: Server, request: web.BaseRequest) -> Reply:
    """Handle a request to the sandbox itself. Raises a refusal: 400 or 404."""
    query = request.query
    match request.method, request.path.rstrip("/"):
        case "GET", "/_sandbox/report":
            return reply(200, server.workspace.report())
        case "POST", "/_sandbox/reset":
            server.reset()
            return reply(200, server.workspace.report())
        case "POST", "/_sandbox/mutate":
            return reply(200, await server.mutate_slowly(_number(query.get("n", "1"))))
        case "POST", "/_sandbox/advance":
            return _advance(server, query.get("seconds", ""))
        case "POST", "/_sandbox/fail":
            server.fail_bot(identifier(query.get("bot_id", "")), query.get("sub_code") or "meeting_not_started")
            return reply(200, {})
        case "POST", "/_sandbox/revoke":
            server.revoke(identifier(query.get("calendar_id", "")))
            return reply(200, {})
    raise not_found()


def _number(text: str) -> int:
    if re.fullmatch("[0-9]{1,5}", text) is None:
        raise detail(400, "n must be a whole number of at most five digits.")
    return int(text)


def _advance(server: Server, text: str) -> Reply:
    try:
        server.advance(float(text))
    except ValueError:
        raise detail(400, "seconds must be a number of 0 or more that leads to a possible date.") from None
    return reply(200, {"now": server.workspace.now()})
