"""One connection to one server process, on a connection of redis-py whose replies are chosen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError, NoScriptError, ResponseError, TimeoutError

from recall_async.limits.redis.scripts import RESUME, USAGE, Asking, Command
from recall_async.limits.redis.wire import CLOSE_TIMEOUT, RUN_ID, Wire
from tests.virtual_time import run

ONE, TWO = Command(USAGE, ("a", "b"), (1, "x")), Command(RESUME, ("c",), ())
INFO = b"# Server\r\nredis_version:7.2\r\nrun_id:0123456789abcdef0123456789abcdef\r\n"
MEMORY = b"# Memory\r\nmaxmemory_policy:allkeys-lru\r\n"


class Connection:
    """A connection of redis-py, and its pool and client."""

    def __init__(self, *replies: Any) -> None:
        self.replies = list(replies)
        self.is_connected = True
        self.sent: list[tuple[Any, ...]] = []
        self.messages = 0
        self.ended: list[str] = []
        self.sticks = False
        self.disconnects = True

    @property
    def connection_pool(self) -> Connection:
        return self

    async def get_connection(self) -> Connection:
        return self

    async def release(self, connection: Connection) -> None:
        assert connection is self
        self.ended.append("release")

    def pack_commands(self, commands: Any) -> Any:
        return commands

    async def send_packed_command(self, packed: Any, check_health: bool) -> None:
        assert not check_health
        self.messages += 1
        self.sent += [tuple(words) for words in packed]

    async def read_response(self, *, disconnect_on_error: bool = True) -> Any:
        self.disconnects = disconnect_on_error
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        return reply

    async def disconnect(self, nowait: bool = False) -> None:
        self.ended.append(f"disconnect nowait={nowait}")
        if self.sticks and not nowait:
            await asyncio.sleep(1000.0)


def said(command: Command) -> tuple[Any, ...]:
    return ("EVALSHA", command.script.sha, len(command.keys), *command.keys, *command.arguments)


def in_full(command: Command) -> tuple[Any, ...]:
    return ("EVAL", command.script.text, *said(command)[2:])


async def connected(connection: Connection) -> Wire:
    return await Wire.connect(connection)  # type: ignore[arg-type]


def test_server_process_is_known_when_the_connection_is_open() -> None:
    """Would not notice that another process answers now, or that this one may evict the quota."""

    async def main() -> None:
        for server, memory in ((INFO, MEMORY), (INFO.decode(), MEMORY.decode())):
            connection = Connection(server, memory)
            wire = await Wire.open(connection)  # type: ignore[arg-type]
            assert (wire.run, wire.policy) == ("0123456789abcdef", "allkeys-lru")
            assert len(wire.run) == RUN_ID
            assert (connection.sent, connection.messages) == ([("INFO", "server"), ("INFO", "memory")], 1)
            assert connection.ended == []
        plain = await connected(Connection())
        assert (plain.run, plain.policy) == ("", "")
        bare = await Wire.open(Connection(b"none", b"a\r\nb:c:d"))  # type: ignore[arg-type]
        assert (bare.run, bare.policy) == ("", "")

    run(main())


@pytest.mark.parametrize(
    "replies", [(ResponseError("NOPERM"), MEMORY), (INFO, ResponseError("NOPERM")), (ConnectionError("NOPERM"),)]
)
def test_connection_that_cannot_be_used_is_closed(replies: tuple[Any, ...]) -> None:
    """Would leave a connection open with each attempt, or hide why Redis refuses the client."""

    async def main() -> None:
        connection = Connection(*replies)
        with pytest.raises(type(next(one for one in replies if isinstance(one, Exception))), match="NOPERM"):
            await Wire.open(connection)  # type: ignore[arg-type]
        assert connection.ended == ["disconnect nowait=True", "release"]

    run(main())


def test_scripts_are_run_by_name_in_one_message() -> None:
    """Would send each script in full, or one message for each; or lose an error among the replies."""

    async def main() -> None:
        refusal = ResponseError("WRONGTYPE")
        connection = Connection(1, refusal)
        assert await (await connected(connection)).exchange([ONE, TWO]) == [1, refusal]
        assert (connection.sent, connection.messages) == ([said(ONE), said(TWO)], 1)

    run(main())


def test_only_forgotten_scripts_are_sent_in_full() -> None:
    """Would run a script twice after SCRIPT FLUSH, mix up the replies, or fail until the process is restarted."""

    async def main() -> None:
        connection = Connection(NoScriptError("no"), 2, NoScriptError("no"), 1, 3)
        assert await (await connected(connection)).exchange([ONE, TWO, ONE]) == [1, 2, 3]
        assert (connection.sent[3:], connection.messages) == ([in_full(ONE)] * 2, 2)

    run(main())


def test_asking_goes_before_its_command_only() -> None:
    """Would ask for keys on the move without leave, take the reply to ASKING for that of the command, or drop it."""

    async def main() -> None:
        connection = Connection(1, b"OK", NoScriptError("no"), 3, b"OK", 2)
        assert await (await connected(connection)).exchange([ONE, Asking(*TWO), ONE]) == [1, 2, 3]
        assert connection.sent == [said(ONE), ("ASKING",), said(TWO), said(ONE), ("ASKING",), in_full(TWO)]

    run(main())


def test_error_of_one_command_is_raised() -> None:
    """Would take an error for the map of the cluster."""

    async def main() -> None:
        with pytest.raises(ResponseError, match="unknown command"):
            await (await connected(Connection(ResponseError("unknown command")))).ask("CLUSTER", "SLOTS")
        connection = Connection([1])
        assert await (await connected(connection)).ask("CLUSTER", "SLOTS") == [1]
        assert connection.sent == [("CLUSTER", "SLOTS")]

    run(main())


def test_connection_that_does_not_close_is_left_after_a_second() -> None:
    """Would let the end of a session wait for a dead network, or keep the connection from its pool."""

    async def main() -> None:
        connection = Connection()
        connection.sticks = True
        wire, began = await connected(connection), asyncio.get_running_loop().time()
        await wire.aclose()
        assert asyncio.get_running_loop().time() - began == pytest.approx(CLOSE_TIMEOUT, abs=0.01)
        assert connection.ended == ["disconnect nowait=False", "release"]
        other = Connection()
        await (await connected(other)).give_back()
        assert other.ended == ["release"]  # open

    assert 0.5 <= CLOSE_TIMEOUT <= 1.0
    run(main())


def test_watch_ends_with_the_connection_only() -> None:
    """Would take the reply to a message that was given up for that to the next, or close it when it is cancelled."""

    async def main() -> None:
        connection = Connection(TimeoutError("nothing for a while"), TimeoutError("still nothing"), 7)
        wire = await connected(connection)
        with pytest.raises(ConnectionError, match="nobody asked for"):
            await wire.watch()
        assert (connection.replies, connection.disconnects, connection.ended) == ([], False, [])
        connection.is_connected = False
        with pytest.raises(ConnectionError, match="was closed"):
            await wire.exchange([ONE])
        assert connection.sent == []
        await wire.drop()
        with pytest.raises(ConnectionError, match="was closed"):
            await wire.exchange([ONE])

    run(main())
