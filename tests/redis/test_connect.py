"""What redis-py is given for a URL or a client: hosts, options, retries and the Sentinels. Nothing is connected."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff

from recall_async import ConfigurationError
from recall_async.limits.redis.connect import (
    SENTINEL_TIMEOUT,
    cluster_behind,
    cluster_connect,
    cluster_of,
    is_cluster,
    redis_connect,
)
from recall_async.limits.redis.slots import Address

SENTINELS = "redis+sentinel://one,two:7/service"


def given(client: Any) -> dict[str, Any]:
    """What the connections of a client are made with."""
    kwargs: dict[str, Any] = client.connection_pool.connection_kwargs
    return kwargs


def sentinels(client: Any) -> list[dict[str, Any]]:
    """What the connections to the Sentinels are made with."""
    return [given(sentinel) for sentinel in client.connection_pool.sentinel_manager.sentinels]


def retries(kwargs: dict[str, Any]) -> int:
    retry: Any = kwargs["retry"]
    count: int = retry.get_retries() if hasattr(retry, "get_retries") else retry._retries
    return count


async def test_redis_py_does_not_retry_by_itself() -> None:
    """Would repeat a script without the number that voids the first one, or hide an outage from those who wait."""
    behind = cluster_behind(RedisCluster(host="one", port=7))
    clients = [
        redis_connect("redis://one"),
        redis_connect(SENTINELS),
        cluster_of("redis+cluster://one").connect(Address("one", 6379)),
        behind.connect(Address("one", 7)),
    ]
    assert [retries(given(client)) for client in clients] == [0] * 4
    assert [retries(one) for one in sentinels(clients[1])] == [0, 0]
    assert retries(given(redis_connect("redis://one", retry=Retry(NoBackoff(), 3)))) == 3


async def test_each_port_and_no_other_is_taken() -> None:
    """Would refuse a server with the first or the last port."""
    for port in (1, 65535):
        assert list(cluster_of(f"redis+cluster://one:{port}").first) == [Address("one", port)]


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis+cluster://one", True),
        ("REDISS+Cluster://one", True),
        ("redis+sentinel://one/service", False),
        ("redis://one", False),
        (None, False),
    ],
)
def test_url_of_a_cluster_is_recognized(url: str, found: bool) -> None:
    """Would take a cluster for a single server, and be refused by the first node, or the other way round."""
    assert is_cluster(url) is found


async def test_options_of_a_url_and_of_the_program_reach_the_master_and_its_sentinels() -> None:
    """Would wait five seconds for each dead Sentinel, ask it without its password, or the master with it."""
    client = redis_connect(
        f"{SENTINELS}/?sentinel_username=watch&sentinel_password=&client_name=of+url&health_check_interval=7",
        client_name="of program",
        socket_timeout=9.0,
    )
    (one, two), master = sentinels(client), given(client)
    assert (one["socket_timeout"], one["socket_connect_timeout"]) == (SENTINEL_TIMEOUT, SENTINEL_TIMEOUT)
    assert (one["username"], one.get("password"), one.get("client_name")) == ("watch", None, None)
    assert [(each["host"], each["port"]) for each in (one, two)] == [("one", 26379), ("two", 7)]
    assert (master["client_name"], master["health_check_interval"], master["socket_timeout"]) == ("of url", 7, 9.0)
    assert (master.get("db", 0), master.get("username"), "host" in master) == (0, None, False)
    pool: Any = client.connection_pool
    assert (pool.service_name, pool.sentinel_manager.min_other_sentinels) == ("service", 0)
    assert not any("ssl" in name for name in {**one, **master})
    client = redis_connect(f"{SENTINELS}?username=data&password=mine")
    assert (given(client)["username"], given(client)["password"]) == ("data", "mine")
    assert [(each.get("username"), each.get("password")) for each in sentinels(client)] == [(None, None)] * 2
    client = redis_connect(
        SENTINELS, min_other_sentinels=2, sentinel_kwargs={"socket_timeout": 3.0, "password": "theirs"}
    )
    pool = client.connection_pool
    assert pool.sentinel_manager.min_other_sentinels == 2
    assert [(each["socket_timeout"], each["password"]) for each in sentinels(client)] == [(3.0, "theirs")] * 2
    assert given(client).get("password") is None


def test_dead_sentinel_is_passed_over_soon() -> None:
    """Would keep all calls waiting for a Sentinel that is away, when the master has changed."""
    assert 0.2 <= SENTINEL_TIMEOUT <= 0.5


async def test_certificates_count_for_the_sentinels_too() -> None:
    """Would not trust the Sentinels of a service whose master is trusted, or trust anybody."""
    client = redis_connect(f"rediss{SENTINELS.removeprefix('redis')}?ssl_ca_certs=/ours", ssl_check_hostname=False)
    pool: Any = client.connection_pool
    for each in (pool, *[sentinel.connection_pool for sentinel in pool.sentinel_manager.sentinels]):
        kwargs = each.connection_kwargs
        assert issubclass(each.connection_class, SSLConnection)
        assert (kwargs["ssl_ca_certs"], kwargs["ssl_check_hostname"]) == ("/ours", False)


async def test_connections_to_the_sentinels_are_closed_with_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would leave a connection to each Sentinel open when a store is closed, or close them while the master changes."""
    client = redis_connect(SENTINELS)
    pool: Any = client.connection_pool
    closed: list[int] = []

    class Watching:
        async def aclose(self) -> None:
            closed.append(id(self))

    pool.sentinel_manager.sentinels = [Watching(), Watching()]
    await pool.disconnect(inuse_connections=False)
    assert closed == []
    await pool.disconnect()
    assert closed == [id(one) for one in pool.sentinel_manager.sentinels]

    async def broken(pool: object, inuse_connections: bool = True) -> None:
        raise OSError("the master is gone")

    monkeypatch.setattr(SentinelConnectionPool, "disconnect", broken)
    with pytest.raises(OSError, match="gone"):
        await pool.disconnect()
    assert len(closed) == 4


async def test_nodes_are_reached_with_the_options_of_a_cluster_client() -> None:
    """Would connect to the nodes without the caller's password, TLS or addresses, or share the caller's connections."""
    seen: list[Any] = []

    def remap(address: tuple[str, int]) -> tuple[str, int]:
        seen.append(address)
        return "outside", address[1] + 1

    client = RedisCluster(
        startup_nodes=[ClusterNode("one", 7), ClusterNode("two", "8")],
        password="mine",
        client_name="me",
        ssl=True,
        max_connections=3,
        address_remap=remap,
    )
    cluster = cluster_behind(client)
    assert cluster.first == (Address("one", 7), Address("two", 8))
    for asked, reached in (("one", 7), ("one", 7)), (("two", 8), ("two", 8)), (("three", 9), ("outside", 10)):
        node: Any = cluster.connect(Address(*asked))
        kwargs = given(node)
        assert (kwargs["host"], kwargs["port"]) == reached
        assert (kwargs["password"], kwargs["client_name"]) == ("mine", "me")
        assert isinstance(node.connection_pool.make_connection(), SSLConnection)
        assert node.connection_pool.max_connections > 3
    assert seen == [("three", 9)]
    plain: Any = cluster_behind(RedisCluster(host="one", port=7)).connect(Address("one", 7))
    assert not isinstance(plain.connection_pool.make_connection(), SSLConnection)


async def test_addresses_of_a_cluster_url_are_remapped_but_for_those_of_the_url() -> None:
    """Would ask nodes behind a tunnel by the addresses that only they know, or lose the way to the first of them."""
    cluster = cluster_of(
        "redis+cluster://u:p@one:7,two?client_name=me", address_remap=lambda address: ("outside", address[1] + 1)
    )
    for asked, reached in (("one", 7), ("one", 7)), (("two", 6379), ("two", 6379)), (("three", 9), ("outside", 10)):
        kwargs = given(cluster.connect(Address(*asked)))
        assert (kwargs["host"], kwargs["port"], kwargs["client_name"]) == (*reached, "me")
    with pytest.raises(ConfigurationError, match="no_such_option"):
        cluster_of("redis+cluster://one", no_such_option=1)


async def test_client_of_a_cluster_url_has_its_hosts_and_options() -> None:
    """Would connect a queue to one host only, without the password, or with an option that the URL overrides."""
    client = cluster_connect(
        "redis+cluster://user:mine@one:7,two?client_name=of+url&max_connections=5",
        client_name="of program",
        socket_timeout=3.0,
    )
    manager: Any = client.nodes_manager
    assert [(node.host, node.port) for node in manager.startup_nodes.values()] == [("one", 7), ("two", 6379)]
    kwargs = client.connection_kwargs
    assert (kwargs["username"], kwargs["password"], kwargs["client_name"]) == ("user", "mine", "of url")
    assert kwargs["socket_timeout"] == 3.0
