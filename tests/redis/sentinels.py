"""A master, its replica and a Sentinel that watches them, as child processes on free ports of this machine."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.redis.cluster import ask, until
from tests.redis.server import RedisProcess

SERVICE = "quotas"
NOTICED = 500
"""Milliseconds after which the Sentinel counts a silent master as failed."""


DATA = Path(__file__).parents[1] / "data"
AUTHORITY = DATA / "localhost-ca.pem"
"""Signs the certificate of localhost, which these servers have."""


def tls_executable() -> str | None:
    """A `redis-server` of the PATH that is built with TLS."""
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if (path := shutil.which("redis-server", path=folder)) is not None:
            words = [path, "--port", "0", "--tls-port", "1", "--tls-cert-file", "/none", "--tls-key-file", "/none"]
            tried = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
            if "Failed to configure TLS" in tried.stdout:  # the files do not exist; without TLS, it is the option
                return path
    return None


def tls_options() -> list[str]:
    """What makes a server listen with TLS, too, and talk to others with TLS only."""
    both = str(DATA / "localhost.pem")
    files = ["--tls-cert-file", both, "--tls-key-file", both, "--tls-ca-cert-file", str(AUTHORITY)]
    return [*files, "--tls-auth-clients", "no", "--tls-replication", "yes", "--tls-port", str(free_port())]


class SentinelProcess(RedisProcess):
    """One Sentinel, which decides alone. `master_port`: where it, and those who ask it, reach the master."""

    def __init__(self, master_port: int, tls: list[str], path: str | None) -> None:
        super().__init__(path=path)
        self._master_port = master_port
        self._tls = tls

    def _words(self) -> list[str]:
        file = Path(self._folder.name, "sentinel.conf")  # Sentinels write into their file
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self._folder.name}",
            *[
                f"{name.removeprefix('--')} {value}"
                for name, value in zip(self._tls[::2], self._tls[1::2], strict=True)
            ],
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._master_port} 1",
            f"sentinel down-after-milliseconds {SERVICE} {NOTICED}",
            f"sentinel failover-timeout {SERVICE} 3000",
        ]
        file.write_text("\n".join(lines) + "\n", "utf-8")
        return [str(file), "--sentinel"]


class Watched:
    """A service: a master with one replica, and the Sentinel."""

    def __init__(self, *, tls: bool = False) -> None:
        fast = "--repl-diskless-sync-delay", "0"
        path = tls_executable() if tls else None
        secure = [tls_options() if tls else [] for _ in range(3)]
        first = RedisProcess(*fast, *secure[0], path=path)
        port = int(secure[0][-1]) if tls else first.port
        second = RedisProcess(*fast, *secure[1], "--replicaof", "127.0.0.1", str(port), path=path)
        self.nodes: list[RedisProcess] = [first, second]
        self.sentinel: SentinelProcess = SentinelProcess(port, secure[2], path)
        self._ports = {port: first, int(secure[1][-1]) if tls else second.port: second}
        self._sentinel_port = int(secure[2][-1]) if tls else self.sentinel.port
        self._tls = tls

    @property
    def url(self) -> str:
        """The service's URL. The first of its Sentinels never runs: the next one is asked."""
        scheme, query = ("rediss", f"?ssl_ca_certs={AUTHORITY}") if self._tls else ("redis", "")
        return f"{scheme}+sentinel://127.0.0.1:1,127.0.0.1:{self._sentinel_port}/{SERVICE}{query}"

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
        return self._ports[int(port)]

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
def watched(*, tls: bool = False) -> Iterator[Watched]:
    """A service that serves."""
    service = Watched(tls=tls)
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
