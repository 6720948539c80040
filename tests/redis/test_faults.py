"""Faults between a lane and Redis: of this package, of the connection, and of what is at the other end; no server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError, TimeoutError

from recall_async.limits.redis.link import Link
from recall_async.limits.redis.memory import Memory
from recall_async.limits.redis.scripts import Command, Keys, usage
from recall_async.limits.redis.wire import Wire
from tests.redis.scripted import ScriptedLane
from tests.virtual_time import VirtualTimeLoop


class _Lane(ScriptedLane):
    """A lane that says one thing, and may have a bug."""

    def __init__(self, bug: str = "") -> None:
        super().__init__(usage(Keys("recall", "w", "o")))
        self.bug = bug

    def compose(self, run: str) -> list[Command]:
        if self.bug == "compose":
            raise ZeroDivisionError(self.bug)
        return super().compose(run)

    def on_reply(self, replies: Sequence[Any]) -> None:
        if self.bug == "on_reply":
            raise ZeroDivisionError(self.bug)
        super().on_reply(replies)


class _FakeWire:
    run, policy = "run", "noeviction"

    async def exchange(self, commands: list[Command]) -> list[Any]:
        return [len(command.keys) for command in commands]

    async def drop(self) -> None:
        pass

    aclose = give_back = drop


@pytest.mark.parametrize("bug", ["compose", "on_reply"])
def test_bug_in_one_lane_is_shown_and_stops_no_other(bug: str) -> None:
    """Would take a bug of this package for an outage of Redis, and have all workspaces wait for ever, without a word."""
    loop = VirtualTimeLoop()

    async def main() -> tuple[_Lane, _Lane]:
        async def open_wire(client: Any) -> Any:
            return _FakeWire()

        link = Link(
            lambda: object(),  # type: ignore[arg-type, return-value]
            Memory("recall"),
            "recall:life",
            owned=False,
            clock=loop.time,
            open_wire=open_wire,
        )
        faulty, good = _Lane(bug), _Lane()
        link.join()
        link.wake(faulty)
        link.wake(good)
        await asyncio.sleep(1)
        assert not link.trouble
        link.leave()
        await link.aclose()
        return faulty, good

    try:
        faulty, good = loop.run_until_complete(main())
    finally:
        loop.close()
    assert [type(error) for error in faulty.failed] == [ZeroDivisionError]
    assert [str(error) for error in loop.failures] == [bug]
    assert (good.heard, good.failed, good.silent) == ([2], [], 0)


class _Connection:
    """A connection of redis-py."""

    is_connected = True

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.gone = 0

    def pack_commands(self, commands: Any) -> Any:
        return commands

    async def send_packed_command(self, packed: Any, check_health: bool) -> None:
        pass

    async def read_response(self, **options: Any) -> Any:
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def disconnect(self, nowait: bool = False) -> None:
        self.gone += 1
        raise OSError("it is closed already")


class _Pool:
    def __init__(self, connection: _Connection) -> None:
        self.connection = connection
        self.connection_pool = self
        self.released: list[_Connection] = []

    async def get_connection(self) -> _Connection:
        return self.connection

    async def release(self, connection: _Connection) -> None:
        self.released.append(connection)


async def wired(*replies: Any) -> tuple[Wire, _Pool]:
    pool = _Pool(_Connection(*replies))
    return await Wire.connect(pool), pool  # type: ignore[arg-type]


async def test_connection_that_speaks_unasked_is_not_used_again() -> None:
    """Would take the reply to a message that was given up for the reply to the next one."""
    wire, _ = await wired(TimeoutError("nothing for a while"), TimeoutError("still nothing"), 7)
    with pytest.raises(ConnectionError, match="nobody asked for"):
        await wire.watch()
    wire, _ = await wired(ConnectionError("reset"))
    with pytest.raises(ConnectionError, match="reset"):
        await wire.watch()


async def test_closed_connection_is_not_reopened_by_redis_py() -> None:
    """Would send a message to another server process than the one whose state is known."""
    wire, pool = await wired(1)
    assert await wire.ask("PING") == 1
    pool.connection.is_connected = False
    with pytest.raises(ConnectionError, match="was closed"):
        await wire.ask("PING")


@pytest.mark.parametrize("end", ["aclose", "drop"])
async def test_connection_goes_back_to_its_pool_once(end: str) -> None:
    """Would put one connection into the pool twice, from which two lanes then take it."""
    wire, pool = await wired()
    await getattr(wire, end)()
    await wire.drop()
    await wire.give_back()
    assert pool.released == [pool.connection]
    assert pool.connection.gone == 1
    with pytest.raises(ConnectionError, match="was closed"):
        await wire.ask("PING")
