"""Ports for the servers of tests that run in processes of their own."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator
from itertools import count

FIRST_PORT = 10_000
PORTS = 10_000  # the nodes of a cluster also use the ports 10,000 above their own
WORKERS = 16


def _ports() -> Iterator[int]:
    """Ports below those that systems give to connections, another range for each worker of pytest-xdist.

    A port that one test frees by killing its server must not go to another test's server: the client of the first would
    connect to it.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    first, many = FIRST_PORT + worker * PORTS // WORKERS, PORTS // WORKERS
    begun = random.SystemRandom().randrange(many)
    for number in count(begun):
        yield first + number % many


def is_free(port: int) -> bool:
    """Return true if nobody listens on a port, or did a moment ago."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody uses at this moment, and no other test will until this worker has used all of its ports."""
    return next(port for port in _unused if is_free(port))


_unused = _ports()
