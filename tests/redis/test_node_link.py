"""The connection to one node of a cluster: what it reports there, and when the map of slots is read. Scripted."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ConnectionError, MovedError

from recall_async.limits.redis.node_link import NodeLink
from recall_async.limits.redis.scripts import MARK
from recall_async.limits.redis.slots import Address
from tests.redis.test_link import KEY, Client, Speaker, World, now
from tests.redis.words import reply
from tests.virtual_time import run


class Owners:
    """Which node has which slot."""

    def __init__(self) -> None:
        self.reads = 0
        self.ours = True

    def serves(self, slot: int, address: Address) -> bool:
        return self.ours

    def read_map(self) -> None:
        self.reads += 1


def test_link_to_a_node_reads_the_map_when_the_node_fails_or_names_another(caplog: pytest.LogCaptureFixture) -> None:
    """Would keep asking a node that lost its slots, or take what it says of another node for an outage."""

    async def main() -> None:
        world, owners, lane = World(), Owners(), Speaker("one")
        moved = MovedError("5 two:7000")
        link = NodeLink(
            owners,
            Address("one", 7000),
            lambda: Client(world),  # type: ignore[arg-type, return-value]
            world.memory,
            clock=now,
            open_wire=world.redis.open,  # type: ignore[arg-type]
        )
        world.link = link
        link.mark_key = "life:{1}"
        world.redis.answer = lambda command: moved
        link.join()
        link.wake(lane)
        await asyncio.sleep(0.1)
        assert (lane.heard, link.trouble, owners.reads) == ([moved], "", 0)  # the route follows it
        # The node's mark is on another node now.
        world.redis.mark = lambda: moved
        world.redis.break_off()
        lane.messages = 1
        link.wake(lane)
        await asyncio.sleep(0.1)
        assert (len(lane.heard), link.trouble, owners.reads) == (2, "", 1)
        world.redis.refuses = ConnectionError("refused")
        world.redis.break_off()
        lane.messages = 1
        link.wake(lane)
        await asyncio.sleep(0.03)
        assert (link.trouble, owners.reads >= 2) == ("refused", True)
        world.redis.refuses = None
        await asyncio.sleep(1.0)
        # Slots of a quota that moves here are reported.
        owners.ours = False
        world.holds_slots()
        world.memory.known(KEY).heard("1-a/old", now())
        world.redis.commands.clear()
        link.review()
        await asyncio.sleep(0.1)
        assert world.redis.commands == []
        owners.ours = True
        world.redis.answer = lambda command: reply(name="2-b/run 10/60060000")
        link.review()
        await asyncio.sleep(0.1)
        assert [command.keys[0] for command in world.redis.commands] == [world.memory.known(KEY).keys.slots]
        link.review()
        await asyncio.sleep(0.1)
        assert len(world.redis.commands) == 1  # told
        assert all(command.script is not MARK for command in world.redis.commands)
        await world.close()

    run(main())
