"""The web backends of the documentation, as processes of their own, against a sandbox."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from recall_async.sandbox import RecallSandbox
from tests.ports import free_port
from tests.redis.conftest import shared_redis

__all__ = ["shared_redis"]
DOCS = Path(__file__).parents[2] / "docs"
SECRET = "whsec_c2VjcmV0LW9mLXRoaXMtZXhhbXBsZQ=="
SECONDS_TO_STOP = 30


def program(page: str, heading: str = "") -> str:
    """The first program of a page of the documentation, or the first below a heading of it."""
    text = (DOCS / page).read_text()
    if heading:
        text = text.partition(f"\n## {heading}\n")[2]
    found = re.search(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert found is not None
    return found[1]


@pytest.fixture
def serve(tmp_path: Path, recall_sandbox: RecallSandbox) -> Callable[..., object]:
    """Serves a program, which is written to `backend.py`, with a command in which `{port}` stands for its port."""

    @contextmanager
    def serving(source: str, *command: str, **settings: str) -> Iterator[str]:
        (tmp_path / "backend.py").write_text(source)
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RECALL_")}
        environment |= {
            "RECALL_API_KEY": recall_sandbox.api_key,
            "RECALL_BASE_URL": recall_sandbox.url,
            "RECALL_WEBHOOK_SECRET": SECRET,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(DOCS.parent)]),
            **settings,
        }
        words = [sys.executable, *(word.replace("{port}", str(port)) for word in command)]
        with subprocess.Popen(words, env=environment, cwd=tmp_path, start_new_session=True) as process:
            try:
                _wait_for(port, process)
                yield f"http://127.0.0.1:{port}"
                process.terminate()
                assert process.wait(SECONDS_TO_STOP) in (0, -signal.SIGTERM), "it did not stop well"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)

    return serving


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, "the backend ended by itself"
        assert time.monotonic() < deadline, "the backend does not serve"
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
