"""A server that answers as the test says, over real sockets, and remembers what it was asked.

It knows nothing of quotas or of the client: it is the network and the far end, at their worst.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web

DATA = Path(__file__).parents[1] / "data"
EVENT = json.loads((DATA / "event_documented.json").read_bytes())
CALENDAR = json.loads((DATA / "calendar.json").read_bytes())
TOKEN = json.loads((DATA / "access_token.json").read_bytes())


async def arrived() -> None:
    """Let the loop turn until what one side of a connection has sent or ended has arrived at the other.

    Both are in this loop, and the kernel delivers at once, so that a number of turns is enough however slow they are.
    """
    for _ in range(50):
        await asyncio.sleep(0)


class Request(NamedTuple):
    """What arrived."""

    method: str
    target: str
    """The path and the query, undecoded."""
    headers: dict[str, str]
    """By lower-case name."""
    body: bytes

    @property
    def key(self) -> str | None:
        """Its idempotency key."""
        return self.headers.get("idempotency-key")


Behaviour = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def reply(status: int = 200, document: Any = None, *, body: bytes | None = None, **headers: str) -> Behaviour:
    """Answer this; underscores in the names of headers stand for hyphens."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        content = json.dumps(document).encode() if body is None and document is not None else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=content, headers={"Content-Type": "application/json", **named})

    return answer


def raw(head: bytes, rest: bytes = b"", *, hang: bool = False) -> Behaviour:
    """Write these bytes to the socket, then close it, or never."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(head + rest)
        if hang:
            await asyncio.Event().wait()
        request.transport.close()
        return web.Response()

    return answer


async def reset(request: web.BaseRequest) -> web.StreamResponse:
    """Cut the connection without a word."""
    assert request.transport is not None
    linger = struct.pack("ii", 1, 0)
    request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    request.transport.abort()
    return web.Response()


async def silence(request: web.BaseRequest) -> web.StreamResponse:
    """Never answer."""
    await asyncio.Event().wait()
    raise AssertionError


class ScriptedServer:
    """`script(...)` says how the next requests are answered, one after the other; all others succeed."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.connections: set[Any] = set()
        self.overlaps: Counter[str] = Counter()
        """How many requests with one deduplication key were in flight at most."""
        self.most_in_flight = 0
        self.delay = 0.0
        """Seconds before each answer."""
        self._in_flight: Counter[str] = Counter()
        self._script: deque[Behaviour] = deque()
        self._arrived = asyncio.Condition()
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.01)
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def vanish(self, request: web.BaseRequest) -> web.StreamResponse:
        """Cut the connection, and refuse all others from now on."""
        await self._site.stop()
        return await reset(request)

    def script(self, *behaviours: Behaviour) -> None:
        """Answer the next requests in these ways."""
        self._script.extend(behaviours)

    async def arrived(self, number: int) -> None:
        """Return when this many requests have arrived."""
        async with self._arrived, asyncio.timeout(60):
            await self._arrived.wait_for(lambda: len(self.requests) >= number)

    @property
    def last(self) -> Request:
        """The newest request."""
        return self.requests[-1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        request._client_max_size = 2**30
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(Request(request.method, request.raw_path, headers, body))
        self.connections.add(request.transport)
        async with self._arrived:
            self._arrived.notify_all()
        key = json.loads(body).get("deduplication_key", "") if body else ""
        self._in_flight[key] += 1
        self.overlaps[key] = max(self.overlaps[key], self._in_flight[key])
        self.most_in_flight = max(self.most_in_flight, self._in_flight.total())
        try:
            await asyncio.sleep(self.delay)
            behaviour = self._script.popleft() if self._script else success
            return await behaviour(request)
        finally:
            self._in_flight[key] -= 1


async def success(request: web.BaseRequest) -> web.StreamResponse:
    """Answer as the API does when all is well, with the documented samples."""
    path, method = request.path, request.method
    if path.endswith("/access-token/"):
        return web.json_response(TOKEN)
    sample = CALENDAR if path.startswith("/api/v2/calendars/") else EVENT
    if path.endswith(("/calendars/", "/calendar-events/")) and method == "GET":
        return web.json_response({"next": None, "previous": None, "results": [sample]})
    deleted = sample is CALENDAR and method == "DELETE"
    if (asked := re.search(r"/([0-9a-f-]{36})/", path)) is not None:
        sample = sample | {"id": asked[1]}
    if deleted:
        return web.Response(status=204)
    return web.json_response(sample, status=201 if path.endswith("/calendars/") else 200)
