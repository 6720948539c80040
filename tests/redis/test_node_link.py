"""The connection to one node of a cluster: what it reports there, and when the map of slots is read. Scripted."""

from __future__ import annotations

import asyncio

import pytest
from redis.exceptions import ClusterDownError, ConnectionError, MovedError, ResponseError, TryAgainError

from recall_async.limits.redis.node_link import NodeLink
from recall_async.limits.redis.scripts import MARK
from recall_async.limits.redis.slots import Address
from tests.redis.test_link import KEY, TERMS, Client, Speaker, World, now
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


def node_link(world: World, owners: Owners) -> NodeLink:
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
    link.join()
    return link


def test_link_to_a_node_reads_the_map_when_the_node_fails_or_names_another(caplog: pytest.LogCaptureFixture) -> None:
    """Would keep asking a node that lost its slots, or take what it says of another node for an outage."""

    async def main() -> None:
        world, owners, lane = World(), Owners(), Speaker("one")
        moved, link = MovedError("5 two:7000"), node_link(world, owners)
        world.redis.answer = lambda command: moved
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


@pytest.mark.parametrize(
    ("error", "outage"),
    [
        (TryAgainError("Multiple keys request during rehashing of slot"), False),
        (ClusterDownError("CLUSTERDOWN Hash slot not served"), False),
        (ResponseError("LOADING Redis is loading the dataset in memory"), True),
        (ResponseError("WRONGTYPE Operation against a key"), False),
    ],
)
def test_what_concerns_one_slot_is_no_outage_of_its_node(error: Exception, outage: bool) -> None:
    """Would hold up all quotas of a node while one slot is being moved, or give a lane the error of a dead node."""

    async def main() -> None:
        world, owners, lane, other = World(), Owners(), Speaker("one"), Speaker("other")
        link = node_link(world, owners)
        world.redis.answer = lambda command: error if command.keys[0] == "one" else "fine"
        for speaker in (lane, other):
            link.wake(speaker)
        await asyncio.sleep(0.01)
        assert (lane.heard, other.heard) == ([] if outage else [error], ["fine"])
        assert (bool(link.trouble), owners.reads, world.redis.ended) == (outage, outage, ["drop"] * outage)
        lane.messages = 0
        await world.close()

    run(main())


def test_mark_that_a_node_refuses_is_no_reason_to_read_the_map() -> None:
    """Would read the map of slots with each connection, where the user may not write the mark."""

    async def main() -> None:
        world, owners, lane = World(), Owners(), Speaker("one")
        link = node_link(world, owners)
        world.redis.mark = lambda: ResponseError("NOPERM no permissions to run")
        link.wake(lane)
        await asyncio.sleep(0.1)
        assert (lane.heard, owners.reads) == (["for one"], 0)
        await world.close()

    run(main())


def test_quota_that_moves_on_is_not_reported_to_its_old_node() -> None:
    """Would tell a node of slots of a quota that it does not have any more, and follow its reply in vain."""

    async def main() -> None:
        world, owners = World(), Owners()
        link = node_link(world, owners)
        world.memory.known(KEY).heard("1-a/old", now(), TERMS)
        greeter = link.greeter
        assert greeter is not None
        assert greeter.meet("run", "life")
        link.review()
        assert greeter.speaks
        owners.ours = False
        link.review()
        assert not greeter.speaks
        await world.close()

    run(main())
