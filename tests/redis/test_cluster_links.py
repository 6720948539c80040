"""Which nodes of a cluster have a connection, what each is told, and how long a silent cluster is waited for: scripted."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from redis.exceptions import ConnectionError

from recall_async import Quota
from recall_async.limits.redis.cluster import IMPORTING, READ_EVERY, ClusterLinks
from recall_async.limits.redis.link import OUTAGE_TIMEOUT, RETRY_AT_MOST
from recall_async.limits.redis.memory import Memory
from recall_async.limits.redis.route import HOLD_AT_MOST
from recall_async.limits.redis.scripts import ACQUIRE, MARK, USAGE, Command, Keys, Terms
from recall_async.limits.redis.slots import SLOTS, Address, slot_of
from tests.redis.scripted import ScriptedLane
from tests.redis.test_cluster_map import ALL, HOLE, KEYS, ONE, SLOT, TWO, Nodes, places
from tests.virtual_time import run

ALL_TWO = places(two=(0, SLOTS - 1))
TERMS = Terms.of(Quota(10, 60.0), 0, 30.0)


def now() -> float:
    return asyncio.get_running_loop().time()


class World:
    """The links of a process to a scripted cluster, with a lane that has something to say."""

    def __init__(self, nodes: Nodes, *, slots: bool = False) -> None:
        self.nodes, self.memory = nodes, Memory("recall")
        if slots:
            self.memory.known(("w", "o")).heard("1-a/old", now(), TERMS)
        self.links = ClusterLinks(
            nodes,  # type: ignore[arg-type]
            self.memory,
            "recall",
            clock=now,
            open_wire=nodes.open_wire,
        )
        self.lane, self.route = ScriptedLane(Command(USAGE, (KEYS.slots,), ())), self.links.of(KEYS)

    def begin(self) -> None:
        """A session begins, with something to say."""
        self.route.join()
        self.route.wake(self.lane)

    def say(self) -> None:
        self.lane.messages = 1
        self.route.wake(self.lane)

    async def close(self) -> None:
        self.lane.messages, began = 0, now()
        self.route.leave()
        await self.route.aclose_unused()
        await asyncio.sleep(0)
        assert self.nodes.open == []
        assert now() - began < 0.9
        assert asyncio.all_tasks() == {asyncio.current_task()}

    def marks(self) -> dict[Address, str]:
        """The last key of which each node was asked for the life of its data."""
        return {node: command.keys[0] for node, command in self.nodes.heard if command.script is MARK}


def test_times_spare_the_cluster_and_its_callers() -> None:
    """Would find a promoted replica late, or keep connections to nodes that have nothing."""
    assert 0.05 <= READ_EVERY <= 0.1
    assert 5.0 <= IMPORTING <= 10.0


def test_cluster_is_silent_as_long_as_the_first_map_is_missing() -> None:
    """Would blame the quota while no node says where it is kept, or Redis while a known map is read again."""

    async def main() -> None:
        world = World(Nodes(ALL))
        world.nodes.delay = 1.5
        world.begin()
        await asyncio.sleep(1.0)
        assert (world.route.silence(), world.route.trouble) == (pytest.approx(1.0, abs=1e-3), "")
        await asyncio.sleep(0.6)
        assert (world.lane.heard, world.links.silence()) == (["life"], 0.0)
        world.links.read_map()
        await asyncio.sleep(1.0)
        assert world.links.silence() == 0.0
        await world.close()

    run(main())


def test_cluster_that_does_not_answer_is_an_outage_after_two_seconds() -> None:
    """Would wait for ever for a map, or say of the outage that there is none, or nothing of its cause."""

    async def main() -> None:
        world = World(Nodes(ALL))
        world.nodes.delay = 1000.0
        world.begin()
        await asyncio.sleep(OUTAGE_TIMEOUT - 0.01)
        assert (world.lane.silent, world.links.trouble) == (0, "")
        await asyncio.sleep(0.02)
        assert (world.lane.silent, world.links.trouble) == (1, f"no answer within {OUTAGE_TIMEOUT:g} s")
        assert world.links.silence() == pytest.approx(OUTAGE_TIMEOUT, abs=0.02)
        world.route.leave()
        assert (world.links.trouble, world.links.silence()) == ("", 0.0)  # nobody waits for it any more
        world.route.join()
        await world.close()

    run(main())


@pytest.mark.parametrize(("slots", "most"), [(False, RETRY_AT_MOST), (True, HOLD_AT_MOST)])
def test_process_with_slots_asks_a_silent_cluster_more_often(slots: bool, most: float) -> None:
    """Would ask a dead cluster all the time, or come late to one that was restarted without its data."""

    async def main() -> None:
        world = World(Nodes(ConnectionError("refused")), slots=slots)
        world.begin()
        await asyncio.sleep(60.0)
        gaps = [later - earlier for earlier, later in pairwise(world.nodes.read)]
        assert READ_EVERY - 1e-6 <= gaps[0] < 0.2
        assert all(most / 2 <= gap <= most + 0.01 for gap in gaps[-20:])
        assert max(gaps) > 0.75 * most
        await world.close()

    run(main())


def test_maps_are_read_one_after_the_other_with_a_pause() -> None:
    """Would read the map as often as nodes name others, while slots are being moved."""

    async def main() -> None:
        world = World(Nodes(ALL))
        world.begin()
        await asyncio.sleep(0.05)
        for _ in range(50):
            world.links.moved(SLOT, ONE)
            await asyncio.sleep(0.01)
        gaps = [later - earlier for earlier, later in pairwise(world.nodes.read)]
        assert min(gaps) >= READ_EVERY - 1e-6
        assert len(world.nodes.read) <= 7
        await world.close()

    run(main())


def test_slot_without_a_master_is_looked_for_less_and_less_often() -> None:
    """Would read the map in a busy loop while half of a cluster is away, or not again for a minute."""

    async def main() -> None:
        world = World(Nodes(HOLE))
        world.begin()
        await asyncio.sleep(20.0)
        gaps = [later - earlier for earlier, later in pairwise(world.nodes.read)]
        assert gaps[0] == pytest.approx(0.1, abs=0.01)
        assert gaps[-10:] == pytest.approx([HOLD_AT_MOST] * 10, abs=0.01)
        world.nodes.maps = [ALL]
        await asyncio.sleep(HOLD_AT_MOST)
        assert world.lane.heard == ["life"]
        await world.close()

    run(main())


def test_slots_of_quotas_that_nobody_uses_are_reported_to_their_new_node() -> None:
    """Would let a replica that takes over give out slots of a session that has ended, because nobody told it of them."""

    async def main() -> None:
        nodes = Nodes(ALL, ALL_TWO)
        world, other = World(nodes, slots=True), Keys("recall", "another", "o")
        assert slot_of(other.slots) != SLOT
        world.lane.command = Command(USAGE, (other.slots,), ())
        world.route = world.links.of(other)
        world.route.join()  # there may be slots: the map is read, and they are reported
        await asyncio.sleep(1.0)
        reports = [(node, command.keys[0]) for node, command in nodes.heard if command.script is ACQUIRE]
        assert reports == [(ONE, KEYS.slots)]
        assert nodes.open == [ONE]
        world.memory.known(("w", "o")).heard("1-a/old", now())
        world.links.read_map()
        await asyncio.sleep(1.0)
        reports = [(node, command.keys[0]) for node, command in nodes.heard if command.script is ACQUIRE]
        assert reports[1:] == [(TWO, KEYS.slots)]
        assert nodes.open == [TWO]
        await world.close()

    run(main())


def test_process_without_slots_reads_no_map_before_it_needs_one() -> None:
    """Would connect to a cluster when a session begins that never uses its quota."""

    async def main() -> None:
        world = World(Nodes(ALL))
        world.route.join()
        await asyncio.sleep(10.0)
        assert (world.nodes.read, world.nodes.open) == ([], [])
        await world.close()

    run(main())


def test_slots_that_two_nodes_exchange_are_told_to_both() -> None:
    """Would ask a node for the mark of another one, and never notice that its data were lost; or tell it of no slots."""

    async def main() -> None:
        half = SLOTS // 2
        before, after = (
            places(one=(0, half - 1), two=(half, SLOTS - 1)),
            places(two=(0, half - 1), one=(half, SLOTS - 1)),
        )
        nodes = Nodes(before, after)
        world = World(nodes, slots=True)
        other_keys = next(
            keys
            for keys in (Keys("recall", f"w{number}", "o") for number in range(20))
            if before.owner(slot_of(keys.slots)) != before.owner(SLOT)
        )
        other, other_lane = world.links.of(other_keys), ScriptedLane(Command(USAGE, (other_keys.slots,), ()))
        world.route.join()
        world.say()
        other.wake(other_lane)
        await asyncio.sleep(2.0)
        for found in (before, after):
            assert sorted(nodes.open) == [ONE, TWO]
            for node, mark in world.marks().items():
                assert mark.startswith("recall:life:{")
                assert found.owner(slot_of(mark)) == node
            reports = [node for node, command in nodes.heard if command.script is ACQUIRE]
            assert reports[-1] == found.owner(SLOT)
            world.links.read_map()
            await asyncio.sleep(2.0)
        assert [node for node, command in nodes.heard if command.script is ACQUIRE] == [
            before.owner(SLOT),
            after.owner(SLOT),
        ]
        world.say()
        await asyncio.sleep(1.0)
        assert nodes.said[-1] == after.owner(SLOT)
        await world.close()

    run(main())


def test_node_that_takes_over_slots_keeps_its_mark() -> None:
    """Would take a node for one that has lost its data, and hold its quotas, because it took over slots of another."""

    async def main() -> None:
        first = slot_of("recall:life:{0}")  # the mark that would be chosen for a node with all slots
        before = places(one=(0, first - 1), two=(first, SLOTS - 1))
        assert before.owner(SLOT) == ONE
        nodes = Nodes(before, ALL)
        world = World(nodes, slots=True)
        world.begin()
        await asyncio.sleep(1.0)
        mark = world.marks()[ONE]
        assert slot_of(mark) != first
        nodes.heard.clear()
        world.links.read_map()
        await asyncio.sleep(1.0)
        world.say()
        await asyncio.sleep(60.0)
        assert world.marks() == {ONE: mark}
        await world.close()

    run(main())


def test_links_that_are_being_closed_are_waited_for() -> None:
    """Would leave a connection open when a program ends just after a node has lost its slots."""

    async def main() -> None:
        nodes = Nodes(ALL, ALL_TWO)
        world = World(nodes)
        world.route.join()
        world.say()
        await asyncio.sleep(1.0)
        nodes.slow_to_close = 0.5
        world.links.read_map()
        await asyncio.sleep(0.2)
        world.say()
        await asyncio.sleep(0.1)
        assert nodes.open == [ONE, TWO]
        nodes.slow_to_close = 0.0  # the other one
        await world.close()
        assert world.links._closing == set()

    run(main())


def test_lane_that_begins_as_another_one_ends_keeps_the_connections() -> None:
    """Would connect to all nodes anew for the reports of a session that closes its lanes together."""

    async def main() -> None:
        nodes = Nodes(ALL)
        world = World(nodes)
        world.route.join()
        world.say()
        await asyncio.sleep(1.0)
        world.route.leave()

        async def report() -> None:
            world.route.join()
            world.say()

        await asyncio.gather(world.route.aclose_unused(), report())
        await asyncio.sleep(1.0)
        assert (nodes.said, nodes.open, nodes.opened) == ([ONE, ONE], [ONE], 1)
        await world.close()

    run(main())


def test_node_to_which_a_slot_is_being_moved_keeps_its_connection() -> None:
    """Would connect anew for each message while a slot is moved, or keep a connection to a node that has nothing."""

    async def main() -> None:
        nodes = Nodes(ALL)
        world = World(nodes)
        world.route.join()
        world.say()
        await asyncio.sleep(1.0)
        world.route._elsewhere = TWO  # as the node said: ASK
        world.say()
        await asyncio.sleep(1.0)
        assert nodes.said == [ONE, TWO]
        assert world.marks()[TWO].startswith("recall:life:{")
        nodes.maps = [places(one=(0, SLOTS - 2)), places(one=(0, SLOTS - 3))]
        await asyncio.sleep(IMPORTING - 2.0)
        world.links.read_map()
        await asyncio.sleep(0.5)
        assert nodes.open == [ONE, TWO]
        await asyncio.sleep(1.0)
        world.links.read_map()
        await asyncio.sleep(0.5)
        assert nodes.open == [ONE]
        world.say()
        await asyncio.sleep(0.5)
        assert nodes.said == [ONE, TWO, ONE]
        await world.close()

    run(main())


def test_all_links_are_open_while_a_lane_is_in_use() -> None:
    """Would close the connection to a node with the first of two lanes, or leave it unused when the next session begins."""

    async def main() -> None:
        nodes = Nodes(ALL)
        world = World(nodes)
        other = world.links.of(KEYS)
        world.route.join()
        other.join()
        world.say()
        await asyncio.sleep(1.0)
        other.leave()
        await asyncio.sleep(5.0)
        assert nodes.open == [ONE]
        world.route.leave()
        await asyncio.sleep(5.0)
        assert nodes.open == []  # closed by itself
        world.route.join()
        world.say()
        await asyncio.sleep(5.0)
        assert (nodes.said, nodes.open, len(nodes.read)) == ([ONE, ONE], [ONE], 1)
        await world.close()

    run(main())
