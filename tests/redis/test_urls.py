"""The URLs of Redis: what is wrong with one is said without showing any of it, which may be a password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio.connection import SSLConnection

from recall_async import ConfigurationError
from recall_async.jobs import JobQueue
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.connect import cluster_connect, cluster_of, redis_connect
from recall_async.limits.redis.slots import Address

QUOTED = "must be quoted as %"
WRONG = {
    "redis+cluster://": "separated by commas",
    "redis+cluster://hunter2:0": "host 1 is not valid",
    "redis+cluster://one,hunter2:65536": "host 2 is not valid",
    "redis+cluster://one:7,hunter2:x": "host 2 is not valid",
    "redis+cluster://hunter2,": "host 2 is not valid",
    "redis+cluster://::1": "host 1 is not valid",
    "redis+cluster://user:hunter2/more@one:7": QUOTED,
    "redis+cluster://user:hunter2?more@one:7": QUOTED,
    "redis+cluster://user:hunter2#more@one:7": QUOTED,
    "redis+cluster://one#hunter2": QUOTED,
    "redis+cluster://user:hunter2@one/1": "only database 0",
    "redis+cluster://user:hunter2@one/x": "only database 0",
    "redis+cluster://user:hunter2@one?db=1": "only database 0",
    "redis+sentinel://hunter2": "^url must name the service",
    "redis+sentinel://hunter2/": "^url must name the service",
    "redis+sentinel://hunter2//0": "^url must name the service",
    "redis+sentinel://hunter2/name/x": "must have a whole number",
    "redis+sentinel://hunter2/name/1/2": "must have a whole number",
    "redis+sentinel://hunter2:x/name": r"as in redis\+sentinel://host:26379,host2:26379/service",
    "rediss+sentinel://user:hunter2#more@one/name": QUOTED,
    "redis+sentinel://one/name?socket_timeout=hunter2": "socket_timeout",
    "redis://user:hunter2/more@one:7": QUOTED,
    "redis://user:hunter2?more@one:7": QUOTED,
    "redis://user:hunter2#more@one:7": QUOTED,
    "redis://:123#hunter2@one": QUOTED,
    "redis://user:hunter2@one:65536": "65535",
    "redis://user:hunter2@one:x": QUOTED,
    "redis+other://user:hunter2@one": "redis://",
    "redis+cluster:/hunter2": "redis://",
    "http://user:hunter2@one": r"^url must begin with redis://, rediss://, unix://, redis\+sentinel://, "
    r"rediss\+sentinel://, redis\+cluster:// or rediss\+cluster://, got 'http://'$",
    "user:hunter2@one:6379": r"^url must begin with .* got no scheme$",
    "rediss://[hunter2": QUOTED,
    "redis://:hunter2@one?no_such_option=1": r"^url and options must be .* 'no_such_option'",
    "rediss://:hunter2@one?ssl_cert_reqs=some": r"^url and options must be ",
    "rediss+cluster://:hunter2@one?ssl_cert_reqs=some": r"^url and options must be ",
    None: r"^url must be a URL such as redis://host:6379/0, got None",
}


@pytest.mark.parametrize("url", WRONG)
@pytest.mark.parametrize("make", [RedisQuotaStore.from_url, JobQueue.from_url], ids=["store", "queue"])
def test_wrong_urls_are_explained_without_their_text(make: Callable[[str], Any], url: str) -> None:
    """Would show a password, or connect to what the URL does not say."""
    with pytest.raises(ConfigurationError, match=WRONG[url]) as raised:
        make(url)
    assert "hunter2" not in str(raised.value)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


@pytest.mark.parametrize(
    ("url", "first"),
    [
        ("redis+cluster://one", [Address("one", 6379)]),
        ("REDIS+CLUSTER://one:7/0", [Address("one", 7)]),
        ("redis+cluster://u:p%23%2F@one:7,two", [Address("one", 7), Address("two", 6379)]),
        ("redis+cluster://[::1]:7000,[fe80::1]/", [Address("::1", 7000), Address("fe80::1", 6379)]),
        ("redis+cluster://one?db=0&socket_timeout=2", [Address("one", 6379)]),
    ],
)
async def test_hosts_of_a_cluster_are_asked_with_the_options(url: str, first: list[Address]) -> None:
    """Would lose a host, a port, the password or an option on the way."""
    cluster = cluster_of(url, client_name="me")
    assert list(cluster.first) == first
    given = cluster.connect(Address("elsewhere", 9)).connection_pool.connection_kwargs
    assert (given["host"], given["port"], given["client_name"]) == ("elsewhere", 9, "me")
    assert given.get("password") == ("p#/" if "u:p" in url else None)
    assert given.get("socket_timeout") == (2.0 if "timeout" in url else None)


async def test_sentinels_have_passwords_of_their_own() -> None:
    """Would send the password of the data to the Sentinels, or theirs to the master."""
    url = "redis+sentinel://user:mine@one,two:7/my%20service/3?sentinel_password=theirs&socket_timeout=2"
    pool: Any = redis_connect(url, client_name="me").connection_pool
    assert pool.service_name == "my service"
    given = pool.connection_kwargs
    assert (given["username"], given["password"], given["db"]) == ("user", "mine", 3)
    assert (given["socket_timeout"], given["client_name"]) == (2.0, "me")
    sentinels = [one.connection_pool.connection_kwargs for one in pool.sentinel_manager.sentinels]
    assert [(one["host"], one["port"]) for one in sentinels] == [("one", 26379), ("two", 7)]
    assert {one["password"] for one in sentinels} == {"theirs"}
    assert not any(one.get("username") for one in sentinels)


async def test_connections_of_a_url_with_tls_are_encrypted() -> None:
    """Would send passwords in clear text to the Sentinels, to the master or to the nodes of a cluster."""
    pool: Any = redis_connect("rediss+sentinel://:hunter2@one/service").connection_pool
    assert issubclass(pool.connection_class, SSLConnection)
    sentinels = [one.connection_pool for one in pool.sentinel_manager.sentinels]
    assert [issubclass(one.connection_class, SSLConnection) for one in sentinels] == [True]
    nodes = cluster_connect("rediss+cluster://:hunter2@one")
    (node,) = nodes.nodes_manager.startup_nodes.values()
    assert isinstance(node.acquire_connection(), SSLConnection)
    (node,) = cluster_connect("redis+cluster://one").nodes_manager.startup_nodes.values()
    assert not isinstance(node.acquire_connection(), SSLConnection)


@pytest.mark.parametrize("url", ["redis://one", "redis+sentinel://one/service", "http://one"])
def test_url_of_another_kind_is_no_cluster(url: str) -> None:
    """Would fail with an error of redis-py, or take one server for a cluster."""
    with pytest.raises(ConfigurationError, match="url must begin with"):
        cluster_connect(url)
    with pytest.raises(ConfigurationError, match="must not be that of a Redis Cluster"):
        redis_connect("redis+cluster://one")


OF_CLUSTERS: dict[str, Any] = {"require_full_coverage": True, "reinitialize_steps": 3}


@pytest.mark.parametrize("make", [RedisQuotaStore.from_url, JobQueue.from_url], ids=["store", "queue"])
def test_store_and_queue_take_the_same_options_of_a_cluster(make: Callable[..., Any]) -> None:
    """Would accept one URL, or one set of options, for the quota and refuse it for the jobs."""
    make("redis+cluster://one?retry_on_timeout=true", **OF_CLUSTERS)
    make("redis+cluster://one", retry_on_timeout=True)
    for name in OF_CLUSTERS:  # "false" would count as true
        with pytest.raises(ConfigurationError, match=name):
            make(f"redis+cluster://one?{name}=false")


def test_options_that_redis_does_not_know_are_refused() -> None:
    """Would fail in the first call, with a traceback of redis-py."""
    with pytest.raises(ConfigurationError, match="url and options must be as redis-py documents them"):
        cluster_connect("redis+cluster://one", no_such_option=1)
