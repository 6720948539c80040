"""`RedisQuotaStore`: one quota for many processes and hosts. For its guarantees and their limits, see docs/redis.md"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, Protocol

try:
    from redis.asyncio import Redis, RedisCluster
except ImportError as _error:  # pragma: no cover
    raise ImportError("RedisQuotaStore needs the extra redis: pip install 'recall-async[redis]'") from _error

from ...checks import invalid, seconds, shown, whole
from ...errors import ConfigurationError, QuotaStoreUnavailableError
from ...operations import OPERATIONS
from ..contract import LaneStatistics
from ..loops import PerLoop, clock_of
from ..quota import Quota, base_quota
from .cluster import ClusterLinks
from .connect import cluster_behind, cluster_of, is_cluster, redis_connect
from .failures import advice, refuses
from .greeter import StateGreeter
from .lane import RedisLane
from .link import OUTAGE_TIMEOUT, Link
from .memory import Memory
from .nodes import Cluster
from .outbox import Outbox
from .reserve import LocalReserve
from .scripts import Command, Keys, Terms, Usage, decode_usage, resume, usage
from .speaker import LaneLink
from .wire import Wire

FORGET_AT_ONCE = 4
"""The number of lanes that are checked for disuse whenever one is opened."""


class _Links(Protocol):
    """The connections of one event loop: one link, or one for each node of a cluster."""

    def of(self, keys: Keys) -> LaneLink:
        """Return the link of a quota."""

    async def aclose(self) -> None:
        """Close the connections; lanes in use will open new ones."""


class _Loop(NamedTuple):
    """The connections and lanes of one event loop."""

    link: _Links
    lanes: dict[tuple[str, str], RedisLane]
    idle: dict[tuple[str, str], None]
    """The same lanes, in the order in which they are checked for disuse."""


class RedisQuotaStore:
    """Store quotas in Redis, shared by all processes that use the same server, `prefix` and workspace.

    - `client`: a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster` for one event loop, which the caller closes;
      `from_url` creates one for each event loop and closes it with the last session. A client of
      `redis.asyncio.sentinel.Sentinel.master_for` follows the master. Of a `RedisCluster` the store uses the options:
      it opens one connection per master and closes them with the last session.
    - `prefix`: the prefix of all keys.
    - `longest_request`: the most seconds from the slot of a request until the API counts it. A session's `timeout`
      must not be longer; the difference is the grace for a request without a response. The slot of a dead process is
      freed after this time, plus the quota's window and 5 seconds.
    - `local_reserve`: requests per window that this store, in this process and its forked processes, may send while
      Redis is unavailable; by default it waits for Redis. The shared limit is permanently lower by this number times
      `processes`: pass the same numbers in all processes.
    - `hold_new`: wait for one lease if Redis has no data of a quota, because it may have been flushed unnoticed. By
      default the quota counts as unused.
    - `patience`: seconds of an outage of Redis after which waiting calls fail, also those without a deadline. By
      default they wait as long as it takes.

    Raises `ConfigurationError` for invalid arguments. Calls raise `QuotaStoreUnavailableError` if Redis is still
    unavailable at their deadline. docs/redis.md
    """

    def __init__(
        self,
        client: Redis | RedisCluster,
        *,
        prefix: str = "recall",
        longest_request: float = 60.0,
        local_reserve: int = 0,
        processes: int = 1,
        hold_new: bool = False,
        patience: float | None = None,
    ) -> None:
        if not isinstance(client, Redis | RedisCluster):
            raise invalid("client", "a redis.asyncio.Redis or redis.asyncio.RedisCluster", client)
        if not isinstance(prefix, str) or "{" in prefix or "}" in prefix:
            raise invalid("prefix", "a text without braces, which say which node of a cluster a key is on", prefix)
        self.longest_request: float = seconds("longest_request", longest_request)
        whole("local_reserve", local_reserve, at_least=0)
        whole("processes", processes, at_least=1)
        self._prefix = prefix
        self._reserve = LocalReserve(local_reserve)
        self._set_aside = local_reserve * processes
        self._hold_new = hold_new
        self._patience = math.inf if patience is None else seconds("patience", patience, zero=True)
        self._memory = Memory(prefix)
        self._server: Callable[[], Redis] | Cluster
        if isinstance(client, Redis):
            self._server = lambda: client
        else:
            self._server = cluster_behind(client)
        self._owned = False
        self._loops: PerLoop[_Loop] = PerLoop(self._loop)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        prefix: str = "recall",
        longest_request: float = 60.0,
        local_reserve: int = 0,
        processes: int = 1,
        hold_new: bool = False,
        patience: float | None = None,
        **options: Any,
    ) -> RedisQuotaStore:
        """Create a store with its own connections.

        `url` is `redis://host:6379/0`, `rediss://` with TLS, or `unix://`; `redis+sentinel://host:26379/service/0` for
        the master that Sentinels name; `redis+cluster://host:6379` for a Redis Cluster. The last two, and `rediss+...`,
        take several hosts separated by commas. `options` are redis-py's.
        """
        server: Callable[[], Redis] | Cluster
        if is_cluster(url):
            server = cluster_of(url, **options)
            client = server.connect(server.first[0])
        else:
            server = partial(redis_connect, url, **options)
            client = server()
        store = cls(
            client,
            prefix=prefix,
            longest_request=longest_request,
            local_reserve=local_reserve,
            processes=processes,
            hold_new=hold_new,
            patience=patience,
        )
        store._server, store._owned = server, True
        return store

    def open(self, workspace: str, operation: str, quota: Quota | None) -> RedisLane:
        """Open the lane of an operation in the running event loop; see `QuotaStore`."""
        self._loops.pop_closed()  # the connections of closed loops can no longer be closed
        link, lanes, idle = self._loops.get()
        if not self._owned and self._loops.others():
            raise ConfigurationError("a Redis client belongs to one event loop: use RedisQuotaStore.from_url(...)")
        name = workspace, operation
        lane = lanes.get(name)
        if lane is None:
            keys = Keys(self._prefix, workspace, operation)
            outbox = Outbox(keys, self._memory.known(name))
            terms = quota or base_quota(operation)
            lane = RedisLane(operation, terms, keys, link.of(keys), outbox, self._terms, self._reserve, self._patience)
        lane.join(quota)
        lanes[name] = lane
        idle[name] = None
        _forget(lanes, idle)
        return lane

    async def usage(self, workspace: str) -> dict[str, LaneStatistics]:
        """Read from Redis how much of each quota all processes use now, by operation.

        Values that only the processes know are 0: waiting calls, requests in flight, and counters. Raises
        `QuotaStoreUnavailableError`.
        """
        replies = await self._run([usage(Keys(self._prefix, workspace, operation)) for operation in OPERATIONS])
        return {name: _shown(name, decode_usage(reply)) for name, reply in zip(OPERATIONS, replies, strict=True)}

    async def resume(self, workspace: str, operation: str | None = None) -> dict[str, float]:
        """End the pause after a 429, and the slower pace after it, in all processes, for one operation or all.

        Returns the remaining seconds of each pause, by operation: 0 if only the pace was slower. Waiting calls
        continue within 5 s. Use it if the server requested an unreasonably long pause; if the server still refuses,
        the next request gets another 429. Raises `ConfigurationError` for an unknown operation, and
        `QuotaStoreUnavailableError`.
        """
        if operation is not None and operation not in OPERATIONS:
            raise ConfigurationError(f"operation must be one of {', '.join(OPERATIONS)}, got {shown(operation)}")
        names = list(OPERATIONS) if operation is None else [operation]
        replies = await self._run([resume(Keys(self._prefix, workspace, name)) for name in names])
        return {name: reply / 1e6 for name, reply in zip(names, replies, strict=True) if reply >= 0}

    async def _run(self, commands: list[Command]) -> list[Any]:
        """Run commands that concern no lane, on separate connections, and return the replies."""
        try:
            if isinstance(self._server, Cluster):
                replies = await self._server.run(commands, OUTAGE_TIMEOUT)
            else:
                async with asyncio.timeout(OUTAGE_TIMEOUT):
                    replies = await self._run_on(self._server(), commands)
            if error := next((reply for reply in replies if isinstance(reply, Exception)), None):
                raise error
        except Exception as error:
            if refuses(error):
                raise QuotaStoreUnavailableError(f"Redis refuses: {advice(error)}") from error
            text = advice(error) if str(error) else f"not within {OUTAGE_TIMEOUT:g} s"
            raise QuotaStoreUnavailableError(f"Redis does not answer: {text}") from error
        return replies

    async def _run_on(self, client: Redis, commands: list[Command]) -> list[Any]:
        wire = None
        try:
            wire = await Wire.open(client)
            return await wire.exchange(commands)
        finally:
            if wire is not None:
                await (wire.aclose() if self._owned else wire.give_back())
            if self._owned:
                await client.aclose()

    async def aclose(self) -> None:
        """Report how slots ended, in at most a second, and close the running event loop's connection.

        Closing the last session does the same. Open sessions will open a new connection.
        """
        link, lanes, _ = self._loops.get()
        try:
            await asyncio.gather(*(lane.give_back() for lane in lanes.values()))
        finally:
            await link.aclose()

    def __repr__(self) -> str:
        return f"<RedisQuotaStore prefix={self._prefix!r}>"

    def _terms(self, quota: Quota) -> Terms:
        return Terms.of(quota, self._set_aside, self.longest_request, hold_new=self._hold_new)

    def _loop(self) -> _Loop:
        clock = clock_of(asyncio.get_running_loop())
        if isinstance(self._server, Cluster):
            return _Loop(ClusterLinks(self._server, self._memory, self._prefix, clock=clock), {}, {})
        link = Link(self._server, self._memory, f"{self._prefix}:life", owned=self._owned, clock=clock)
        link.greeter = StateGreeter(self._memory, clock)
        return _Loop(link, {}, {})


def _forget(lanes: dict[tuple[str, str], RedisLane], idle: dict[tuple[str, str], None]) -> None:
    """Drop a few unused lanes: Redis has their state."""
    for name in list(islice(idle, FORGET_AT_ONCE)):
        del idle[name]
        lane = lanes[name]
        if lane.in_use or not lane.settled:
            idle[name] = None
        else:
            del lanes[name]


def _shown(operation: str, seen: Usage) -> LaneStatistics:
    quota = Quota(seen.limit, seen.per) if seen.limit else base_quota(operation)
    closed = max(seen.paused, seen.held) - seen.now
    return LaneStatistics(
        quota=quota,
        taken=seen.taken,
        free=max(0, quota.limit - seen.taken),
        paused=max(0.0, closed / 1e6),
        pace=seen.pace,
    )
