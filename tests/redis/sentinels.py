"""A master, its replica and a Sentinel that watches them, as child processes on free ports of this machine."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.redis.cluster import ask, until
from tests.redis.server import RedisProcess

SERVICE = "quotas"
NOTICED = 500
"""Milliseconds after which the Sentinel counts a silent master as failed."""


class SentinelProcess(RedisProcess):
    """One Sentinel, which decides alone."""

    def __init__(self, master: RedisProcess) -> None:
        super().__init__()
        self._master = master

    def _words(self) -> list[str]:
        file = Path(self._folder.name, "sentinel.conf")  # Sentinels write into their file
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder.name}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._master.port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {NOTICED}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        file.write_text("\n".join(lines) + "\n", "utf-8")
        return [str(file), "--sentinel"]


class Watched:
    """A service: a master with one replica, and the Sentinel."""

    def __init__(self) -> None:
        fast = "--repl-diskless-sync-delay", "0"
        first = RedisProcess(*fast)
        self.nodes: list[RedisProcess] = [first, RedisProcess(*fast, "--replicaof", "127.0.0.1", str(first.port))]
        self.sentinel: SentinelProcess = SentinelProcess(first)

    @property
    def url(self) -> str:
        """The service's URL. The first of its Sentinels never runs: the next one is asked."""
        return f"redis+sentinel://127.0.0.1:1,127.0.0.1:{self.sentinel.port}/{SERVICE}"

    def start(self) -> None:
        """Start all, and wait until the Sentinel knows the replica, and the replica is in step."""
        for node in self.nodes:
            node.start()
        until(lambda: _in_step(self.nodes[1]))
        self.sentinel.start()
        until(lambda: len(ask(self.sentinel, "SENTINEL", "REPLICAS", SERVICE)) == 1)

    def master(self) -> RedisProcess:
        """The master that the Sentinel names."""
        _, port = ask(self.sentinel, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return next(node for node in self.nodes if node.port == int(port))

    def fail_over(self) -> None:
        """Have the Sentinel promote the replica, once it has what was written and the Sentinel knows it well enough."""
        master = self.master()
        written = ask(master, "ROLE")[1]
        until(lambda: all(ask(node, "ROLE")[4] >= written for node in self.nodes if node is not master))
        until(lambda: bool(ask(self.sentinel, "SENTINEL", "FAILOVER", SERVICE)))

    def promoted(self, before: RedisProcess) -> RedisProcess:
        """Wait until another node is the master, and return it."""
        until(lambda: self.master() is not before and ask(self.master(), "ROLE")[0] == "master")
        return self.master()

    def close(self) -> None:
        """Leave nothing behind."""
        for process in (self.sentinel, *self.nodes):
            process.close()


@contextmanager
def watched() -> Iterator[Watched]:
    """A service that serves."""
    service = Watched()
    try:
        service.start()
        yield service
    finally:
        service.close()


def clients(server: RedisProcess) -> int:
    """How many connections a server or a Sentinel has, without the one that asks."""
    return len([row for row in ask(server, "CLIENT", "LIST").splitlines() if "cmd=client" not in row])


async def closed(server: RedisProcess, before: int) -> None:
    """Wait until no more connections are open than before."""
    limit = time.monotonic() + 60.0
    while clients(server) > before:
        assert time.monotonic() < limit, ask(server, "CLIENT", "LIST")
        await asyncio.sleep(0.02)


def _in_step(replica: RedisProcess) -> bool:
    return bool(ask(replica, "ROLE")[3] == "connected")
