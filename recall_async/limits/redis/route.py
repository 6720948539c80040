"""The way of one lane to the node of a Redis Cluster that owns its slot now.

To the lane, a route is its link; to a link, it is a lane.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from weakref import ref

from .node_link import NodeLink
from .nodes import RETRY
from .scripts import Asking, Command
from .slots import Address, Detour, Elsewhere, Later, detour
from .speaker import Speaker

HOLD_AT_MOST = 0.5
"""The most seconds until a lane is sent again whose slot no node serves."""
MAX_DETOURS = 3
"""How often a message is sent on at once; nodes that name each other are asked again after a while."""


class NodeLinks(Protocol):
    """What a route needs of the cluster."""

    @property
    def trouble(self) -> str:
        """Why no node replies; empty while one does."""

    def silence(self) -> float:
        """Return the seconds for which no node has replied."""

    def link_of(self, slot: int, elsewhere: Address | None) -> NodeLink | None:
        """Return the link to the node `elsewhere`, or the owner of the slot; `None` if that is unknown so far."""

    def moved(self, slot: int, to: Address) -> None:
        """Follow a node that named another owner of a slot."""

    def read_map(self) -> None:
        """Begin to read the map of slots again, unless that is under way."""

    def join(self) -> None:
        """Record that a lane is in use."""

    def leave(self) -> None:
        """Record that a lane is no longer in use."""

    async def aclose_unused(self) -> None:
        """Close all connections, unless a lane is in use."""


class Route:
    """What stands between a lane and the link of the node that owns its slot now."""

    def __init__(self, links: NodeLinks, slot: int, clock: Callable[[], float]) -> None:
        self._links = links
        self._slot = slot
        self._now = clock
        self._lane: Callable[[], Speaker | None] = _nobody  # weak: the lane has this route
        self._link: NodeLink | None = None
        self._in_flight = False
        self._elsewhere: Address | None = None  # where to send the next message only
        self._detours = self._holds = 0
        self._not_before = -math.inf
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
