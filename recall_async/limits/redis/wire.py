"""One connection to Redis, which leads to one server process for as long as it lives.

That is why it is held, and not borrowed from the pool for each message: on a new connection the server is asked which
process it is, and on the same one that need not be asked again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, ResponseError

from .scripts import Command

logger = logging.getLogger("recall_async")

Words = Sequence[str | int]


class Wire:
    """The connection of one client, made when it is first needed."""

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self._connection: Any = None
        self._warned = False
        self.run = ""
        """The run id of the server process at the other end."""

    async def ready(self) -> None:
        """Be connected, and know with whom."""
        connection = self._connection
        if connection is None:
            connection = self._connection = await self._pool.get_connection()
        elif not connection.is_connected:
            await connection.connect()
        if not self.run:
            server, memory = await self._exchange([("INFO", "server"), ("INFO", "memory")])
            self._warn(_field(memory, "maxmemory_policy"))
            self.run = _field(server, "run_id")

    async def send(self, commands: Sequence[Command]) -> list[Any]:
        """The reply to each; where Redis refuses, its error stands in place of the reply."""
        replies = await self._exchange([evalsha(command) for command in commands])
        # A server that was restarted, or told to, has forgotten the scripts; sent in full, it remembers them again.
        forgotten = [place for place, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if forgotten:
            full = [
                ("EVAL", script.text, len(keys), *keys, *arguments)
                for script, keys, arguments in (commands[place] for place in forgotten)
            ]
            for place, reply in zip(forgotten, await self._exchange(full), strict=True):
                replies[place] = reply
        return replies

    async def aclose(self) -> None:
        """Give the connection back."""
        connection, self._connection, self.run = self._connection, None, ""
        if connection is not None:
            await self._pool.release(connection)

    async def _exchange(self, commands: Sequence[Words]) -> list[Any]:
        connection = self._connection
        try:
            await connection.send_packed_command([b"".join(map(packed, commands))], check_health=False)
            replies: list[Any] = []
            for _ in commands:
                try:
                    replies.append(await connection.read_response())
                except ResponseError as error:
                    replies.append(error)
        except BaseException:
            self.run = ""
            await connection.disconnect(nowait=True)  # an answer that is still on its way is not for the next question
            raise
        return replies

    def _warn(self, policy: str) -> None:
        if policy not in ("noeviction", "") and not self._warned:
            self._warned = True
            logger.warning(
                "Redis evicts keys when its memory is full (maxmemory-policy is %s): a quota that is evicted can be "
                "overrun. Set maxmemory-policy noeviction, or keep the quota on a server of its own",
                policy,
            )


def evalsha(command: Command) -> Words:
    """The words that run a script."""
    script, keys, arguments = command
    return ("EVALSHA", script.sha, len(keys), *keys, *arguments)


def packed(words: Words) -> bytes:
    """A command as it goes over the wire: https://redis.io/docs/latest/develop/reference/protocol-spec/"""
    encoded = [str(word).encode() for word in words]
    return b"*%d\r\n%b" % (len(encoded), b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]))


def _field(info: Any, name: str) -> str:
    if isinstance(info, ResponseError):
        raise info
    text = info if isinstance(info, str) else bytes(info).decode()
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return fields.get(name, "")
