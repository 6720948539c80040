"""One connection to one Redis server process.

The wire holds its connection, because a lane must know which server process is at the other end, and whether that
server still has the state that this process has seen. A pipeline of redis-py uses any connection of the pool without
naming it, and needs over a fifth more CPU in the client for a message of one request, measured by
`python -m benchmarks shared-store`. The parts of redis-py used here are the same in 5.3 and 8.1.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from redis.asyncio import Redis
from redis.exceptions import ConnectionError, NoScriptError, ResponseError, TimeoutError

from .scripts import Asking, Command

RUN_ID = 16
"""The number of characters used of a run id: Redis stores short strings faster."""
CLOSE_TIMEOUT = 1.0
"""The most seconds to wait for a connection to close."""

Words = Sequence[str | int | bytes]

_ASKING: Words = ("ASKING",)


class Wire:
    """A connection, created by `open`. After an error of `exchange` or `watch`, drop it and open another one."""

    def __init__(self, client: Redis, connection: Any) -> None:
        self._pool: Any = client.connection_pool
        self._connection = connection
        self.run = ""
        """The run id of the server process."""
        self.policy = ""
        """What the server does when its memory is full; empty if unknown."""

    @classmethod
    async def open(cls, client: Redis) -> Wire:
        """Connect, and read the run id of the server process. Raises the errors of redis-py."""
        wire = await cls.connect(client)
        try:
            server, memory = await wire._send([("INFO", "server"), ("INFO", "memory")])
            wire.run, wire.policy = _field(server, "run_id")[:RUN_ID], _field(memory, "maxmemory_policy")
        except BaseException:
            await wire.drop()
            raise
        return wire

    @classmethod
    async def connect(cls, client: Redis) -> Wire:
        """Connect, and learn nothing. Raises the errors of redis-py."""
        pool: Any = client.connection_pool
        return cls(client, await pool.get_connection())

    async def ask(self, *words: str | int) -> Any:
        """Send one command, and return the reply as it is. Raises the errors of redis-py."""
        (reply,) = await self._send([words])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Run scripts and return their replies. The reply to a refused script is its error."""
        replies = await self._run(commands, evalsha)
        # A restart or SCRIPT FLUSH removes the scripts from the server; sending them in full stores them again.
        forgotten = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:
            again = await self._run([commands[place] for place in forgotten], _eval)
            for place, reply in zip(forgotten, again, strict=True):
                replies[place] = reply
        return replies

    async def _run(self, commands: Sequence[Command], words: Callable[[Command], Words]) -> list[Any]:
        said: list[Words] = []
        for command in commands:
            said += [_ASKING, words(command)] if isinstance(command, Asking) else [words(command)]
        replies = await self._send(said)
        return [reply for reply, sent in zip(replies, said, strict=True) if sent is not _ASKING]

    async def watch(self) -> NoReturn:
        """Wait until the connection breaks, and raise the cause. A cancellation leaves the connection usable."""
        while True:
            with contextlib.suppress(TimeoutError):  # raised by a client with a `socket_timeout`
                await self._connection.read_response(disconnect_on_error=False)
                raise ConnectionError("Redis said something that nobody asked for")

    async def aclose(self) -> None:
        """Close the connection. A cancellation ends only the wait."""
        try:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._connection.disconnect()
        finally:
            await self.give_back()

    async def drop(self) -> None:
        """Close the connection at once, without a point at which it can be cancelled."""
        try:
            with contextlib.suppress(Exception):
                await self._connection.disconnect(nowait=True)
        finally:
            await self.give_back()

    async def give_back(self) -> None:
        """Return the connection to its pool."""
        connection, self._connection = self._connection, _Gone()
        if not isinstance(connection, _Gone):
            with contextlib.suppress(Exception):
                await self._pool.release(connection)

    async def _send(self, commands: Sequence[Words]) -> list[Any]:
        connection = self._connection
        if not connection.is_connected:  # redis-py would reconnect, perhaps to another server
            raise ConnectionError("the connection was closed")
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies


class _Gone:
    is_connected = False


def evalsha(command: Command) -> Words:
    """Return the words of the command that runs a script."""
    script, keys, arguments = command
    return ("EVALSHA", script.sha, len(keys), *keys, *arguments)


def _eval(command: Command) -> Words:
    script, keys, arguments = command
    return ("EVAL", script.text, len(keys), *keys, *arguments)


def _field(info: Any, name: str) -> str:
    if isinstance(info, ResponseError):
        raise info
    text = info if isinstance(info, str) else bytes(info).decode()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return fields.get(name, "")
