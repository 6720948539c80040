"""Connect to Redis by its URL: one server, the master that Sentinels name, or a cluster.

| URL | what it names |
| --- | --- |
| `redis://user:password@host:6379/0` | one server; `rediss://` with TLS, `unix:///path` for a socket |
| `redis+sentinel://user:password@host:26379,host2:26379/service/0` | the master of a service that Sentinels watch |
| `redis+cluster://user:password@host:6379,host2:6379` | a Redis Cluster: the hosts are those to ask first |

`rediss+sentinel://` and `rediss+cluster://` use TLS. The part behind `?` has options of redis-py. The Sentinels have
user names and passwords of their own: `?sentinel_username=...&sentinel_password=...`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode

from redis.asyncio import ConnectionPool, Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from ... import checks
from ...errors import ConfigurationError
from .failures import without_sentinels
from .nodes import Cluster
from .slots import Address

SENTINEL_TIMEOUT = 0.5
"""Seconds to wait for a Sentinel before the next one is asked."""

_SCHEME = re.compile(r"(rediss?)\+(cluster|sentinel)://", re.IGNORECASE)
_SCHEMES = (
    "redis://", "rediss://", "unix://", "redis+sentinel://", "rediss+sentinel://", "redis+cluster://", "rediss+cluster://",
)  # fmt: skip
_HOST = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\s:,@/\[\]]+))(?::(?P<port>\d{1,5}))?")
_QUOTED = "the password has characters that must be quoted as %XX"
_OF_NODES = {"host", "port", "path", "db", "startup_nodes", "connection_class", "max_connections"}
_OF_CLUSTERS = {
    "require_full_coverage", "cluster_error_retry_attempts", "connection_error_retry_attempts", "reinitialize_steps",
    "read_from_replicas", "load_balancing_strategy", "dynamic_startup_nodes", "policy_resolver",
}  # fmt: skip
"""Options of redis-py's client of a cluster that concern no connection. The store follows slots itself and needs none."""
_NOT_OF_CONNECTIONS = {"max_connections", "connection_class", "response_callbacks", "redis_connect_func", "retry"} | {
    "parser_class", "himport_registry", "event_dispatcher", "maint_notifications_config",
}  # fmt: skip


class Place(NamedTuple):
    """What a URL with several hosts says."""

    tls: bool
    kind: str
    """`cluster` or `sentinel`."""
    hosts: list[Address]
    user: str
    """What stands before the hosts, with its `@`; empty if nothing."""
    path: str
    query: str

    def url_of(self, address: Address, db: str = "") -> str:
        """Return the URL of one server."""
        query = f"?{self.query}" if self.query else ""
        return f"{'rediss' if self.tls else 'redis'}://{self.user}{address}/{db}{query}"


def redis_connect(url: str, **options: Any) -> Redis:
    """Return a client that connects on first use; `options` are redis-py's.

    The client does not retry: its users do, and log it. Raises `ConfigurationError` for an invalid URL or option, and
    for the URL of a cluster.
    """
    place = _place(checks.instance("url", url, str, "a URL such as redis://host:6379/0"))
    options = {"retry": Retry(NoBackoff(), 0), **options}
    try:
        if place is None:
            client: Redis = Redis.from_url(url, **options)
        elif place.kind == "sentinel":
            client = _sentinel_connect(place, options)
        else:
            raise ConfigurationError("url must not be that of a Redis Cluster, which a store or a queue takes")
        pool: Any = client.connection_pool
        pool.make_connection()
    except (ValueError, TypeError, RedisError) as error:
        raise _refused(url, error) from None
    return client


def is_cluster(url: str) -> bool:
    """True if the URL is that of a Redis Cluster."""
    found = _SCHEME.match(url) if isinstance(url, str) else None
    return found is not None and found[2].lower() == "cluster"


def cluster_of(url: str, **options: Any) -> Cluster:
    """Return how to reach the cluster of a URL; `options` are redis-py's. Raises `ConfigurationError`."""
    place = _cluster_place(url)
    remap: Callable[[Any], Any] | None = options.pop("address_remap", None)
    options = {name: value for name, value in options.items() if name not in _OF_CLUSTERS}

    def connect(address: Address) -> Redis:
        return redis_connect(place.url_of(_remapped(address, place.hosts, remap)), **options)

    connect(place.hosts[0])  # raises for invalid options
    return Cluster(place.hosts, connect)


def cluster_behind(client: RedisCluster) -> Cluster:
    """Return how to reach the cluster of a client: through connections of our own, with the client's options."""
    manager: Any = client.nodes_manager
    given: dict[str, Any] = dict(client.connection_kwargs)
    kind = given.get("connection_class", Connection)
    options = {name: value for name, value in given.items() if name not in _NOT_OF_CONNECTIONS}
    first = [Address(node.host, int(node.port)) for node in manager.startup_nodes.values()]

    def connect(address: Address) -> Redis:
        host, port = _remapped(address, first, manager.address_remap)
        return Redis.from_pool(
            ConnectionPool(connection_class=kind, host=host, port=port, retry=Retry(NoBackoff(), 0), **options)
        )

    return Cluster(first, connect)


def cluster_connect(url: str, **options: Any) -> RedisCluster:
    """Return redis-py's client of the cluster of a URL; `options` are redis-py's. Raises `ConfigurationError`."""
    place = _cluster_place(url)
    try:
        parsed: dict[str, Any] = dict(parse_url(place.url_of(place.hosts[0])))
        if parsed.pop("connection_class", None) is SSLConnection:
            parsed["ssl"] = True
        if unread := sorted(_OF_CLUSTERS & parsed.keys()):
            raise TypeError(f"{unread[0]} must be an option, not in the URL, which redis-py reads as text")
        settings = {**options, **{name: value for name, value in parsed.items() if name not in _OF_NODES}}
        settings.pop("retry_on_timeout", None)  # a cluster's client always does
        nodes = [ClusterNode(host, port) for host, port in place.hosts]
        client = RedisCluster(startup_nodes=nodes, **settings)
        node: Any = nodes[0]
        type(node)(node.host, node.port, **client.connection_kwargs).acquire_connection()
    except (ValueError, TypeError, OSError, RedisError, RedisClusterException) as error:
        raise _refused(url, error) from None
    return client


def _refused(url: str, error: Exception) -> ConfigurationError:
    """Return the error for a URL or options that redis-py does not accept. It shows no part of a password."""
    if isinstance(error, ConfigurationError):
        return error
    scheme = re.match(r"[a-z][a-z0-9+.-]*://", url, re.IGNORECASE)
    if scheme is None or scheme[0].lower() not in _SCHEMES:
        got = checks.shown(scheme[0]) if scheme else "no scheme"
        return ConfigurationError(f"url must begin with {', '.join(_SCHEMES[:-1])} or {_SCHEMES[-1]}, got {got}")
    # An error about the host or the port quotes what precedes a slash, which may be part of a password.
    if isinstance(error, ValueError) and not str(error).startswith("Invalid value for "):
        return ConfigurationError(
            f"url must be such as redis://user:password@host:6379/0: the host or the port (at most 65535) is not valid, or "
            f"{_QUOTED}"
        )
    return ConfigurationError(f"url and options must be as redis-py documents them, got: {error}")


def _cluster_place(url: str) -> Place:
    place = _place(url)
    if place is None or place.kind != "cluster":
        raise ConfigurationError("url must begin with redis+cluster:// or rediss+cluster://")
    databases = [value for name, value in parse_qsl(place.query) if name == "db"]
    if any(db not in ("", "0") for db in (place.path.strip("/"), *databases)):
        raise ConfigurationError("url must not name a database: a Redis Cluster has only database 0")
    return place


def _sentinel_connect(place: Place, options: dict[str, Any]) -> Redis:
    service, _, db = place.path.removeprefix("/").removesuffix("/").partition("/")
    if not service:
        raise ConfigurationError(
            "url must name the service that the Sentinels watch, as in redis+sentinel://host:26379/service"
        )
    if db and not db.isdecimal():
        raise ConfigurationError(
            "url must have a whole number as the database, as in redis+sentinel://host:26379/service/0"
        )
    asked = {"username": "", "password": ""}
    query = []
    for name, value in parse_qsl(place.query):
        if name.startswith("sentinel_") and name.removeprefix("sentinel_") in asked:
            asked[name.removeprefix("sentinel_")] = value
        else:
            query.append((name, value))
    place = place._replace(query=urlencode(query))
    parsed: dict[str, Any] = dict(parse_url(place.url_of(place.hosts[0], db)))
    tls = parsed.pop("connection_class", None) is SSLConnection
    of_sentinels: dict[str, Any] = {"socket_timeout": SENTINEL_TIMEOUT, "socket_connect_timeout": SENTINEL_TIMEOUT}
    if tls:
        of_sentinels |= {"ssl": True}
    shared = {name: value for name, value in {**options, **parsed}.items() if name.startswith("ssl_")}
    of_sentinels |= {**shared, **{name: value for name, value in asked.items() if value}}
    of_sentinels |= options.pop("sentinel_kwargs", None) or {}
    connection = {**options, **{name: value for name, value in parsed.items() if name not in ("host", "port")}}
    if tls:
        connection["ssl"] = True
    make: Any = _Sentinels
    sentinels = make(
        list(place.hosts),
        min_other_sentinels=connection.pop("min_other_sentinels", 0),
        sentinel_kwargs={"retry": Retry(NoBackoff(), 0), **of_sentinels},
    )
    return sentinels.master_for(unquote(service), connection_pool_class=_SentinelPool, **connection)  # type: ignore[no-any-return]


class _Sentinels(Sentinel):
    """Sentinels whose errors show no password, in tracebacks, too."""

    async def discover_master(self, service_name: str) -> Any:
        try:
            return await super().discover_master(service_name)
        except MasterNotFoundError as error:
            raise MasterNotFoundError(without_sentinels(error)) from None


class _SentinelPool(SentinelConnectionPool):
    """A pool that also closes the connections to the Sentinels."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        try:
            await super().disconnect(inuse_connections)
        finally:
            if inuse_connections:  # not while a new master is being looked for
                for sentinel in self.sentinel_manager.sentinels:
                    await sentinel.aclose()


def _place(url: str) -> Place | None:
    """Return what the URL of a cluster or of Sentinels says; `None` for another URL. Errors do not show passwords."""
    scheme = _SCHEME.match(url) if isinstance(url, str) else None
    if isinstance(url, str) and "#" in url:
        raise ConfigurationError("the URL must not contain #: in a password, it must be quoted as %23")
    if scheme is None:
        return None
    rest, _, query = url[scheme.end() :].partition("?")
    hosts, slash, path = rest.partition("/")
    user, at, hosts = hosts.rpartition("@")
    kind = scheme[2].lower()
    found = []
    for number, text in enumerate(hosts.split(","), 1):
        host = _HOST.fullmatch(text)
        port = int((host and host["port"]) or (26379 if kind == "sentinel" else 6379))
        if host is None or not 0 < port < 65536:
            # Without the text, which may be part of a password with an unquoted slash.
            example = "host:26379,host2:26379/service" if kind == "sentinel" else "host:6379,host2:6379"
            raise ConfigurationError(
                f"url must have hosts separated by commas, as in {scheme[0].lower()}{example}: "
                f"host {number} is not valid, or {_QUOTED}"
            )
        found.append(Address(unquote(host["six"] or host["host"]), port))
    return Place(scheme[1].lower() == "rediss", kind, found, user + at, slash + path, query)


def _remapped(address: Address, first: list[Address], remap: Callable[[Any], Any] | None) -> Address:
    return address if remap is None or address in first else Address(*remap(tuple(address)))
