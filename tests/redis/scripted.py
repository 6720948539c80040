"""A Redis whose every reply is chosen, connections to it, and lanes that say what they are told to; in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from redis.exceptions import ConnectionError

from recall_async.limits.redis.scripts import ACQUIRE, MARK, Command
from tests.redis.words import asked, reply


class ScriptedRedis:
    """Answers commands from a script, and notes what it was told and what is open."""

    def __init__(self) -> None:
        self.run = "run"
        self.life = b"life"
        self.policy = "noeviction"
        self.answer: Callable[[Command], Any] = granted
        """The reply to a command that is not a mark."""
        self.mark: Callable[[], Any] = lambda: self.life
        self.refuses: BaseException | None = None
        """What to raise instead of connecting."""
        self.delay = 0.0
        """Seconds until a message is answered."""
        self.commands: list[Command] = []
        """All but the marks."""
        self.messages: list[tuple[float, list[Command]]] = []
        """When each message came, and its commands."""
        self.opened: list[float] = []
        """When somebody tried to connect."""
        self.wires: list[ScriptedWire] = []
        self.ended: list[str] = []
        """How the closed connections were closed."""

    async def open(self, client: object) -> ScriptedWire:
        self.opened.append(asyncio.get_running_loop().time())
        if self.refuses is not None:
            raise self.refuses
        wire = ScriptedWire(self)
        self.wires.append(wire)
        return wire

    @property
    def marks(self) -> int:
        return sum(command.script is MARK for _, commands in self.messages for command in commands)

    def break_off(self) -> None:
        """Break all connections."""
        for wire in list(self.wires):
            wire.broken.set()


class ScriptedWire:
    """One connection."""

    def __init__(self, redis: ScriptedRedis) -> None:
        self.redis, self.run, self.policy = redis, redis.run, redis.policy
        self.broken = asyncio.Event()

    async def exchange(self, commands: list[Command]) -> list[Any]:
        assert self in self.redis.wires
        if self.broken.is_set():
            raise ConnectionError("reset")
        self.redis.messages.append((asyncio.get_running_loop().time(), commands))
        await asyncio.sleep(self.redis.delay)
        if self.broken.is_set():
            raise ConnectionError("reset")
        self.redis.commands += [command for command in commands if command.script is not MARK]
        return [self.redis.mark() if command.script is MARK else self.redis.answer(command) for command in commands]

    async def watch(self) -> NoReturn:
        await self.broken.wait()
        raise ConnectionError("closed")

    async def _end(self, how: str) -> None:
        self.redis.wires.remove(self)
        self.redis.ended.append(how)

    async def drop(self) -> None:
        await self._end("drop")

    async def aclose(self) -> None:
        await self._end("aclose")

    async def give_back(self) -> None:
        await self._end("give_back")


def granted(command: Command) -> Any:
    """Give each ask what it asks for, in the state `1-a/run`; take all reports."""
    if command.script is not ACQUIRE:
        return 1
    said = asked(command)
    now = int(asyncio.get_running_loop().time() * 1e6)
    return reply(said.interactive, said.bulk, now=now, taken=0, name=f"1-a/run {said.quota}")


class ScriptedLane:
    """A lane that has so many messages to send, each the same command."""

    def __init__(self, command: Command, messages: int = 1) -> None:
        self.command, self.messages = command, messages
        self.heard: list[Any] = []
        self.runs: list[str] = []
        self.silent = 0
        self.failed: list[Exception] = []

    @property
    def speaks(self) -> bool:
        return self.messages > 0

    def compose(self, run: str) -> list[Command]:
        self.runs.append(run)
        return [self.command]

    def on_reply(self, replies: Sequence[Any]) -> None:
        self.messages -= 1
        self.heard += replies

    def on_no_reply(self) -> None:
        self.silent += 1

    def refused(self, error: Exception) -> None:
        self.failed.append(error)
        self.messages = 0

    def fail(self, error: Exception) -> None:
        self.refused(error)
