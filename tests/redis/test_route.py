"""The way of one lane through a cluster: what it follows, what it waits for, and what its lane is told. Scripted nodes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from recall_async import Quota
from recall_async.limits.redis.memory import Memory
from recall_async.limits.redis.node_link import NodeGreeter
from recall_async.limits.redis.nodes import RETRY
from recall_async.limits.redis.route import HOLD_AT_MOST, MAX_DETOURS, Route
from recall_async.limits.redis.scripts import USAGE, Asking, Command, Terms
from recall_async.limits.redis.slots import Address, slot_of
from tests.redis.scripted import ScriptedLane
from tests.redis.words import reply
from tests.virtual_time import run

ONE, TWO = Address("one", 7000), Address("two", 7000)
SLOT = 5
SAID = Command(USAGE, ("{w}",), ())


def now() -> float:
    return asyncio.get_running_loop().time()


class Lane(ScriptedLane):
    """A lane that wants to speak after a refusal, too."""

    def refused(self, error: Exception) -> None:
        self.failed.append(error)


class Link:
    """The link to one node: it only counts."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self.trouble = ""
        self.silent = 0.0
        self.awake: list[object] = []

    def wake(self, speaker: object) -> None:
        if speaker not in self.awake:
            self.awake.append(speaker)

    def forget(self, speaker: object) -> None:
        self.awake.remove(speaker)

    def silence(self) -> float:
        return self.silent


class Cluster:
    """The nodes, and who owns the slot."""

    def __init__(self) -> None:
        self.links = {ONE: Link(ONE), TWO: Link(TWO)}
        self.owner: Address | None = ONE
        self.trouble = "no map yet"
        self.reads = 0
        self.users = 0
        self.closed = 0

    def silence(self) -> float:
        return 3.0

    def link_of(self, slot: int, elsewhere: Address | None) -> Any:
        assert slot == SLOT
        at = elsewhere or self.owner
        return None if at is None else self.links[at]

    def moved(self, slot: int, to: Address) -> None:
        self.owner = to

    def serves(self, slot: int, address: Address) -> bool:
        return self.owner == address

    def read_map(self) -> None:
        self.reads += 1

    def join(self) -> None:
        self.users += 1

    def leave(self) -> None:
        self.users -= 1

    async def aclose_unused(self) -> None:
        self.closed += 1


class Way:
    """A route of a lane that wants to speak."""

    def __init__(self, owner: Address | None = ONE) -> None:
        self.cluster, self.lane = Cluster(), Lane(SAID)
        self.cluster.owner = owner
        self.route = Route(self.cluster, SLOT, asyncio.get_running_loop().time)
        self.route.wake(self.lane)

    @property
    def at(self) -> list[Address]:
        """The nodes on which it waits for its turn."""
        return [address for address, link in self.cluster.links.items() if self.route in link.awake]

    def exchange(self, reply: Any) -> list[Command]:
        """One message, and its reply."""
        assert self.route.speaks
        said = self.route.compose("run")
        self.route.on_reply([reply])
        return said


def test_reply_reaches_the_lane() -> None:
    """Would keep a reply from the lane, or hold the lane up after it."""

    async def main() -> None:
        way = Way()
        assert (way.at, way.route.placed, way.route.trouble) == ([ONE], True, "")
        assert way.exchange("reply") == [SAID]
        assert (way.lane.heard, way.lane.silent, way.route.speaks) == (["reply"], 0, False)
        way.route.join()
        way.route.leave()
        await way.route.aclose_unused()
        assert (way.cluster.users, way.cluster.closed) == (0, 1)

    run(main())


def test_lane_follows_a_slot_that_has_moved() -> None:
    """Would send to the old owner again, or say that the message arrived there."""

    async def main() -> None:
        way = Way()
        way.exchange(MovedError("5 two:7000"))
        assert (way.at, way.lane.silent, way.lane.heard) == ([TWO], 1, [])
        assert way.exchange("reply") == [SAID]
        assert way.lane.heard == ["reply"]

    run(main())


def test_one_message_goes_where_the_keys_are_already() -> None:
    """Would send everything to the new node before it owns the slot, or without ASKING."""

    async def main() -> None:
        way = Way()
        way.exchange(AskError("5 two:7000"))
        assert way.at == [TWO]
        (said,) = way.exchange("reply")
        assert type(said) is Asking
        assert way.at == [ONE]
        way.lane.messages = 1
        (said,) = way.exchange("reply")
        assert type(said) is Command

    run(main())


@pytest.mark.parametrize(
    ("reply", "reads", "why"),
    [
        (TryAgainError("Multiple keys request"), 0, "TRYAGAIN"),
        (ClusterDownError("Hash slot not served"), 1, "CLUSTERDOWN"),
        (ResponseError("MOVED 5 ?:7000"), 1, "do not agree"),
        (ResponseError("ASK 5 ?:7000"), 0, "do not agree"),
    ],
)
def test_what_no_node_can_run_now_is_sent_again_after_a_moment(reply: Exception, reads: int, why: str) -> None:
    """Would fail the calls of a lane in a failover, ask in a busy loop, or not say what it waits for."""

    async def main() -> None:
        way = Way()
        began, gaps = now(), list[float]()
        for _ in range(8):
            way.exchange(reply)
            assert not way.route.speaks
            assert why in way.route.trouble
            way.cluster.links[ONE].awake.clear()
            before = now()
            while not way.at:  # noqa: ASYNC110 - a timer wakes it
                await asyncio.sleep(0.01)
            gaps.append(now() - before)
        assert RETRY / 2 - 0.01 <= gaps[0] <= RETRY + 0.02
        assert gaps[1] <= 2 * RETRY + 0.02
        assert all(HOLD_AT_MOST / 2 - 0.01 <= gap <= HOLD_AT_MOST + 0.02 for gap in gaps[4:])
        assert way.cluster.reads == 8 * reads
        assert way.route.silence() == pytest.approx(now() - began, abs=0.01)
        assert way.lane.silent == 8
        way.exchange("reply")
        assert (way.route.trouble, way.route.silence()) == ("", 0.0)
        way.lane.messages = 1
        way.exchange(reply)
        way.cluster.links[ONE].awake.clear()
        before = now()
        while not way.at:  # noqa: ASYNC110 - a timer wakes it
            await asyncio.sleep(0.01)
        assert now() - before <= RETRY + 0.02  # as at first

    run(main())


def test_nodes_that_name_each_other_are_not_asked_in_a_circle() -> None:
    """Would send a message round and round as fast as the network allows."""

    async def main() -> None:
        way = Way()
        for number in range(MAX_DETOURS):
            way.exchange(MovedError(f"5 {'two' if number % 2 == 0 else 'one'}:7000"))
            assert way.route.speaks
        way.exchange(MovedError("5 one:7000"))
        assert not way.route.speaks
        assert "do not agree where the quota is kept" in way.route.trouble
        await asyncio.sleep(1)
        assert way.route.speaks
        way.exchange(MovedError("5 two:7000"))
        assert way.route.speaks  # it counts anew
        way.exchange("reply")
        way.lane.messages = 1
        for number in range(MAX_DETOURS):
            way.exchange(MovedError(f"5 {'one' if number % 2 == 0 else 'two'}:7000"))
            assert way.route.speaks

    run(main())


def test_waits_and_detours_are_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would wait longer, or follow nodes less far, than at first, after a reply or a wait; or go round once more."""
    monkeypatch.setattr("recall_async.limits.redis.route.random.uniform", lambda least, most: most)

    async def held(way: Way) -> float:
        """The seconds for which nothing is sent."""
        began = now()
        while not way.route.speaks:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        return now() - began

    def turns(way: Way) -> int:
        """How often the message is sent on at once."""
        for number in range(10):
            way.exchange(MovedError(f"5 {'one' if number % 2 else 'two'}:7000"))
            if not way.route.speaks:
                return number
        raise AssertionError("for ever")

    async def main() -> None:
        way = Way()
        assert turns(way) == MAX_DETOURS
        assert await held(way) == pytest.approx(RETRY, abs=0.002)
        assert turns(way) == MAX_DETOURS
        assert await held(way) == pytest.approx(2 * RETRY, abs=0.002)
        way.exchange("reply")
        way.lane.messages = 1
        assert turns(way) == MAX_DETOURS
        assert await held(way) == pytest.approx(RETRY, abs=0.002)

    run(main())


def test_message_of_several_commands_goes_one_way() -> None:
    """Would tell the lane of the commands that arrived, and lose the others; or wait though another node was named."""

    async def main() -> None:
        way = Way()
        way.route.compose("run")
        way.route.on_reply(["reply", MovedError("5 two:7000"), TryAgainError("some keys moved")])
        assert (way.lane.heard, way.lane.silent, way.at) == ([], 1, [TWO])
        assert way.route.speaks
        way.route.compose("run")
        way.route.on_reply([ResponseError("WRONGTYPE Operation"), "reply"])
        assert [str(one) for one in way.lane.heard] == ["WRONGTYPE Operation", "reply"]

    run(main())


def test_lane_whose_slot_has_no_master_is_told_once() -> None:
    """Would let calls wait without the reserve while no node serves their quota, or hide how long that lasts."""

    async def main() -> None:
        way = Way(None)
        assert (way.at, way.route.placed, way.route.trouble, way.route.silence()) == ([], False, "no map yet", 3.0)
        assert way.route.stranded()
        await asyncio.sleep(10)
        assert way.route.stranded()
        assert way.lane.silent == 1
        assert way.route.trouble == f"CLUSTERDOWN: no master serves hash slot {SLOT}"
        assert way.route.silence() == pytest.approx(10.0, abs=0.01)
        way.lane.messages = 0
        assert not way.route.stranded()
        way.lane.messages = 1
        way.cluster.owner = TWO
        way.route.place()
        assert not way.route.stranded()
        way.exchange("reply")
        assert (way.route.trouble, way.route.silence()) == ("", 0.0)

    run(main())


def test_lane_stays_while_its_message_is_in_flight() -> None:
    """Would send a message again to another node while the first may still answer."""

    async def main() -> None:
        way = Way()
        way.route.compose("run")
        way.cluster.owner = TWO
        way.route.place()
        assert way.at == [ONE]
        way.route.on_no_reply()
        assert (way.at, way.lane.silent) == ([TWO], 1)
        way.cluster.owner = None
        way.route.place()
        assert (way.at, way.route.placed) == ([], False)

    run(main())


def test_refusals_and_bugs_reach_the_lane() -> None:
    """Would leave the calls of a lane waiting when the node refuses the client, or after a bug."""

    async def main() -> None:
        way = Way()
        for tell in (way.route.refused, way.route.fail):
            way.route.compose("run")
            tell(ResponseError("NOAUTH"))
            way.cluster.owner = TWO if way.cluster.owner == ONE else ONE
            way.route.place()  # no message is in flight
            assert way.at == [way.cluster.owner]
        assert [str(error) for error in way.lane.failed] == ["NOAUTH"] * 2
        lane = way.lane
        del way.lane, lane
        assert (way.route.speaks, way.route.compose("run"), way.route.stranded()) == (False, [], False)
        way.route.on_no_reply()
        way.route.refused(ResponseError("x"))
        way.route.fail(ResponseError("x"))
        way.route._again()
        way.route.compose("run")
        way.route.on_reply([])

    run(main())


def test_node_that_does_not_have_the_quota_is_told_again_later() -> None:
    """Would take slots for told to a node that has just given the quota away, and let others use them."""

    async def main() -> None:
        memory, cluster, woken = Memory("recall"), Cluster(), list[object]()
        memory.known(("w", "o")).heard("1-a/old", now(), Terms.of(Quota(10, 60.0), 0, 30.0))

        class NodeLink:
            address = ONE

            def wake(self, speaker: object) -> None:
                woken.append(speaker)

        greeter = NodeGreeter(cluster, NodeLink(), memory, asyncio.get_running_loop().time)  # type: ignore[arg-type]
        assert slot_of("{w/o}") >= 0
        assert greeter.meet("new", "life")
        assert len(greeter.compose("new")) == 1
        greeter.on_reply([MovedError("5 two:7000")])
        assert (greeter.speaks, cluster.reads) == (False, 1)
        await asyncio.sleep(RETRY * 1.5)
        assert (greeter.speaks, woken) == (True, [greeter])
        greeter.compose("new")
        greeter.on_no_reply()
        assert greeter.speaks
        greeter.compose("new")
        greeter.on_reply([reply(name="2-b/new 10/60060000")])
        assert (greeter.speaks, memory.known(("w", "o")).run) == (False, "new")
        # Reports that the node refuses, or that fail, are dropped.
        for drop in (greeter.refused, greeter.fail):
            memory.known(("w", "o")).heard("1-a/old", now(), Terms.of(Quota(10, 60.0), 0, 30.0))
            assert greeter.meet(f"run {drop.__name__}", "life")
            drop(ResponseError("NOAUTH"))
            assert not greeter.speaks
        cluster.owner = TWO
        assert not greeter.review()

    run(main())
