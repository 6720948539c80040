"""The sandbox over HTTP: routes, keys, latency, counting, faults, and the way an answer leaves.

The order of things for one request: authenticate (401) · latency before · count (429) · faults · `Idempotency-Key` and
deduplication key (409, or the answer of last time) · perform · latency behind · answer.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Sequence
from random import Random
from typing import Any

from aiohttp import web

from recall_async.operations import OPERATIONS, UPDATE_CALENDAR, Operation

from .answers import Answer, Refusal, answer, detail, not_found
from .faults import Fault, FaultKind
from .mutate import mutate
from .requests import Request, contended_key, perform
from .webhooks import Webhooks
from .workspace import Settings, Workspace

Delay = float | tuple[float, float]
"""Seconds: always the same, or drawn evenly from a range."""

_ROUTES: dict[str, dict[str, Operation]] = {}
for _operation in OPERATIONS.values():
    _ROUTES.setdefault(_operation.path, {})[_operation.method] = _operation
_ID_SEGMENT = 4


class Server:
    """Answers requests out of one workspace."""

    def __init__(
        self, settings: Settings, api_keys: Sequence[str], latency: tuple[Delay, Delay], webhooks: Webhooks
    ) -> None:
        self.workspace = Workspace(settings)
        self.latency = latency
        self.webhooks = webhooks
        self._authorizations = frozenset(f"Token {key}" for key in api_keys)
        self._rng = Random(settings.seed)
        self._release = asyncio.Event()

    def reset(self) -> None:
        """Starts over with the same settings; requests under way end in the old workspace."""
        self.workspace = Workspace(self.workspace.settings)
        self.release()

    def mutate(self, number: int) -> list[dict[str, Any]]:
        """Changes the calendars' data `number` times, and sends a webhook for each calendar that a change concerns."""
        now = self.workspace.settings.now()
        changes = mutate(self.workspace.state, number, now)
        for change in changes:
            self.webhooks.events_changed(change["calendar_ids"], now)
        return changes

    def revoke(self, calendar_id: str) -> None:
        """The calendar's owner takes the permission to read it back; a new refresh token connects it again."""
        state = self.workspace.state
        state.revoke(state.calendar(calendar_id), self.workspace.settings.now())
        self.webhooks.calendar_changed(calendar_id)

    def release(self) -> None:
        """Lets hung requests go on."""
        self._release.set()
        self._release = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one HTTP request."""
        if request.path.startswith("/_sandbox/"):
            return _response(self._control(request))
        methods, identifier = _route(request)
        operation = methods.get(request.method)
        if operation is None:
            return _response(_no_operation(request.method, methods))
        workspace = self.workspace
        try:
            result, fault = await self._serve(workspace, operation, identifier, request)
        except ConnectionError:
            # The client went away before its body was here: nobody is left to answer, and nothing was counted.
            return web.Response()
        if result is not None:
            workspace.tallies[operation.name].add(result.status)
        if result is None or fault == "reset":
            return _reset(request)
        return await _truncated(request, result) if fault == "truncate" else _response(result)

    async def _serve(
        self, workspace: Workspace, operation: Operation, identifier: str, request: web.BaseRequest
    ) -> tuple[Answer | None, FaultKind | None]:
        """What to answer, and the fault that it runs into; no answer if that comes first."""
        if request.headers.get("Authorization") not in self._authorizations:
            return _UNAUTHORIZED, None
        body = await request.read()
        await self._delay(self.latency[0])
        fault = workspace.faults.draw(operation.name, counted=False)
        if fault is None:
            if (seconds := workspace.windows[operation.name].count()) is not None:
                return _throttled(seconds), None
            fault = workspace.faults.draw(operation.name, counted=True)
        if fault is not None and fault.kind == "reset" and not fault.applied:
            return None, fault.kind
        call = Request(
            url=f"{request.scheme}://{request.host}{request.path}",
            id=identifier,
            query=dict(request.query.items()),
            body=body,
            now=workspace.settings.now(),
        )
        key = request.headers.get("Idempotency-Key") if operation.keyed else None
        try:
            with workspace.claim(key, contended_key(operation, call)) as kept:
                result = await self._outcome(workspace, operation, call, kept, fault)
                if key is not None and kept is None:
                    workspace.answers.keep(key, result)
                if fault is not None and fault.applied:
                    result = await self._after(fault, result)
                await self._delay(self.latency[1])
        except Refusal as refusal:
            return refusal.answer, None
        return result, fault.kind if fault is not None else None

    async def _outcome(
        self, workspace: Workspace, operation: Operation, call: Request, kept: Answer | None, fault: Fault | None
    ) -> Answer:
        if fault is not None and not fault.applied:
            if fault.kind == "status":
                return fault.answer()
            await self._release.wait()
        if kept is not None:
            return kept
        result = perform(operation, workspace.state, call)
        if operation is UPDATE_CALENDAR and result.status == 200:
            self.webhooks.calendar_changed(call.id)
        return result

    async def _after(self, fault: Fault, result: Answer) -> Answer:
        """What a fault makes of the answer to a request that took effect."""
        if fault.kind == "hang":
            await self._release.wait()
        return fault.answer() if fault.kind == "status" else result

    def _control(self, request: web.BaseRequest) -> Answer:
        match request.method, request.path:
            case "GET", "/_sandbox/report":
                return answer(200, self.workspace.report())
            case "POST", "/_sandbox/reset":
                self.reset()
                return answer(200, self.workspace.report())
            case "POST", "/_sandbox/mutate":
                return self._mutate(request.query.get("n", "1"))
        return not_found().answer

    def _mutate(self, number: str) -> Answer:
        if re.fullmatch("[0-9]{1,5}", number) is None:
            return detail(400, "n must be a whole number of at most five digits.").answer
        return answer(200, self.mutate(int(number)))

    async def _delay(self, delay: Delay) -> None:
        seconds = delay if isinstance(delay, int | float) else self._rng.uniform(*delay)
        if seconds > 0:
            await asyncio.sleep(seconds)


def _route(request: web.BaseRequest) -> tuple[dict[str, Operation], str]:
    """The operations at the request's path by method, and the path's id as it was sent."""
    segments = request.rel_url.raw_path.split("/")
    identifier = ""
    if len(segments) > _ID_SEGMENT + 1:
        identifier, segments[_ID_SEGMENT] = segments[_ID_SEGMENT], "{id}"
    return _ROUTES.get("/".join(segments), {}), identifier


def _no_operation(method: str, methods: dict[str, Operation]) -> Answer:
    if not methods:
        return not_found().answer
    return detail(405, f'Method "{method}" not allowed.', {"Allow": ", ".join(methods)}).answer


_UNAUTHORIZED = Refusal(
    401,
    {"code": "authentication_failed", "detail": "Invalid API token, or a token of another region."},
    {"WWW-Authenticate": "Token"},
).answer


def _throttled(seconds: int) -> Answer:
    message = f"Request was throttled. Expected available in {seconds} second{'s' * (seconds != 1)}."
    return detail(429, message, {"Retry-After": str(seconds)}).answer


def _response(result: Answer) -> web.Response:
    headers = {"Content-Type": "application/json", **result.headers} if result.body else result.headers
    return web.Response(status=result.status, body=result.body, headers=headers)


def _reset(request: web.BaseRequest) -> web.Response:
    """Drops the connection with a TCP reset; what is returned reaches nobody."""
    if (transport := request.transport) is not None:
        # Without lingering, closing the socket sends RST instead of FIN.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _truncated(request: web.BaseRequest, result: Answer) -> web.StreamResponse:
    """Announces the whole body, sends half of it, and closes the connection."""
    response = web.StreamResponse(status=result.status, headers={"Content-Type": "application/json", **result.headers})
    response.content_length = len(result.body)
    await response.prepare(request)
    await response.write(result.body[: len(result.body) // 2])
    if request.transport is not None:
        request.transport.close()
    return response
