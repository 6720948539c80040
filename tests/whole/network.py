"""A network in memory and in virtual time, on which aiohttp connects, sends and receives as on any other.

Bytes take up to `delay` seconds each way and keep their order. A connection can be refused, closed or reset; what a client
wrote before it closed its end still arrives.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from tests.virtual_time import TICK, VirtualTimeLoop

MAX_TURNS = 500_000
"""Turns of the loop in one run: more are a loop that spins without getting anywhere."""


class Peer(Protocol):
    """The server's end of a connection."""

    def received(self, data: bytes, sent_at: float) -> None:
        """Bytes arrive that the client wrote at `sent_at`."""

    def gone(self) -> None:
        """The client closed its end."""


class Task(asyncio.Task[Any]):
    """A task with a number for a hash: sets of tasks have one order, whatever the addresses in memory."""

    numbers = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        Task.numbers += 1
        self._number = Task.numbers
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._number


class NetworkLoop(VirtualTimeLoop):
    """The loop in virtual time, with a network instead of sockets."""

    network: Network

    def __init__(self, start: float = 1000.0) -> None:
        super().__init__(start)
        self._turns = 0
        self.max_turns = MAX_TURNS
        Task.numbers = 0
        self.set_task_factory(lambda loop, coroutine, **options: Task(coroutine, loop=loop, **options))

    def jump(self, *, idle: bool) -> None:
        self._turns += 1
        if self._turns > self.max_turns:
            raise RuntimeError(f"livelock at {self.time():.6f} s")
        super().jump(idle=idle)

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        await self.network.connect(sock, address[1])

    async def create_connection(self, protocol_factory: Callable[[], Any], *args: Any, **options: Any) -> Any:
        sock = options["sock"]
        protocol = protocol_factory()
        transport = self.network.attach(sock, protocol)
        protocol.connection_made(transport)
        return transport, protocol


class Network:
    """Where connections are made, and how long things take."""

    def __init__(self, loop: NetworkLoop, random: Random, delay: float) -> None:
        self.loop = loop
        self.open: dict[int, ClientEnd] = {}
        """Connections that the client has not closed."""
        self.peak = 0
        self.accept: dict[int, Callable[[ClientEnd], Peer]] = {}
        """Servers by their ports."""
        self.refuses: Callable[[], bool] = lambda: False
        self._ports: dict[int, int] = {}  # by the descriptor of a socket that is connected
        self._random = random
        self._delay = delay
        self._made = 0
        loop.network = self

    def delay(self) -> float:
        """Seconds that something is on its way."""
        return self._random.random() * self._delay

    async def connect(self, sock: socket.socket, port: int) -> None:
        """Reach a server, or raise `ConnectionRefusedError`."""
        await asyncio.sleep(self.delay())
        if self.refuses():
            raise ConnectionRefusedError(111, "Connection refused")
        self._ports[sock.fileno()] = port

    def attach(self, sock: socket.socket, protocol: Any) -> ClientEnd:
        """Make the client's end of a connection."""
        self._made += 1
        end = ClientEnd(self, self._made, sock, protocol)
        self.open[end.number] = end
        self.peak = max(self.peak, len(self.open))
        end.peer = self.accept[self._ports.pop(sock.fileno())](end)
        return end


class ClientEnd(asyncio.Transport):
    """The client's end of a connection, as asyncio sees it; and what the server may do to it."""

    peer: Peer

    def __init__(self, network: Network, number: int, sock: socket.socket, protocol: Any) -> None:
        super().__init__({"socket": sock, "peername": ("127.0.0.1", 80), "sockname": ("127.0.0.1", number)})
        self._network, self._loop = network, network.loop
        self.number = number
        self.made_at = self._loop.time()
        self._socket, self._protocol = sock, protocol
        self._closing = False
        self._there = self._back = 0.0  # when the last bytes arrive, each way
        self._held: deque[Callable[[], object]] | None = None  # what arrived while reading was paused
        self._writes = 0
        self.closed_at: float | None = None

    # What the client does.

    def write(self, data: Any) -> None:
        if not self._closing:
            self._writes += 1
            self._to_server(lambda sent, data=bytes(data): self.peer.received(data, sent))

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._to_server(lambda sent: self.peer.gone())
            self._close(None)

    def abort(self) -> None:
        self.close()

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self._held = self._held if self._held is not None else deque()

    def resume_reading(self) -> None:
        held, self._held = self._held, None
        for arrives in held or ():
            self._loop.call_soon(arrives)

    # What the server does.

    def send(self, data: bytes) -> None:
        """Bytes for the client."""
        self._to_client(lambda: self._protocol.data_received(data))

    def send_unasked(self, data: bytes, seconds: float) -> None:
        """Bytes that arrive so many seconds later, if the client has asked for nothing until then."""
        writes = self._writes
        arrives = lambda: writes == self._writes and self._protocol.data_received(data)  # noqa: E731
        self._loop.call_later(seconds, self._to_client, arrives)

    def finish(self) -> None:
        """The server closes the connection."""
        self._to_client(lambda: self._ended(None))

    def reset(self) -> None:
        """The connection breaks."""
        self._to_client(lambda: self._ended(ConnectionResetError(104, "Connection reset by peer")))

    def _ended(self, error: Exception | None) -> None:
        if error is None:
            self._protocol.eof_received()
        self._close(error)

    def _close(self, error: Exception | None) -> None:
        if not self._closing:
            self._closing = True
            self.closed_at = self._loop.time()
            self._loop.call_soon(self._lost, error)

    def _lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)
        self._socket.close()
        del self._network.open[self.number]

    def _to_server(self, arrives: Callable[[float], None]) -> None:
        now = self._loop.time()
        self._there = max(self._there + TICK, now + self._network.delay())
        self._loop.call_at(self._there, arrives, now)

    def _to_client(self, arrives: Callable[[], object]) -> None:
        self._back = max(self._back + TICK, self._loop.time() + self._network.delay())
        self._loop.call_at(self._back, self._arrive, arrives)

    def _arrive(self, arrives: Callable[[], object]) -> None:
        if self._closing:
            return
        if self._held is not None:
            self._held.append(arrives)
        else:
            arrives()
