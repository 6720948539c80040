"""A server that costs next to nothing, so that what is measured is the client: one answer to every request.

    python -m benchmarks.server [--limit N --per SECONDS] [--tls]

It prints its address as soon as it listens. With a limit it counts in a strict sliding window for each API key, and
answers 429 beyond it. `GET /statistics` tells what it saw.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import ssl
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress

from .events import event
from .processes import ROOT

CERTIFICATE = ROOT / "tests" / "data" / "localhost.pem"
AUTHORITY = ROOT / "tests" / "data" / "localhost-ca.pem"
"""What a client must trust to reach the server with `--tls`."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_EVENT = re.compile(rb"/calendar-events/([0-9a-f-]{36})/")
_KEY = re.compile(rb"\r\nauthorization: *([^\r]*)", re.IGNORECASE)


def answer(status: bytes, body: bytes, head: bytes = b"") -> bytes:
    """An answer as it goes over the wire; `head` are further header lines."""
    length = str(len(body)).encode()
    return b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %b\r\n\r\n%b" % (
        status,
        head,
        length,
        body,
    )


class Ok:
    """The answer to every request that is counted: one event, under the id that was asked for."""

    def __init__(self) -> None:
        body = event()
        self._id = json.loads(body)["id"].encode()
        self._before, self._after = answer(b"200 OK", body).split(self._id, 1)

    def to(self, head: bytes) -> bytes:
        """The answer to the request that begins with `head`."""
        asked = _EVENT.search(head)
        return self._before + (asked[1] if asked else self._id) + self._after


def too_many(wait: int) -> bytes:
    """The answer to a request that is not counted."""
    return answer(b"429 Too Many Requests", b'{"detail": "Throttled."}', b"Retry-After: %d\r\n" % wait)


class Windows:
    """Counts the requests of each key: at most `limit` in any `per` seconds."""

    def __init__(self, limit: int, per: float) -> None:
        self._limit = limit
        self._per = per
        self._counted: defaultdict[bytes, deque[float]] = defaultdict(deque)
        self.accepted = self.rejected = self.connections = 0

    def count(self, key: bytes) -> int:
        """0 if the request was counted, else the seconds after which another one can be."""
        if self._limit:
            now, counted = time.monotonic(), self._counted[key]
            while counted and counted[0] <= now - self._per:
                counted.popleft()
            if len(counted) >= self._limit:
                self.rejected += 1
                return max(1, math.ceil(counted[0] + self._per - now))
            counted.append(now)
        self.accepted += 1
        return 0


class Requests(asyncio.Protocol):
    """One client's connection."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        while (head_ends := received.find(b"\r\n\r\n")) >= 0:
            head = received[: head_ends + 2]
            length = _LENGTH.search(head)
            ends = head_ends + 4 + (int(length[1]) if length else 0)
            if len(received) < ends:
                break
            received = received[ends:]
            self.requested(head)
        self._received = received

    def requested(self, head: bytes) -> None:
        """A whole request has come; `head` are its first lines."""
        raise NotImplementedError


class Connection(Requests):
    """A client that is answered at once. `ok` answers everything that is counted."""

    def __init__(self, windows: Windows, ok: Ok) -> None:
        super().__init__()
        self._windows = windows
        self._ok = ok
        windows.connections += 1

    def requested(self, head: bytes) -> None:
        self.transport.write(self._reply(head))

    def _reply(self, head: bytes) -> bytes:
        windows = self._windows
        if head.startswith(b"GET /statistics "):
            seen = {
                "accepted": windows.accepted,
                "rejected": windows.rejected,
                "connections": windows.connections,
            }
            return answer(b"200 OK", json.dumps(seen).encode())
        key = _KEY.search(head)
        if wait := windows.count(key[1] if key else b""):
            return too_many(wait)
        return self._ok.to(head)


async def serve(connection: Callable[[], Requests], *, tls: bool = False) -> None:
    """Listen on a free port, and say where."""
    context = None
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(CERTIFICATE)
    server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0, backlog=4096, ssl=context)
    host, port = server.sockets[0].getsockname()
    sys.stdout.write(f"{'https' if tls else 'http'}://{host}:{port}\n")
    sys.stdout.flush()
    await server.serve_forever()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--per", type=float, default=60.0)
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    windows = Windows(options.limit, options.per)
    ok = Ok()
    await serve(lambda: Connection(windows, ok), tls=options.tls)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
