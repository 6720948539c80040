"""Servers and measurements in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
_ADDRESS = re.compile(r"https?://127\.0\.0\.1:\d+")


@contextmanager
def serving(module: str, *arguments: str) -> Iterator[str]:
    """The address of `python -m module arguments`, which prints it when it listens; the server ends with the block."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            for line in server.stdout:
                if found := _ADDRESS.search(line):
                    yield found[0]
                    return
            raise RuntimeError(f"{module} ended without an address")
        finally:
            server.kill()


def told(address: str, path: str) -> Any:
    """The JSON that a server of ours tells about itself there."""
    with urllib.request.urlopen(f"{address}/{path}") as answer:
        return json.load(answer)


def measured(module: str, *arguments: str, trusts: Path | None = None) -> Any:
    """The JSON that `python -m module arguments` prints: a measurement in an interpreter of its own.

    `trusts` is the certificate of an authority that it trusts in place of the system's.
    """
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, **({"SSL_CERT_FILE": str(trusts)} if trusts else {})}
    ran = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True, env=environment)
    return json.loads(ran.stdout)
