"""Load for a Redis server that keeps quotas: what lanes say, packed beforehand, so that the server is what is measured."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from redis import Connection, Redis

from recall_async.limits.quota import Quota
from recall_async.limits.redis.scripts import (
    ACQUIRE,
    Ask,
    Command,
    Ended,
    Ending,
    Keys,
    Terms,
    acquire,
    decode,
)
from recall_async.limits.redis.wire import evalsha
from tests.redis.server import RedisProcess

QUOTA = Quota(600, 60.0)
TERMS = Terms.of(QUOTA, 0, 60.0)
HELD = 590
"""Slots that are taken of each workspace's 600, as in the middle of a busy minute."""

_packer = Connection()


class Workspace(NamedTuple):
    """One of the workspaces that are busy."""

    keys: Keys
    epoch: str
    """What the server has called the life of its data, as every lane knows from its first ask on."""


@contextmanager
def busy_server(workspaces: int) -> Iterator[tuple[RedisProcess, list[Workspace]]]:
    """A server on which so many workspaces are busy."""
    server = RedisProcess()
    server.start()
    try:
        keys = [Keys("bench", f"workspace{number}", "calendar_events.schedule_bot") for number in range(workspaces)]
        with Redis(port=server.port) as client:
            client.script_load(ACQUIRE.text)
            seconds, microseconds = client.time()
            now = seconds * 10**6 + microseconds
            # They come back ten a second in the next minute, as they were granted.
            slots = {f"0123456789ab:{number}": now + number * 100_000 for number in range(1, HELD + 1)}
            pipeline = client.pipeline(transaction=False)
            for one in keys:
                pipeline.zadd(one.slots, slots)
                pipeline.evalsha(*evalsha(slot_asked_for(Workspace(one, ""), 0, 0))[1:])
            grants = [decode(reply, "", TERMS) for reply in pipeline.execute()[1::2]]
        yield (
            server,
            [Workspace(one, grant.epoch) for one, grant in zip(keys, grants, strict=True) if grant is not None],
        )
    finally:
        server.close()


def slot_asked_for(workspace: Workspace, number: int, slots: int = 1, ended: Sequence[Ended] = ()) -> Command:
    """Ask for slots as a lane does: one for an interactive call, several for bulk calls."""
    ask = Ask(number, slots, 0, 0.0, slots) if slots <= 1 else Ask(number, 0, slots, 0.0)
    sender = (workspace.keys, "0123456789ab", number, ask)
    known = {"again": False, "run": "0123456789abcdef", "epoch": workspace.epoch, "age": 0.0}
    return acquire(*sender, **known, terms=TERMS, ended=ended)


def request(workspace: Workspace, number: int, before: int, slots: int = 1) -> Command:
    """One script of a busy lane: `slots` slots from `number` are asked for, and those from `before` have ended."""
    ended = [Ended(before + place, Ending.ANSWERED, 0.0) for place in range(slots)]
    return slot_asked_for(workspace, number, slots, ended)


def packed(command: Command) -> bytes:
    """Return a command as it is written to the socket."""
    return b"".join(_packer.pack_commands([evalsha(command)]))


class Pipe:
    """A connection that counts replies without looking into them."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._file = self._socket.makefile("rb", buffering=2**16)

    def exchange(self, requests: list[bytes]) -> float:
        """Seconds until all of them are answered."""
        began = time.perf_counter()
        self._socket.sendall(b"".join(requests))
        for _ in requests:
            self._skip()
        return time.perf_counter() - began

    def _skip(self) -> None:
        line = self._file.readline()
        kind, size = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(line.decode())
        if kind == b"*":
            for _ in range(int(size)):
                self._skip()
        elif kind == b"$" and int(size) >= 0:
            self._file.read(int(size) + 2)

    def close(self) -> None:
        self._file.close()
        self._socket.close()
