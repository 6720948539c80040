"""One attempt to send a request over aiohttp: what aiohttp asks and tells while it sends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any
from weakref import ref

import aiohttp
from aiohttp import hdrs
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from multidict import CIMultiDict

from .connections import Connections
from .stopping import Stopped, StopSignal

_used: set[ref[object]] = set()
"""The connections over which requests were sent. Sessions may share an aiohttp session, and so its connections."""


class Sending:
    """One attempt to send a request: how far it has come, whatever ends it.

    It is a client middleware of aiohttp, because aiohttp sends a request a second time, unasked, when a connection that
    it kept open turns out to be closed: https://docs.aiohttp.org/en/stable/client_advanced.html#client-middleware
    """

    __slots__ = ("_begun", "_stop", "connections", "on_429", "response", "wire")

    connections: Connections
    """Those of its session."""

    def __init__(
        self, on_429: Callable[[Mapping[str, str]], None] | None = None, stop: StopSignal | None = None
    ) -> None:
        self.on_429: Callable[[Mapping[str, str]], None] | None = on_429
        """Called with the headers of a 429 before its body is read."""
        self._stop = stop
        self._begun = False
        self.response: aiohttp.ClientResponse | None = None
        """Exists from the moment at which bytes may have left."""
        self.wire: asyncio.BaseTransport | None = None
        """The connection that the request went over."""

    @property
    def sent(self) -> bool:
        """True if bytes may have left."""
        return self.response is not None

    @property
    def status(self) -> int | None:
        """The response's status, as soon as its head has arrived."""
        return None if self.response is None else self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The response's headers, as soon as they have arrived."""
        return {} if self.response is None or self.response.status is None else self.response.headers

    def hang_up(self) -> None:
        """Close the connection: what comes over it need not be the response to what was asked."""
        if self.wire is not None:
            self.wire.close()

    def close(self) -> None:
        """Let go of the response, which refers to this object: objects in a circle are not freed at once."""
        self.response = self.on_429 = self.wire = None

    def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> Awaitable[aiohttp.ClientResponse]:
        if self._begun:
            raise aiohttp.ServerDisconnectedError
        self._begun = True
        request.response_class = self._begin_response  # type: ignore[assignment]
        return handler(request) if self._stop is None else self._unless_stopped(request, handler, self._stop)

    async def _unless_stopped(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, stop: StopSignal
    ) -> aiohttp.ClientResponse:
        """Look at `stop` once more when there is a connection: opening one may have taken long. Raises `Stopped`."""
        send = request.send

        async def look(conn: Connection) -> aiohttp.ClientResponse:
            if not stop.may_send():
                raise Stopped
            return await send(conn)

        request.send = look  # type: ignore[method-assign]
        try:
            return await handler(request)
        finally:
            del request.send  # which refers to the request: objects in a circle are not freed at once

    def _begin_response(self, *args: Any, **options: Any) -> aiohttp.ClientResponse:
        """Create the object for the response. aiohttp does this when it has begun to send the request."""
        response = self.response = _Response(*args, **options)
        response.sending = self
        return response


class _Response(aiohttp.ClientResponse):
    """Notes its connection, and refuses what came over it before anything was asked."""

    sending: Sending

    def start(self, connection: Connection) -> Coroutine[Any, Any, aiohttp.ClientResponse]:
        protocol, sending = connection.protocol, self.sending
        if protocol is not None:
            sending.wire = protocol.transport
            if ref(protocol) not in _used:
                _used.add(ref(protocol, _used.discard))
                sending.connections.on_change()
            # Nothing of the response can be there yet: the loop has not turned since the request was written.
            elif protocol.should_close and protocol.exception() is None:
                raise aiohttp.ClientConnectionError("the connection held a response that no request had asked for")
        return aiohttp.ClientResponse.start(self, connection)


JSON: Mapping[str, str] = {hdrs.CONTENT_TYPE: "application/json"}


class Body(aiohttp.Payload):
    """The JSON body of a request. aiohttp's own payload for bytes builds its headers anew for each request."""

    headers: CIMultiDict[str] = CIMultiDict(JSON)
    autoclose = True  # there is nothing to close
    size: int = 0

    def __init__(self, body: bytes) -> None:  # not the base class's, for the same reason
        self._bytes = body
        self.size = len(body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._bytes.decode(encoding, errors)

    async def as_bytes(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self._bytes

    async def write(self, writer: AbstractStreamWriter) -> None:
        await writer.write(self._bytes)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await writer.write(self._bytes)
