"""What the links of a cluster do with the map of slots, and without one: scripted maps, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import pytest
from redis.exceptions import ConnectionError, NoPermissionError

from recall_async.limits.redis.cluster import READ_EVERY, ClusterLinks
from recall_async.limits.redis.memory import Memory
from recall_async.limits.redis.scripts import ACQUIRE, USAGE, Command, Keys
from recall_async.limits.redis.slots import SLOTS, Address, SlotMap, slot_of
from tests.redis.scripted import ScriptedLane
from tests.redis.words import reply
from tests.virtual_time import run

ONE, TWO = Address("one", 7000), Address("two", 7000)
KEYS = Keys("recall", "w", "o")
SLOT = slot_of(KEYS.slots)


def places(**owners: tuple[int, int]) -> SlotMap:
    return SlotMap([[begin, end, [name.encode(), 7000, b"id"]] for name, (begin, end) in owners.items()], ONE)


ALL = places(one=(0, SLOTS - 1))
HOLE = places(one=(0, SLOT - 1), two=(SLOT + 1, SLOTS - 1))


class Nodes:
    """Maps in turn, the last of them for ever, and connections that run anything."""

    def __init__(self, *maps: SlotMap | Exception) -> None:
        self.maps = list(maps)
        self.delay = 0.0
        """Seconds until a map is read."""
        self.slow_to_close = 0.0
        """Seconds until a connection is closed."""
        self.read: list[float] = []
        self.said: list[Address] = []
        self.heard: list[tuple[Address, Command]] = []
        """Each command, and the node that ran it."""
        self.open: list[Address] = []
        """The nodes to which a connection is open."""
        self.opened = 0

    async def read_map(self, known: Iterable[Address] = ()) -> SlotMap:
        self.read.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.delay)
        found = self.maps.pop(0) if len(self.maps) > 1 else self.maps[0]
        if isinstance(found, Exception):
            raise found
        return found

    def connect(self, address: Address) -> Any:
        return _Client(address)

    async def open_wire(self, client: Any) -> Any:
        return _Wire(self, client.address)


class _Client:
    def __init__(self, address: Address) -> None:
        self.address = address

    async def aclose(self) -> None:
        pass


class _Wire:
    policy = "noeviction"

    def __init__(self, nodes: Nodes, address: Address) -> None:
        self._nodes, self._address, self.run = nodes, address, f"run of {address.host}"
        nodes.open.append(address)
        nodes.opened += 1

    async def exchange(self, commands: list[Command]) -> list[Any]:
        self._nodes.heard += [(self._address, command) for command in commands]
        self._nodes.said += [self._address for command in commands if command.script is USAGE]
        return [reply(name=f"1-a/{self.run} 10/60") if command.script is ACQUIRE else "life" for command in commands]

    async def watch(self) -> None:
        await asyncio.Event().wait()

    async def drop(self) -> None:
        await asyncio.sleep(self._nodes.slow_to_close)
        self._nodes.open.remove(self._address)

    aclose = give_back = drop


def driven(nodes: Nodes, what: Callable[[ClusterLinks, Any, ScriptedLane], Coroutine[Any, Any, None]]) -> None:
    """Open the links, and a lane that wants to speak; close them afterwards."""

    async def main() -> None:
        clock = asyncio.get_running_loop().time
        links = ClusterLinks(
            nodes,  # type: ignore[arg-type]
            Memory("recall"),
            "recall",
            clock=clock,
            open_wire=nodes.open_wire,
        )
        lane, route = ScriptedLane(Command(USAGE, (KEYS.slots,), ())), links.of(KEYS)
        route.join()
        route.wake(lane)
        await what(links, route, lane)
        route.leave()
        await route.aclose_unused()
        await asyncio.sleep(0)
        assert nodes.open == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_lane_waits_for_the_map() -> None:
    """Would fail the first call of a program, or read the map for each of its lanes."""
    nodes = Nodes(ALL)

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        for _ in range(3):
            links.read_map()
        await asyncio.sleep(1)
        assert (lane.heard, nodes.said, len(nodes.read)) == (["life"], [ONE], 1)
        assert (links.trouble, links.silence()) == ("", 0.0)

    driven(nodes, main)


def test_cluster_that_is_away_is_asked_again_and_again() -> None:
    """Would give up a cluster that comes back, ask it in a busy loop, or hide for how long it has been away."""
    nodes = Nodes(*[ConnectionError("refused")] * 6, ALL)

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        while not lane.heard:
            await asyncio.sleep(0.05)
            assert lane.heard or "refused" in route.trouble or not nodes.read
        assert lane.silent >= 1
        assert len(nodes.read) == 7
        gaps = [later - earlier for earlier, later in zip(nodes.read, nodes.read[1:], strict=False)]
        assert min(gaps) >= READ_EVERY - 1e-6
        assert (route.trouble, route.silence()) == ("", 0.0)

    driven(nodes, main)


def test_refusal_of_the_cluster_fails_the_calls_that_wait(caplog: pytest.LogCaptureFixture) -> None:
    """Would let calls wait for a cluster that refuses the client, or never ask it again when it was given the right."""
    nodes = Nodes(NoPermissionError("this user has no permissions to run 'cluster|slots'"), ALL)

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        await asyncio.sleep(0.5)
        assert [type(error) for error in lane.failed] == [NoPermissionError]
        assert (links.trouble, links.silence()) == ("", 0.0)  # it has answered
        (record,) = caplog.records
        assert "Redis refuses the connection" in record.getMessage()
        await asyncio.sleep(1)
        lane.messages = 1
        route.wake(lane)
        await asyncio.sleep(1)
        assert lane.heard == ["life"]
        assert links.trouble == ""

    driven(nodes, main)


def test_call_that_comes_just_after_a_refusal_is_heard() -> None:
    """Would forget a call for ever that comes within a tenth of a second after the cluster refused the client."""
    nodes = Nodes(NoPermissionError("this user has no permissions to run 'cluster|slots'"), ALL)

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        while not lane.failed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        lane.messages = 1
        route.wake(lane)
        await asyncio.sleep(60)
        assert lane.heard == ["life"]

    driven(nodes, main)


def test_lane_that_left_is_no_reason_to_read_the_map() -> None:
    """Would go on asking a cluster that is away after the last session has ended, if its closing was cancelled."""
    nodes = Nodes(ConnectionError("refused"))

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        await asyncio.sleep(5)
        route.leave()
        read = len(nodes.read)
        await asyncio.sleep(60)
        assert len(nodes.read) <= read + 1
        route.join()

    driven(nodes, main)


def test_map_is_read_until_all_lanes_have_a_node() -> None:
    """Would leave a lane waiting for ever whose slot had no master when the map was read, and not tell it."""
    nodes = Nodes(HOLE, HOLE, HOLE, ALL)

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        await asyncio.sleep(0.01)
        assert route.trouble == f"CLUSTERDOWN: no master serves hash slot {SLOT}"
        assert lane.silent == 1
        await asyncio.sleep(10)
        assert (lane.heard, nodes.said, len(nodes.read)) == (["life"], [ONE], 4)

    driven(nodes, main)


def test_slot_that_moves_takes_its_lane_along() -> None:
    """Would send to the old owner of a slot, or keep a connection to a node that owns nothing."""
    nodes = Nodes(places(one=(0, SLOTS - 1)), places(two=(0, SLOTS - 1)))

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        await asyncio.sleep(1)
        links.moved(SLOT, TWO)
        assert links.serves(SLOT, TWO)
        await asyncio.sleep(5)
        assert len(nodes.read) == 2
        lane.messages = 1
        route.wake(lane)
        await asyncio.sleep(1)
        assert nodes.said == [ONE, TWO]

    driven(nodes, main)


def test_closed_links_read_no_map() -> None:
    """Would go on asking a cluster that nobody uses."""
    nodes = Nodes(ConnectionError("refused"))

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        await asyncio.sleep(5)
        lane.messages = 0
        await links.aclose()
        read = len(nodes.read)
        await asyncio.sleep(60)
        assert len(nodes.read) == read
        route.leave()
        links.read_map()
        await asyncio.sleep(60)
        assert len(nodes.read) == read
        route.join()

    driven(nodes, main)


@pytest.mark.parametrize("error", [ConnectionError("refused"), NoPermissionError("no permissions to run")])
def test_links_that_are_closed_in_the_meantime_end_their_search(error: Exception) -> None:
    """Would leave a task behind that waits for its next try."""

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        await asyncio.sleep(0.2)

    driven(Nodes(error), main)


def test_a_lane_that_has_its_node_is_left_alone_in_an_outage_of_the_map() -> None:
    """Would take the quota away from lanes whose node answers, because the map of slots cannot be read."""
    nodes = Nodes(ALL, ConnectionError("refused"), NoPermissionError("no permissions to run"))

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        await asyncio.sleep(1)
        links.read_map()
        await asyncio.sleep(4 * READ_EVERY)
        assert len(nodes.read) >= 3
        assert (lane.heard, lane.silent, lane.failed) == (["life"], 0, [])

    driven(nodes, main)


def test_a_move_that_is_told_before_the_map_is_known() -> None:
    """Would end in an error when a node names another owner while the map is still being read."""
    nodes = Nodes(ConnectionError("refused"), places(one=(0, SLOTS - 1)))

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        links.moved(SLOT, TWO)
        await asyncio.sleep(60)
        assert (lane.heard, links.serves(SLOT, ONE)) == (["life"], True)

    driven(nodes, main)


def test_links_in_use_stay_open_when_another_lane_ends() -> None:
    """Would cut the connections of all lanes when the first of them is closed."""
    nodes = Nodes(ALL)

    async def main(links: ClusterLinks, route: Any, lane: ScriptedLane) -> None:
        await asyncio.sleep(1)
        await links.aclose_unused()
        lane.messages = 1
        route.wake(lane)
        await asyncio.sleep(1)
        assert (nodes.said, len(nodes.read)) == ([ONE, ONE], 1)

    driven(nodes, main)
