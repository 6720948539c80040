"""Servers for the tests of what lives in Redis."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.redis.cluster import ClusterProcess, running_cluster
from tests.redis.server import RedisProcess

_names = itertools.count()


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisProcess]:
    """One server for all tests that do it no harm; each uses a `prefix` of its own."""
    server = RedisProcess()
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[ClusterProcess]:
    """A cluster for all tests that leave it as they found it. Its tests have `xdist_group("redis cluster")`."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def prefix() -> str:
    """What the names of this test's keys begin with."""
    return f"test{next(_names)}"


@pytest.fixture
def own_redis() -> Iterator[Callable[..., RedisProcess]]:
    """Starts servers of the test's own, with options."""
    servers: list[RedisProcess] = []

    def start(*options: str, path: str | None = None) -> RedisProcess:
        servers.append(RedisProcess(*options, path=path))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.close()
