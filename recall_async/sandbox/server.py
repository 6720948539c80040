"""The sandbox over HTTP: API keys, latency, quotas, faults, and the bots' and calendars' own steps.

The order for one request: authenticate (401) · latency before · count (429) · faults · `Idempotency-Key` and
deduplication keys (409, or the stored response) · perform · latency after · respond.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from random import Random
from typing import Any

import msgspec
from aiohttp import web

from recall_async.operations import Operation

from . import bodies, wire
from .control import control
from .events import contended_keys
from .faults import Fault, FaultKind
from .fields import Request
from .idempotency import Key
from .mutate import changes
from .replies import Refusal, Reply, encode, printable
from .requests import perform
from .settings import Settings
from .webhooks import Webhooks
from .workspace import Workspace

Delay = float | tuple[float, float]
"""Seconds: a number, or a range for a random number."""

_SHORTEST_WAIT, _LONGEST_WAIT = 0.05, 3600.0
_AT_A_STRETCH, _BREATH = 0.01, 0.002
"""Seconds of mutations in a row, and seconds after them in which other requests are served."""


class Server:
    """Serve the requests of one workspace."""

    def __init__(
        self, settings: Settings, api_keys: Sequence[str], latency: tuple[Delay, Delay], webhooks: Webhooks
    ) -> None:
        self.workspace: Workspace = Workspace(settings)
        self.latency = latency
        self.webhooks = webhooks
        self._api_keys = frozenset(api_keys)
        self._rng = Random(settings.seed)
        self._release = asyncio.Event()
        self._changed = asyncio.Event()
        self._living: asyncio.Task[None] | None = None
        self._wakes_at: datetime | None = None

    def start(self) -> None:
        """Start the task in which bots join and calendars connect at their times."""
        self._living = asyncio.get_running_loop().create_task(self._live())

    async def aclose(self) -> None:
        """Stop the server's tasks."""
        self.release()
        if self._living is not None:
            self._living.cancel()
            with suppress(asyncio.CancelledError):
                await self._living
        await self.webhooks.aclose()

    def reset(self) -> None:
        """Start over with the same settings. Requests in progress finish in the old workspace."""
        self.workspace = Workspace(self.workspace.settings)
        self.release()
        self._changed.set()

    def mutate(self, number: int) -> list[dict[str, Any]]:
        """Change the calendars' data `number` times, and send a webhook for each calendar that a change affects."""
        made = list(changes(self.workspace.state, number, self.workspace.now()))
        self._tell(self.workspace)
        return made

    async def mutate_slowly(self, number: int) -> list[dict[str, Any]]:
        """Do the same as `mutate` while other requests are served. A reset ends it."""
        loop, workspace = asyncio.get_running_loop(), self.workspace
        made, began = [], loop.time()
        for change in changes(workspace.state, number, workspace.now()):
            made.append(change)
            if loop.time() - began > _AT_A_STRETCH:
                self._tell(workspace)
                await asyncio.sleep(_BREATH)
                began = loop.time()
                if workspace is not self.workspace:
                    break
        self._tell(workspace)
        return made

    def advance(self, seconds: float) -> None:
        """Move the clocks forward, and perform every step that becomes due. Raises `ValueError`."""
        self.workspace.advance(seconds)
        self._tell(self.workspace)

    def revoke(self, calendar_id: str) -> None:
        """Withdraw the permission to read a calendar. New credentials reconnect it."""
        state = self.workspace.state
        calendar = state.calendar(calendar_id)
        state.revoke(calendar, self.workspace.now())
        state.tell(calendar)
        self._tell(self.workspace)

    def fail_bot(self, bot_id: str, sub_code: str) -> None:
        """Make a bot fail in the waiting room, unless it has already been admitted."""
        self.workspace.state.bot(bot_id).fails_with = sub_code

    def write_raw(self, event_id: str, raw: Any) -> None:
        """Replace the payload of an event, and send a webhook."""
        state, now = self.workspace.state, self.workspace.now()
        event = state.event(event_id)
        event.written = msgspec.Raw(encode(raw))
        state.touch(event, now)
        state.tell_of_events(event.document.calendar_id, now)
        self._tell(self.workspace)

    def release(self) -> None:
        """Release the requests that hang."""
        self._release.set()
        self._release = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handle one HTTP request."""
        try:
            if request.path.startswith("/_sandbox/"):
                return wire.response(await control(self, request))
            path, operation, identifier = wire.route(request)
        except Refusal as refusal:
            return wire.response(refusal.reply)
        workspace = self.workspace
        result: Reply | None
        fault: FaultKind | None
        try:
            result, fault = await self._serve(workspace, operation, path, identifier, request)
        except Refusal as refusal:
            result, fault = refusal.reply, None
        except ConnectionError:
            # The client disconnected before its body was complete. The request was not counted.
            return web.Response()
        if result is not None:
            workspace.tallies[operation.name].add(result.status)
        if result is None or fault == "reset":
            return wire.reset(request)
        return await wire.truncated(request, result) if fault == "truncate" else wire.response(result)

    async def _serve(
        self, workspace: Workspace, operation: Operation[Any], path: str, identifier: str, request: web.BaseRequest
    ) -> tuple[Reply | None, FaultKind | None]:
        """Return the response, if there is one, and the fault that happens to it. Raises a refusal."""
        if not self._is_authorized(request.headers.get("Authorization", "")):
            raise wire.unauthorized()
        body = await bodies.read(request)
        await self._delay(self.latency[0])
        fault = workspace.faults.draw(operation.name, counted=False)
        if fault is None:
            if (seconds := workspace.windows[operation.name].count()) is not None:
                raise wire.throttled(seconds)
            fault = workspace.faults.draw(operation.name, counted=True)
        if fault is not None and fault.kind == "reset" and not fault.applied:
            return None, fault.kind
        workspace.state.tick(workspace.now())
        call = Request(
            url=printable(f"{request.scheme}://{request.host}{path}"),
            id=identifier,
            query={printable(name): list(map(printable, request.query.getall(name))) for name in request.query},
            body=body,
            now=workspace.now(),
            connect_after=workspace.settings.connect_after,
        )
        given = request.headers.get("Idempotency-Key") if operation.keyed else None
        key = None if given is None else Key(request.method, path.replace("{id}", identifier.lower()), given)
        try:
            with workspace.claim(key, contended_keys(operation, workspace.state, call)) as kept:
                result = await self._outcome(workspace, operation, call, kept, fault)
                if key is not None and kept is None:
                    workspace.replies.keep(key, result)
                if fault is not None and fault.applied:
                    result = await self._after(fault, result)
                await self._delay(self.latency[1])
        finally:
            self._tell(workspace)
        return result, fault.kind if fault is not None else None

    def _is_authorized(self, header: str) -> bool:
        """Check the API key, with or without `Token`."""
        scheme, _, key = header.strip().partition(" ")
        return (key.strip() if scheme.lower() == "token" else header.strip()) in self._api_keys

    def _tell(self, workspace: Workspace) -> None:
        """Send the pending webhooks, and let `_live` find the next due step."""
        state = workspace.state
        notices, state.notices = state.notices, []
        for notice in notices:
            calendar = state.calendars.get(notice.calendar_id or "")
            self.webhooks.send(notice, (calendar and calendar.webhook_url) or None)
        if state.next_due() != self._wakes_at:
            self._changed.set()

    async def _live(self) -> None:
        """Make bots join and leave, and calendars connect, at their times."""
        while True:
            self._changed.clear()
            workspace = self.workspace
            workspace.state.tick(workspace.now())
            self._wakes_at = workspace.state.next_due()
            self._tell(workspace)
            seconds = _LONGEST_WAIT
            if self._wakes_at is not None:
                # The clock of a test may stand still: look again after a limited wait.
                seconds = min(max((self._wakes_at - workspace.now()).total_seconds(), _SHORTEST_WAIT), seconds)
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._changed.wait()

    async def _outcome(
        self, workspace: Workspace, operation: Operation[Any], call: Request, kept: Reply | None, fault: Fault | None
    ) -> Reply:
        if fault is not None and not fault.applied:
            if fault.kind == "status":
                return fault.reply()
            await self._release.wait()
        if kept is not None:
            return kept
        return perform(operation, workspace.state, call)

    async def _after(self, fault: Fault, result: Reply) -> Reply:
        """Apply a fault to the response of a request that took effect."""
        if fault.kind == "hang":
            await self._release.wait()
        return fault.reply() if fault.kind == "status" else result

    async def _delay(self, delay: Delay) -> None:
        seconds = delay if isinstance(delay, int | float) else self._rng.uniform(*delay)
        if seconds > 0:
            await asyncio.sleep(seconds)
