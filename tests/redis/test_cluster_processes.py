"""Processes on one quota in a Redis Cluster against Django REST Framework's throttle, in real time, while nodes fail and
slots move: 3 processes with 8 tasks each, 60 requests in 6 s, delays of up to 0.2 s on either side.

These take real time because the server's clock and the nodes' are not ours to move. The scenarios run at the same time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.redis.cluster import ClusterProcess, ask, running_cluster
from tests.redis.processes import SLOTS, Worker
from tests.redis.test_processes import LEASE, LIMIT, PER
from tests.referee.drf_server import referee

pytestmark = pytest.mark.slow

SLOT = ClusterProcess.slot_of(SLOTS)
NOTICED = 8.0
"""Seconds until a failed master has been replaced, and everybody has noticed, on a machine with other work to do."""


class Run(NamedTuple):
    """How a scenario went."""

    server: dict[str, int]
    calls: list[dict[str, Any]]
    errors: list[dict[str, Any]]


Course = Callable[[ClusterProcess], None]


def scenario(seconds: float, course: Course) -> Run:
    with running_cluster() as cluster, referee(limit=LIMIT, per=PER, delay=0.2, slow=0.03) as server:
        options = "--seconds", str(seconds), "--tasks", "8"
        workers = [Worker(cluster, server.url, *options) for _ in range(3)]
        while not server.report()["accepted"]:
            time.sleep(0.1)
        time.sleep(3)
        course(cluster)
        lines = [line for worker in workers for line in worker.lines()]
        errors = [line for line in lines if "error" in line or line.get("throttled")]
        return Run(server.report(), [line for line in lines if "waited" in line], errors)


def a_master_dies(cluster: ClusterProcess) -> None:
    cluster.owner(SLOTS).kill()


def a_master_sleeps(cluster: ClusterProcess) -> None:
    master = cluster.owner(SLOTS)
    master.freeze()  # it keeps its connections, and wakes up after its replica has taken over
    time.sleep(6)
    master.thaw()


def a_replica_is_promoted(cluster: ClusterProcess) -> None:
    ask(cluster.replica_of(cluster.owner(SLOTS)), "CLUSTER", "FAILOVER")


def a_node_is_added(cluster: ClusterProcess) -> None:
    node = cluster.add()
    for slot in range(SLOT - 20, SLOT + 20):
        cluster.move(slot, cluster.owner_of(slot), node)


SCENARIOS: dict[str, Course] = {
    "a master dies": a_master_dies,
    "a master sleeps, and wakes up as a replica": a_master_sleeps,
    "a replica is promoted": a_replica_is_promoted,
    "a node is added, and slots are moved to it": a_node_is_added,
}


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, Future[Run]]]:
    with ThreadPoolExecutor(2) as threads:
        yield {name: threads.submit(scenario, 3 + NOTICED + LEASE, course) for name, course in SCENARIOS.items()}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nobody_is_rejected_and_calls_wait_for_a_lease_at_most(name: str, runs: dict[str, Future[Run]]) -> None:
    """Would overrun the quota when another node takes over, or leave calls waiting."""
    run = runs[name].result()
    assert run.server["rejected"] == 0
    assert run.server["peak"] <= LIMIT
    assert run.errors == []
    assert run.server["accepted"] > LIMIT
    assert max(call["waited"] for call in run.calls) <= LEASE + PER + NOTICED
