"""The connections of one event loop to the nodes of a Redis Cluster: one link per master, and a route per lane.

**A lane belongs to the link of the node that owns its slot now.** A `Route` stands between the two: to the lane it is
its link, to a link it is a lane. It moves to another link when the map of slots changes, but never while a message is
in flight, so a lane has at most one message on its way.

**The map changes** when a node says `MOVED`, and when a link gets no reply: then it is read again from any node until
the cluster has settled. Each link that a quota moves to is told at once which slots of this process may still count
(greeter.py): a replica that takes over may not know the last of them.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from weakref import WeakSet

from redis.asyncio import Redis

from ...stopping import end_tasks
from .failures import advice, refuses
from .link import OUTAGE_TIMEOUT, RETRY_AT_MOST
from .memory import Memory
from .node_link import NodeLink
from .nodes import RETRY, Cluster
from .route import HOLD_AT_MOST, Route
from .scripts import Keys
from .silence import Silence
from .slots import Address, SlotMap, key_on, slot_of
from .wire import Wire

READ_EVERY = 0.1
"""The least seconds between two readings of the map."""
IMPORTING = 10.0
"""Seconds for which the link to a node stays open that owns no slot, but has had keys of one."""


class ClusterLinks:
    """The links of one event loop, by the address of the node."""

    def __init__(
        self,
        cluster: Cluster,
        memory: Memory,
        prefix: str,
        *,
        clock: Callable[[], float],
        open_wire: Callable[[Redis], Awaitable[Wire]] = Wire.open,
    ) -> None:
        self._cluster = cluster
        self._memory = memory
        self._mark_form = f"{prefix}:life:{{}}"
        self._now = clock
        self._open_wire = open_wire
        self._loop = asyncio.get_running_loop()
        self._map: SlotMap | None = None
        self._links: dict[Address, NodeLink] = {}
        self._importing: dict[Address, float] = {}  # nodes to which slots are being moved, and when that was last said
        self._routes: WeakSet[Route] = WeakSet()
        self._users = 0
        self._reading: asyncio.Task[None] | None = None
        self._read_at = -math.inf
        self._closing: set[asyncio.Task[None]] = set()
        self._silence = Silence("the Redis Cluster", clock)

    def of(self, keys: Keys) -> Route:
        """Return the route of a quota."""
        route = Route(self, slot_of(keys.slots), self._now)
        self._routes.add(route)
        return route

    @property
    def trouble(self) -> str:
        """Why the map cannot be read; empty while it can."""
        return self._silence.trouble

    def silence(self) -> float:
        """Return the seconds for which no node has replied."""
        return self._silence.seconds

    def link_of(self, slot: int, elsewhere: Address | None) -> NodeLink | None:
        """Return the link to the node `elsewhere`, or the owner of the slot; `None` if that is unknown so far."""
        if elsewhere is not None:
            self._importing[elsewhere] = self._now()
            return self._link(elsewhere)
        owner = None if self._map is None else self._map.owner(slot)
        if owner is None:
            self.read_map()
            return None
        return self._link(owner)

    def serves(self, slot: int, address: Address) -> bool:
        """True if this node owns the slot."""
        return self._map is not None and self._map.owner(slot) == address

    def moved(self, slot: int, to: Address) -> None:
        """Follow a node that named another owner of a slot, and read the whole map."""
        if self._map is not None:
            self._map.moved(slot, to)
        self.read_map()

    @property
    def _holds_slots(self) -> bool:
        """True if slots of this process may still count."""
        return self._memory.slots_until > self._now()

    def read_map(self) -> None:
        """Begin to read the map of slots again, unless that is under way."""
        if self._reading is None and self._users:
            self._reading = self._loop.create_task(self._read_map(), name="recall_async quota store: cluster")

    async def _read_map(self) -> None:
        task, delay = asyncio.current_task(), RETRY
        try:
            while self._users and self._reading is task:
                await asyncio.sleep(max(0.0, self._read_at + READ_EVERY - self._now()))
                self._read_at = began = self._now()
                if self._silence.since is None and self._map is None:
                    self._silence.since = began
                try:
                    async with asyncio.timeout(OUTAGE_TIMEOUT):
                        found = await self._cluster.read_map(self._map.nodes if self._map else ())
                except Exception as error:  # noqa: BLE001 - whatever it is, no node has replied
                    if refuses(error):
                        self._refused(error)
                        return
                    self._begin_outage(error, began)
                    delay = min(HOLD_AT_MOST if self._holds_slots else RETRY_AT_MOST, 2 * delay)
                    await asyncio.sleep(delay * random.uniform(0.5, 1.0))
                else:
                    self._silence.end()
                    if found != self._map:
                        self._map = found
                        self._changed()
                    stranded = [route for route in self._routes if route.stranded()]
                    if not stranded:
                        return
                    delay = min(HOLD_AT_MOST, 2 * delay)
                    await asyncio.sleep(delay)
        finally:
            if self._reading is task:
                self._reading = None

    def _refused(self, error: Exception) -> None:
        self._silence.refused(advice(error))
        self._silence.since = None
        for route in list(self._routes):
            if not route.placed:
                route.refused(error)

    def _begin_outage(self, error: Exception, began: float) -> None:
        self._silence.begin(str(error) if str(error) else f"no answer within {OUTAGE_TIMEOUT:g} s", began)
        for route in list(self._routes):
            if not route.placed:
                route.on_no_reply()  # the lane may continue without Redis

    def _changed(self) -> None:
        """Move lanes to the nodes that own their slots now, and report slots in use to those nodes."""
        places = self._map
        assert places is not None
        kept = places.masters | {node for node, at in self._importing.items() if self._now() - at < IMPORTING}
        left = [self._links.pop(address) for address in list(self._links) if address not in kept]
        for known in self._memory.holders(self._now()):
            if (owner := places.owner(slot_of(known.keys.slots))) is not None:
                self._link(owner)
        for link in self._links.values():
            self._choose_mark(link)
            link.review()
        for route in list(self._routes):
            route.place()
        for link in left:
            self._close(link)

    def _link(self, address: Address) -> NodeLink:
        link = self._links.get(address)
        if link is None:
            link = self._links[address] = NodeLink(
                self,
                address,
                lambda: self._cluster.connect(address),
                self._memory,
                clock=self._now,
                open_wire=self._open_wire,
            )
            self._choose_mark(link)
            if self._users:
                link.join()
        return link

    def _choose_mark(self, link: NodeLink) -> None:
        """Keep the mark of each node in one of its own slots."""
        if self._map is not None and not (link.mark_key and self.serves(slot_of(link.mark_key), link.address)):
            slots = set(self._map.slots(link.address))
            link.mark_key = key_on(slots, self._mark_form) if slots else self._mark_form.format("{0}")

    def _close(self, link: NodeLink) -> None:
        """Close the link to a node that owns no slot any more."""
        link.users = 0
        task = self._loop.create_task(link.aclose(), name="recall_async quota store: closing")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def join(self) -> None:
        """Record that a lane is in use. All links are open while there is one."""
        self._users += 1
        if self._users == 1:
            for link in self._links.values():
                link.join()
            if self._holds_slots:
                self.read_map()

    def leave(self) -> None:
        """Record that a lane is no longer in use."""
        self._users -= 1
        if not self._users:
            self._silence.forget()
            for link in self._links.values():
                link.leave()

    async def aclose_unused(self) -> None:
        """Close all connections, unless a lane is in use."""
        await asyncio.sleep(0)  # other lanes of the same session may still have commands
        if not self._users:
            await self.aclose()

    async def aclose(self) -> None:
        """Close all connections. Lanes in use will open new ones."""
        reading, self._reading = self._reading, None
        try:
            if reading is not None:
                await end_tasks({reading})
        finally:
            await asyncio.gather(*(link.aclose() for link in self._links.values()), *self._closing)
