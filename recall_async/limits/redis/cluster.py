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
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from weakref import WeakSet, ref

from redis.asyncio import Redis

from ...stopping import end_tasks
from .failures import advice
from .greeter import StateGreeter
from .link import OUTAGE_TIMEOUT, RETRY_AT_MOST, RETRY_REFUSED, Greeter, Link, Speaker
from .memory import Known, Memory
from .nodes import RETRY, Cluster, refuses
from .scripts import Asking, Command, Keys
from .slots import Address, Detour, Elsewhere, Later, SlotMap, detour, key_on, slot_of
from .wire import Wire

logger: logging.Logger = logging.getLogger("recall_async")

READ_EVERY = 0.1
"""The least seconds between two readings of the map."""
HOLD_AT_MOST = 0.5
"""The most seconds until a lane is sent again whose slot no node serves."""
IMPORTING = 10.0
"""Seconds for which the link to a node stays open that owns no slot, but has had keys of one."""
MAX_DETOURS = 3
"""How often a message is sent on at once; nodes that name each other are asked again after a while."""


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
        self._read_at = -1.0
        self._silent_since: float | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._refusal = ""
        self.trouble: str = ""
        """Why the map cannot be read; empty while it can."""

    def of(self, keys: Keys) -> Route:
        """Return the route of a quota."""
        route = Route(self, slot_of(keys.slots))
        self._routes.add(route)
        return route

    def silence(self) -> float:
        """Return the seconds for which no node has replied."""
        return 0.0 if self._silent_since is None else self._now() - self._silent_since

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

    def read_map(self) -> None:
        """Begin to read the map of slots again, unless that is under way."""
        if self._reading is None and self._users:
            self._reading = self._loop.create_task(self._read_map(), name="recall_async quota store: cluster")

    async def _read_map(self) -> None:
        task, failures = asyncio.current_task(), 0
        try:
            while self._users and self._reading is task:
                await asyncio.sleep(max(0.0, self._read_at + READ_EVERY - self._now()))
                self._read_at = began = self._now()
                if self._silent_since is None and self._map is None:
                    self._silent_since = began
                try:
                    async with asyncio.timeout(OUTAGE_TIMEOUT):
                        found = await self._cluster.read_map(self._map.nodes if self._map else ())
                except Exception as error:  # noqa: BLE001 - whatever it is, no node has replied
                    failures += 1
                    if refuses(error):
                        self._refused(error)
                        await asyncio.sleep(RETRY_REFUSED)
                        return
                    self._begin_outage(error, began)
                    most = HOLD_AT_MOST if self._memory.slots_until > self._now() else RETRY_AT_MOST
                    await asyncio.sleep(min(most, RETRY * 2.0 ** min(failures, 10)) * random.uniform(0.5, 1.0))
                else:
                    self._answered()
                    if self._map is None or found != self._map:
                        self._map = found
                        self._changed()
                    stranded = [route for route in self._routes if route.stranded()]
                    if not stranded:
                        return
                    failures += 1
                    await asyncio.sleep(min(HOLD_AT_MOST, RETRY * 2.0 ** min(failures, 10)))
        finally:
            if self._reading is task:
                self._reading = None

    def _refused(self, error: Exception) -> None:
        text = advice(error)
        if text != self._refusal:
            self._refusal = text
            logger.warning("Redis refuses the connection, so calls fail: %s", text)
        self._silent_since = None
        for route in list(self._routes):
            if not route.placed:
                route.refused(error)

    def _begin_outage(self, error: Exception, began: float) -> None:
        begins = not self.trouble
        text = str(error) if str(error) else f"no answer within {OUTAGE_TIMEOUT:g} s"
        self.trouble = text
        if begins:
            self._silent_since = began if self._silent_since is None else self._silent_since
            logger.warning("no node of the Redis Cluster answers, so calls wait for their quota: %s", text)
        for route in list(self._routes):
            if not route.placed:
                route.on_no_reply()  # the lane may continue without Redis

    def _answered(self) -> None:
        if self.trouble:
            logger.info("the Redis Cluster answers again after %.1f s", self.silence())
        self.trouble, self._silent_since, self._refusal = "", None, ""

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
            if self._memory.slots_until > self._now():
                self.read_map()

    def leave(self) -> None:
        """Record that a lane is no longer in use."""
        self._users -= 1
        if not self._users:
            self.trouble, self._silent_since = "", None
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


class NodeLink(Link):
    """The link to one master."""

    def __init__(
        self,
        links: ClusterLinks,
        address: Address,
        connect: Callable[[], Redis],
        memory: Memory,
        *,
        clock: Callable[[], float],
        open_wire: Callable[[Redis], Awaitable[Wire]],
    ) -> None:
        super().__init__(connect, memory, "", owned=True, clock=clock, open_wire=open_wire)
        self._links = links
        self.address: Address = address
        self._node_greeter = NodeGreeter(links, self, memory, clock)
        self.greeter: Greeter | None = self._node_greeter

    def review(self) -> None:
        """Report slots of quotas that have moved to this node."""
        if self._node_greeter.review():
            self.wake(self._node_greeter)

    def _is_outage(self, error: Exception) -> bool:
        return detour(error, self.address) is None and super()._is_outage(error)

    def _recognize(self, run: str, life: Any) -> None:
        if isinstance(life, Exception) and detour(life, self.address) is not None:
            self._links.read_map()
        super()._recognize(run, life)

    def _begin_outage(self, error: Exception, began: float | None = None) -> None:
        super()._begin_outage(error, began)
        self._links.read_map()


class NodeGreeter(StateGreeter):
    """Reports slots of the quotas that one node keeps."""

    def __init__(self, links: ClusterLinks, link: NodeLink, memory: Memory, clock: Callable[[], float]) -> None:
        super().__init__(memory, clock)
        self._links = links
        self._link = link
        self._not_before = -1.0

    def review(self) -> bool:
        """Plan reports of quotas that have moved to this node. True if there are any."""
        self._due = {key: known for key, known in self._due.items() if self._concerns(known)}
        if self._met[0]:
            self._plan(lost=False)
        return bool(self._due)

    def _concerns(self, known: Known) -> bool:
        return self._links.serves(slot_of(known.keys.slots), self._link.address)

    @property
    def speaks(self) -> bool:
        return bool(self._due) and self._now() >= self._not_before

    def on_reply(self, replies: Sequence[Any]) -> None:
        ways = [detour(reply, self._link.address) if isinstance(reply, Exception) else None for reply in replies]
        unheard = [known for known, way in zip(self._said, ways, strict=True) if way is not None]
        super().on_reply(replies)
        if unheard:
            self._due |= {known.key: known for known in unheard}
            self._not_before = self._now() + RETRY
            asyncio.get_running_loop().call_later(RETRY, self._link.wake, self)
            self._links.read_map()


class Route:
    """What stands between a lane and the link of the node that owns its slot now."""

    def __init__(self, links: ClusterLinks, slot: int) -> None:
        self._links = links
        self._slot = slot
        self._now = links._now
        self._lane: Callable[[], Speaker | None] = _nobody  # weak: the lane has this route
        self._link: NodeLink | None = None
        self._in_flight = False
        self._elsewhere: Address | None = None  # where to send the next message only
        self._detours = self._holds = 0
        self._not_before = -1.0
        self._why = ""
        self._since: float | None = None

    # What a lane sees of its link.

    @property
    def trouble(self) -> str:
        """Why Redis does not reply to this lane; empty while it does."""
        return self._why or (self._links.trouble if self._link is None else self._link.trouble)

    def silence(self) -> float:
        """Return the seconds for which a reply of Redis has been missing."""
        mine = 0.0 if self._since is None else self._now() - self._since
        return max(mine, self._links.silence() if self._link is None else self._link.silence())

    def wake(self, speaker: Speaker) -> None:
        """Ask this lane for commands before every message, until it has none."""
        if self._lane() is not speaker:
            self._lane = ref(speaker)
        self.place()
        if self._link is not None:
            self._link.wake(self)

    def join(self) -> None:
        """Record that the lane is in use."""
        self._links.join()

    def leave(self) -> None:
        """Record that the lane is no longer in use."""
        self._links.leave()

    async def aclose_unused(self) -> None:
        """Close all connections, unless a lane is in use."""
        await self._links.aclose_unused()

    # What the cluster sees of the lane.

    @property
    def placed(self) -> bool:
        """True if the lane has a link."""
        return self._link is not None

    def stranded(self) -> bool:
        """True if the lane has something to send, and no node serves its slot."""
        lane = self._lane()
        if self._link is not None or lane is None or not lane.speaks:
            return False
        if not self._why:
            self._since = self._now()
            self._why = f"CLUSTERDOWN: no master serves hash slot {self._slot}"
            lane.on_no_reply()  # the lane may continue without Redis
        return True

    def place(self) -> None:
        """Go to the link of the node that the next message is for, unless one is in flight."""
        if self._in_flight or self._lane() is None:
            return
        link = self._links.link_of(self._slot, self._elsewhere)
        if link is self._link:
            return
        if self._link is not None:
            self._link.forget(self)
        self._link = link
        if link is not None:
            link.wake(self)

    # What a link sees of the lane.

    @property
    def speaks(self) -> bool:
        lane = self._lane()
        return lane is not None and self._now() >= self._not_before and lane.speaks

    def compose(self, run: str) -> list[Command]:
        lane = self._lane()
        commands = [] if lane is None else lane.compose(run)
        self._in_flight = True
        return commands if self._elsewhere is None else [Asking(*command) for command in commands]

    def on_reply(self, replies: Sequence[Any]) -> None:
        assert self._link is not None
        lane = self._arrived()
        errors = [reply for reply in replies if isinstance(reply, Exception)]
        ways = [way for error in errors if (way := detour(error, self._link.address)) is not None]
        if ways:
            self._follow(ways[0])
        else:
            self._detours, self._holds, self._why, self._since = 0, 0, "", None
        if lane is not None:
            lane.on_no_reply() if ways else lane.on_reply(replies)
        self.place()

    def _arrived(self) -> Speaker | None:
        """Record that no message is in flight, and return the lane."""
        self._in_flight, self._elsewhere = False, None
        return self._lane()

    def _follow(self, way: Detour) -> None:
        """Plan to send the message again: elsewhere, later, or both. Parts of it may have taken effect."""
        if isinstance(way, Later):
            self._hold(way.why)
            if way.down:
                self._links.read_map()
            return
        self._detours += 1
        if way.to is None or self._detours > MAX_DETOURS:
            self._hold("the nodes of the Redis Cluster do not agree where the quota is kept")
        if isinstance(way, Elsewhere):
            self._elsewhere = way.to
        elif way.to is None:
            self._links.read_map()
        else:
            self._links.moved(self._slot, way.to)

    def _hold(self, why: str) -> None:
        """Send nothing for a moment."""
        self._why = why
        if self._since is None:
            self._since = self._now()
        delay = min(HOLD_AT_MOST, RETRY * 2.0 ** min(self._holds, 10)) * random.uniform(0.5, 1.0)
        self._holds, self._detours = self._holds + 1, 0
        self._not_before = self._now() + delay
        asyncio.get_running_loop().call_later(delay, self._again)

    def _again(self) -> None:
        if (lane := self._lane()) is not None:
            self.wake(lane)

    def on_no_reply(self) -> None:
        if (lane := self._arrived()) is not None:
            lane.on_no_reply()
        self.place()

    def refused(self, error: Exception) -> None:
        if (lane := self._arrived()) is not None:
            lane.refused(error)

    def fail(self, error: Exception) -> None:
        if (lane := self._arrived()) is not None:
            lane.fail(error)


def _nobody() -> None:
    return None
