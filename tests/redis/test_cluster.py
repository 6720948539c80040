"""Quotas in a Redis Cluster: each is kept by one node, and lanes follow it wherever it goes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator

import pytest
from click.testing import CliRunner
from redis.asyncio import Redis, RedisCluster

from recall_async import Quota, QuotaStoreUnavailableError
from recall_async.cli.app import app
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.scripts import Keys
from recall_async.limits.redis.slots import slot_of
from recall_async.operations import OPERATIONS
from tests.redis.cluster import ClusterProcess, ask, half_moved, until
from tests.redis.opened import OPERATION, OpenLane, answered, impatient, opened
from tests.redis.server import RedisProcess

pytestmark = pytest.mark.xdist_group("redis cluster")

QUOTA = Quota(10, 0.5, burst=10)
LEASE = 0.5 + 0.3 + 0.2
"""What the leases of these tests last: longest request, handover, window."""


@pytest.fixture
def cluster(shared_cluster: ClusterProcess) -> ClusterProcess:
    return shared_cluster


@pytest.fixture
async def process(cluster: ClusterProcess, prefix: str) -> AsyncIterator[OpenLane]:
    """Opens lanes as further processes would, with short leases."""
    with impatient(grant_max_age=0.2, outage_timeout=1.0):
        async with opened(cluster.url, prefix=prefix, longest_request=0.3) as start:
            yield start


def key_of(prefix: str, workspace: str = "w") -> str:
    return Keys(prefix, workspace, OPERATION).slots


async def held(node: RedisProcess, prefix: str) -> None:
    """Wait until a node that knew nothing of the quota has been told."""
    limit = time.monotonic() + 60.0
    while not ask(node, "EXISTS", Keys(prefix, "w", OPERATION).state):
        assert time.monotonic() < limit
        await asyncio.sleep(0.02)


async def test_quotas_are_spread_over_the_nodes_and_each_is_kept(
    cluster: ClusterProcess, process: OpenLane, prefix: str
) -> None:
    """Would send all quotas to one node, or count one of them twice."""
    store = RedisQuotaStore.from_url(cluster.url, prefix=prefix, longest_request=0.3)
    workspaces = [f"workspace{number}" for number in range(12)]
    nodes = {cluster.owner(key_of(prefix, workspace)).port for workspace in workspaces}
    assert len(nodes) == 3

    async def use(workspace: str) -> list[float]:
        lanes = [process(QUOTA, workspace, store), process(QUOTA, workspace)]
        return sorted(await asyncio.gather(*(answered(lanes[number % 2]) for number in range(25))))

    for times in await asyncio.gather(*map(use, workspaces)):
        assert times[10] - times[0] >= 0.5
        assert times[20] - times[0] >= 1.0
    usage = await store.usage("workspace3")
    assert usage[OPERATION].quota == Quota(10, 0.5)
    assert len(usage) > 3


async def test_the_callers_client_lends_its_options_and_stays_open(cluster: ClusterProcess, prefix: str) -> None:
    """Would close what is the caller's, leave open what is ours, or know a cluster only by its URL."""
    async with RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port, decode_responses=True) as client:
        store = RedisQuotaStore(client, prefix=prefix)
        lane = store.open("w", OPERATION, QUOTA)
        await answered(lane)
        assert (await store.usage("w"))[OPERATION].taken == 1
        lane.leave(QUOTA)
        await lane.flush()
        assert await client.zcard(key_of(prefix)) == 1
        assert [task.get_name() for task in asyncio.all_tasks() if "recall_async" in task.get_name()] == []
    # A node learns a little later that a connection was closed. Two remain: this one, and that of the node's replica.
    until(
        lambda: max(int(ask(node, "INFO", "clients")["connected_clients"]) for node in cluster.nodes) <= 2, within=60.0
    )


async def test_a_slot_that_has_moved_is_followed(cluster: ClusterProcess, process: OpenLane, prefix: str) -> None:
    """Would fail calls with MOVED, send them to the old node for ever, or forget what the old node had granted."""
    loop, key = asyncio.get_running_loop(), key_of(prefix)
    lane, other = process(QUOTA), process(QUOTA)
    slots = [await lane.admit() for _ in range(10)]
    await answered(process(QUOTA, "elsewhere"))
    moved = loop.time()
    with half_moved(cluster, key):
        pass
    again = await answered(other)
    assert again - moved >= LEASE - 0.1
    for slot in slots:
        slot.answered()
    await answered(lane)
    assert len(ask(cluster.owner(key), "ZRANGE", key, 0, -1)) > 0


async def test_keys_that_are_at_the_next_node_already_are_asked_for_there(
    cluster: ClusterProcess, process: OpenLane, prefix: str
) -> None:
    """Would not send ASKING, send it for other commands, or take ASK for a move of the whole slot."""
    key = key_of(prefix)
    lane, neighbour = process(QUOTA), process(QUOTA, "elsewhere")
    await answered(lane)
    everything = [
        getattr(Keys(prefix, "w", OPERATION), name) for name in ("slots", "state", "fences", "shares", "promise")
    ]
    # A quota that lacks none of its keys, as one that bulk calls use: of the others, nodes say TRYAGAIN.
    for name in everything:
        if not ask(cluster.owner(key), "EXISTS", name):
            words = ("RPUSH", name, b"\0" * 16) if name.endswith("promise") else ("HSET", name, "nobody", 0)
            ask(cluster.owner(key), *words)
    with half_moved(cluster, key) as (source, target):
        ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *everything)
        await asyncio.gather(*(answered(lane) for _ in range(3)))
        await answered(neighbour)
        assert not set(ask(source, "CLUSTER", "GETKEYSINSLOT", slot_of(key), 1000)) & set(everything)
    await answered(lane)


async def test_a_quota_of_which_only_some_keys_have_moved_waits_alone(
    cluster: ClusterProcess, process: OpenLane, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Would stop all quotas of the node, drop its connection, or split a quota between two nodes."""
    key = key_of(prefix)
    lane, neighbours = process(QUOTA), [process(QUOTA, f"neighbour{number}") for number in range(6)]
    await answered(lane)
    with half_moved(cluster, key) as (source, target):
        ask(source, "MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        with pytest.raises(QuotaStoreUnavailableError, match=r"TRYAGAIN: the hash slot is being moved"):
            await answered(lane, within=1.1)
        patient = asyncio.create_task(answered(lane))
        for _ in range(3):
            await asyncio.gather(*(answered(neighbour) for neighbour in neighbours))
        assert not patient.done()
    await patient
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_replica_that_takes_over_is_found(cluster: ClusterProcess, process: OpenLane, prefix: str) -> None:
    """Would stay with the old master, or grant again what it had granted: a replica may lack the last slots."""
    loop, key = asyncio.get_running_loop(), key_of(prefix)
    lane, other = process(QUOTA), process(QUOTA)
    slots = [await lane.admit() for _ in range(10)]
    (await process(QUOTA, "elsewhere").admit()).answered()
    master = cluster.owner(key)
    replica = cluster.replica_of(master)
    now = loop.time()
    ask(replica, "CLUSTER", "FAILOVER")
    await asyncio.to_thread(until, lambda: cluster.owner(key) is replica)
    assert await answered(other) - now >= LEASE
    for slot in slots:
        slot.unused()
    await asyncio.to_thread(cluster.settled)


async def test_a_process_that_asks_for_nothing_tells_the_replica_what_it_holds(
    cluster: ClusterProcess, process: OpenLane, prefix: str
) -> None:
    """Would let newcomers use again what a process holds that says nothing, if the replica has not heard of it."""
    key = key_of(prefix)
    holder = process(QUOTA, longest_request=3.0)  # a lease that outlasts the failover on a busy machine
    slots = [await holder.admit() for _ in range(10)]
    master = cluster.owner(key)
    replica = cluster.replica_of(master)
    ask(replica, "CLUSTER", "FAILOVER")
    await asyncio.to_thread(until, lambda: cluster.owner(key) is replica)
    for name in ask(replica, "KEYS", f"{prefix}:*"):
        ask(replica, "DEL", name)  # as if no write had reached it
    now = asyncio.get_running_loop().time()
    # The holder has nothing to send; it notices within two beats, and creates the quota anew, held.
    await held(replica, prefix)
    assert await answered(process(QUOTA)) - now >= LEASE
    for slot in slots:
        slot.answered()
    await asyncio.to_thread(cluster.settled)


async def test_flush_of_one_node_is_noticed(cluster: ClusterProcess, process: OpenLane, prefix: str) -> None:
    """Would look for the mark of a node's data on another node."""
    key = key_of(prefix)
    lane = process(QUOTA)
    slots = [await lane.admit() for _ in range(10)]
    ask(cluster.owner(key), "FLUSHALL")
    await held(cluster.owner(key), prefix)
    for slot in slots:
        slot.answered()


async def test_a_cluster_that_is_away_is_waited_for(prefix: str) -> None:
    """Would fail calls at once, or not say what is wrong."""
    async with opened("redis+cluster://127.0.0.1:1,127.0.0.1:2") as start:
        with pytest.raises(QuotaStoreUnavailableError, match=r"has not answered for \d\.\d s \(.*127\.0\.0\.1:[12]"):
            await answered(start(QUOTA), within=1.2)
    with pytest.raises(QuotaStoreUnavailableError, match="does not answer"):
        await RedisQuotaStore.from_url("redis+cluster://127.0.0.1:1").usage("w")


async def test_a_cluster_that_refuses_the_password_is_not_waited_for(cluster: ClusterProcess, prefix: str) -> None:
    """Would let all calls wait for their deadlines, as in an outage."""
    store = RedisQuotaStore.from_url(cluster.url.replace("://", "://nobody:wrong@"), prefix=prefix)
    lane = store.open("w", OPERATION, QUOTA)
    async with asyncio.timeout(60.0):
        with pytest.raises(QuotaStoreUnavailableError, match="password"):
            await lane.admit()
        with pytest.raises(QuotaStoreUnavailableError, match=r"Redis refuses: .*password"):
            await store.usage("w")
    lane.leave(QUOTA)
    await lane.flush()


async def test_a_server_that_is_no_cluster_is_named(shared_redis: RedisProcess) -> None:
    """Would wait for ever for a cluster that is none."""
    async with opened(f"redis+cluster://127.0.0.1:{shared_redis.port}") as start:
        with pytest.raises(QuotaStoreUnavailableError, match=r"not a node of a Redis Cluster\. Use a redis:// URL"):
            await answered(start(QUOTA))


async def test_one_node_given_as_a_single_server_says_so(cluster: ClusterProcess, prefix: str) -> None:
    """Would leave the user alone with MOVED."""
    key = key_of(prefix)
    wrong = next(node for node in cluster.masters() if node is not cluster.owner(key))
    async with opened(wrong.url, prefix=prefix) as start:
        with pytest.raises(QuotaStoreUnavailableError, match=r"Use a redis\+cluster:// URL"):
            await answered(start(QUOTA))


async def test_keys_have_the_same_slot_everywhere(cluster: ClusterProcess) -> None:
    """Would compute other slots than the cluster."""
    async with Redis.from_url(cluster.nodes[0].url) as client:
        for workspace in ("w", "a b", "ä{}/", "x" * 200):
            key = Keys("recall", workspace, OPERATION).slots
            assert await client.execute_command("CLUSTER", "KEYSLOT", key) == slot_of(key)  # type: ignore[no-untyped-call]


def test_the_command_line_shows_a_quota_of_the_cluster(cluster: ClusterProcess, prefix: str) -> None:
    """Would know the URLs of clusters in the library only, or ask one node for all quotas."""

    async def use() -> None:
        async with opened(cluster.url, prefix=prefix) as start:
            await answered(start(QUOTA))

    asyncio.run(use())
    options = ["--redis", cluster.url, "--prefix", prefix, "--workspace", "w"]
    shown = CliRunner().invoke(app, ["quota", *options, "--json"])
    assert shown.exit_code == 0, shown.output
    document = json.loads(shown.stdout)
    assert document[OPERATION]["taken"] == 1
    assert set(document) == set(OPERATIONS)
    assert CliRunner().invoke(app, ["quota", *options, "--resume"]).stdout == "no operation of workspace w was paused\n"
    jobs = CliRunner().invoke(app, ["jobs", "list", *options, "--json"])
    assert (jobs.exit_code, jobs.stdout) == (0, "[]\n")


@pytest.mark.parametrize("command", [["quota"], ["jobs", "list"]])
def test_the_command_line_refuses_a_wrong_url(command: list[str]) -> None:
    """Would end in a traceback, or show the password."""
    result = CliRunner().invoke(app, [*command, "--redis", "redis+cluster://user:hunter2@one/1"])
    assert result.exit_code == 2
    assert "only database 0" in result.stderr
    assert "hunter2" not in result.output
