"""The link to one master of a Redis Cluster, and what it reports to it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from redis.asyncio import Redis

from .greeter import StateGreeter
from .link import Link
from .memory import Known, Memory
from .nodes import RETRY
from .slots import Address, detour, slot_of
from .speaker import Greeter
from .wire import Wire


class SlotOwners(Protocol):
    """What the link to a node needs of the cluster."""

    def serves(self, slot: int, address: Address) -> bool:
        """True if this node owns the slot."""

    def read_map(self) -> None:
        """Begin to read the map of slots again, unless that is under way."""


class NodeLink(Link):
    """The link to one master."""

    def __init__(
        self,
        owners: SlotOwners,
        address: Address,
        connect: Callable[[], Redis],
        memory: Memory,
        *,
        clock: Callable[[], float],
        open_wire: Callable[[Redis], Awaitable[Wire]],
    ) -> None:
        super().__init__(connect, memory, "", owned=True, clock=clock, open_wire=open_wire)
        self._owners = owners
        self.address: Address = address
        self._node_greeter = NodeGreeter(owners, self, memory, clock)
        self.greeter: Greeter | None = self._node_greeter

    def review(self) -> None:
        """Report slots of quotas that have moved to this node."""
        if self._node_greeter.review():
            self.wake(self._node_greeter)

    def _is_outage(self, error: Exception) -> bool:
        return detour(error, self.address) is None and super()._is_outage(error)

    def _recognize(self, run: str, life: Any) -> None:
        if isinstance(life, Exception) and detour(life, self.address) is not None:
            self._owners.read_map()
        super()._recognize(run, life)

    def _begin_outage(self, error: Exception, began: float) -> None:
        super()._begin_outage(error, began)
        self._owners.read_map()


class NodeGreeter(StateGreeter):
    """Reports slots of the quotas that one node keeps."""

    def __init__(self, owners: SlotOwners, link: NodeLink, memory: Memory, clock: Callable[[], float]) -> None:
        super().__init__(memory, clock)
        self._owners = owners
        self._link = link
        self._not_before = -math.inf

    def review(self) -> bool:
        """Plan reports of quotas that have moved to this node. True if there are any."""
        self._due = {key: known for key, known in self._due.items() if self._concerns(known)}
        if self._met[0]:
            self._plan(lost=False)
        return bool(self._due)

    def _concerns(self, known: Known) -> bool:
        return self._owners.serves(slot_of(known.keys.slots), self._link.address)

    @property
    def speaks(self) -> bool:
        return bool(self._due) and self._now() >= self._not_before

    def on_reply(self, replies: Sequence[Any]) -> None:
        ways = [detour(reply, self._link.address) if isinstance(reply, Exception) else None for reply in replies]
        unheard = [known for (known, *_), way in zip(self._said, ways, strict=True) if way is not None]
        super().on_reply(replies)
        if unheard:
            self._due |= {known.key: known for known in unheard}
            self._not_before = self._now() + RETRY
            asyncio.get_running_loop().call_later(RETRY, self._link.wake, self)
            self._owners.read_map()
