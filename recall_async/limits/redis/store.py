"""`RedisQuotaStore`: one quota for many processes and hosts. What it guarantees, and what not: docs/redis.md"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

try:
    from redis.asyncio import Redis
except ImportError as _error:  # pragma: no cover
    raise ImportError("RedisQuotaStore needs the extra redis: pip install 'recall-async[redis]'") from _error

from ...checks import invalid, seconds, shown, whole
from ...errors import ConfigurationError, QuotaStoreUnavailableError
from ...operations import OPERATIONS
from ..contract import LaneStatistics
from ..loops import PerLoop, clock_of
from ..quota import Quota, base_quota
from .connect import redis_connect
from .failures import Failure, advice, meaning
from .greeter import StateGreeter
from .lane import RedisLane
from .link import OUTAGE_TIMEOUT, Link
from .memory import Memory
from .outbox import Outbox
from .reserve import LocalReserve
from .scripts import Command, Keys, Terms, Usage, decode_usage, resume, usage
from .wire import Wire

FORGET_AT_ONCE = 4
"""Lanes that are looked at whenever one is opened: is anybody still using them?"""


class _Loop(NamedTuple):
    """What belongs to one event loop."""

    link: Link
    lanes: dict[tuple[str, str], RedisLane]
    idle: dict[tuple[str, str], None]
    """The same lanes, in the order in which they are looked at for being forgotten."""


class RedisQuotaStore:
    """The quota's state in Redis, shared by everybody who names the same server, `prefix` and workspace.

    - `client`: a `redis.asyncio.Redis` of the caller's, which belongs to one event loop and stays the caller's to close;
      `from_url` makes one for each event loop, and closes it with the last session.
    - `prefix`: what the names of all keys begin with.
    - `longest_request`: seconds that a request can take from its slot to the moment at which the API counts it; what lies
      between the session's `timeout` and this is the grace for a request that was given up. No `timeout` may be longer.
      The slot of a process that died comes back after this, the quota's window, and 5 seconds.
    - `local_reserve`: requests per window that this store, in this process and in those forked from it, may send on its own
      while Redis is away; by default it waits. So many for each of `processes` are taken off the shared limit for good: all
      of them must be given the same numbers.
    - `hold_new`: wait for one lease where Redis knows nothing of a quota, because it may have been flushed unnoticed. By
      default it is taken for a quota that nobody has used yet.

    Raises `ConfigurationError` for invalid arguments. Calls raise `QuotaStoreUnavailableError` when Redis has not come back
    by their deadline. docs/redis.md
    """

    def __init__(
        self,
        client: Redis,
        *,
        prefix: str = "recall",
        longest_request: float = 60.0,
        local_reserve: int = 0,
        processes: int = 1,
        hold_new: bool = False,
    ) -> None:
        if not isinstance(client, Redis):
            raise invalid("client", "a redis.asyncio.Redis", client)
        if not isinstance(prefix, str) or "{" in prefix or "}" in prefix:
            raise invalid("prefix", "a text without braces, which say which node of a cluster a key is on", prefix)
        self.longest_request: float = seconds("longest_request", longest_request)
        whole("local_reserve", local_reserve, at_least=0)
        whole("processes", processes, at_least=1)
        self._prefix = prefix
        self._reserve = LocalReserve(local_reserve)
        self._set_aside = local_reserve * processes
        self._hold_new = hold_new
        self._memory = Memory()
        self._connect: Callable[[], Redis] = lambda: client
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
        **options: Any,
    ) -> RedisQuotaStore:
        """A store that connects to `redis://`, `rediss://` or `unix://` by itself; `options` are those of redis-py."""

        def connect() -> Redis:
            return redis_connect(url, **options)

        client = connect()
        store = cls(
            client,
            prefix=prefix,
            longest_request=longest_request,
            local_reserve=local_reserve,
            processes=processes,
            hold_new=hold_new,
        )
        store._connect, store._owned = connect, True
        return store

    def open(self, workspace: str, operation: str, quota: Quota | None) -> RedisLane:
        """The lane of an operation in the running event loop; see `QuotaStore`."""
        self._loops.bequeathed()  # the connections of closed loops cannot be closed any more
        link, lanes, idle = self._loops.get()
        if not self._owned and self._loops.others():
            raise ConfigurationError("a Redis client belongs to one event loop: use RedisQuotaStore.from_url(...)")
        name = workspace, operation
        lane = lanes.get(name)
        if lane is None:
            keys = Keys(self._prefix, workspace, operation)
            known = self._memory.known(keys, clock_of(asyncio.get_running_loop())())
            outbox = Outbox(keys, known, self._memory)
            terms = quota or base_quota(operation)
            lane = RedisLane(operation, terms, keys, link, outbox, self._terms, self._reserve)
        lane.join(quota)
        lanes[name] = lane
        idle[name] = None
        _forget(lanes, idle)
        return lane

    async def usage(self, workspace: str) -> dict[str, LaneStatistics]:
        """What all processes together use of each quota at this moment, by operation; asked of Redis anew.

        What only the processes themselves know is 0: who waits, what is
        in flight, and the counters. Raises `QuotaStoreUnavailableError`.
        """
        replies = await self._run([usage(Keys(self._prefix, workspace, operation)) for operation in OPERATIONS])
        return {name: _shown(name, decode_usage(reply)) for name, reply in zip(OPERATIONS, replies, strict=True)}

    async def resume(self, workspace: str, operation: str | None = None) -> dict[str, float]:
        """End the pause after a 429, and the slower pace after it, for all processes: of one operation, or of all.

        Returns the seconds for which each pause would have gone on, by operation: 0 where only the pace was slower. Calls
        that wait notice within 5 s. Use it when a server asked for an absurd pause; if it meant it, the next request meets
        another 429. Raises `ConfigurationError` for an unknown operation, and `QuotaStoreUnavailableError`.
        """
        if operation is not None and operation not in OPERATIONS:
            raise ConfigurationError(f"operation must be one of {', '.join(OPERATIONS)}, got {shown(operation)}")
        names = list(OPERATIONS) if operation is None else [operation]
        replies = await self._run([resume(Keys(self._prefix, workspace, name)) for name in names])
        return {name: reply / 1e6 for name, reply in zip(names, replies, strict=True) if reply >= 0}

    async def _run(self, commands: list[Command]) -> list[Any]:
        """The replies to commands that have nothing to do with the lanes, on a connection of their own."""
        client, wire = self._connect(), None
        try:
            async with asyncio.timeout(OUTAGE_TIMEOUT):
                wire = await Wire.open(client)
                replies = await wire.exchange(commands)
            if error := next((reply for reply in replies if isinstance(reply, Exception)), None):
                raise error
        except Exception as error:
            if meaning(error) is Failure.REFUSAL:
                raise QuotaStoreUnavailableError(f"Redis refuses: {advice(error)}") from error
            text = advice(error) if str(error) else f"not within {OUTAGE_TIMEOUT:g} s"
            raise QuotaStoreUnavailableError(f"Redis does not answer: {text}") from error
        finally:
            if wire is not None:
                await (wire.aclose() if self._owned else wire.give_back())
            if self._owned:
                await client.aclose()
        return replies

    async def aclose(self) -> None:
        """Close the running event loop's connection, once Redis knows how slots ended; that takes a second at most.

        Closing the last session does that too. Sessions that are still open make a new connection.
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
        link = Link(self._connect, self._memory, f"{self._prefix}:life", owned=self._owned, clock=clock)
        link.greeter = StateGreeter(self._memory, clock)
        return _Loop(link, {}, {})


def _forget(lanes: dict[tuple[str, str], RedisLane], idle: dict[tuple[str, str], None]) -> None:
    """Forget a few lanes that nobody uses: what they know, Redis knows too."""
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
