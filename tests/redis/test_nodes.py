"""How a command finds its node in a cluster, on scripted nodes in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    ConnectionError,
    MovedError,
    NoPermissionError,
    ResponseError,
    TryAgainError,
)

from recall_async.limits.redis import nodes
from recall_async.limits.redis.failures import refuses
from recall_async.limits.redis.nodes import NEXT_NODE, RETRY, Cluster
from recall_async.limits.redis.scripts import USAGE, Asking, Command
from recall_async.limits.redis.slots import SLOTS, Address, key_on
from tests.virtual_time import VirtualTimeLoop, run

ONE, TWO, THREE = (Address(name, 7000) for name in ("one", "two", "three"))

Answer = Callable[[Command], Any]


class Nodes:
    """Nodes that answer from a script, and what they were asked."""

    def __init__(self) -> None:
        self.maps: dict[Address, Any] = {}
        """What each says of the slots: rows, an error, or the seconds after which it says nothing."""
        self.answers: dict[Address, Answer] = {}
        self.down: dict[Address, Exception] = {}
        """Why nobody can connect to a node."""
        self.silent: set[Address] = set()
        """Those that reply to no command."""
        self.asked: list[tuple[Address, tuple[Command, ...]]] = []
        self.read: list[Address] = []
        self.open = 0
        self.clients = 0

    def connect(self, address: Address) -> Any:
        self.clients += 1
        return _Client(self, address)

    def cluster(self, *first: Address) -> Cluster:
        return Cluster(first, self.connect)


class _Client:
    def __init__(self, nodes: Nodes, address: Address) -> None:
        self.nodes, self.address = nodes, address

    async def aclose(self) -> None:
        self.nodes.clients -= 1


class _Wire:
    def __init__(self, client: _Client) -> None:
        self.nodes, self.address = client.nodes, client.address
        self.nodes.open += 1

    @classmethod
    async def open(cls, client: _Client) -> _Wire:
        if (error := client.nodes.down.get(client.address)) is not None:
            client.nodes.asked.append((client.address, ()))
            raise error
        return cls(client)

    @classmethod
    async def connect(cls, client: _Client) -> _Wire:
        return cls(client)

    async def ask(self, *words: str) -> Any:
        assert words == ("CLUSTER", "SLOTS")
        self.nodes.read.append(self.address)
        said = self.nodes.maps[self.address]
        if isinstance(said, float):
            await asyncio.sleep(said)
            raise ConnectionError("silent")
        if isinstance(said, BaseException):
            raise said
        return said() if callable(said) else said

    async def exchange(self, commands: list[Command]) -> list[Any]:
        self.nodes.asked.append((self.address, tuple(commands)))
        if self.address in self.nodes.silent:
            await asyncio.sleep(3600.0)
        return [self.nodes.answers[self.address](command) for command in commands]

    async def drop(self) -> None:
        self.nodes.open -= 1

    aclose = drop


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Nodes:
    monkeypatch.setattr(nodes, "Wire", _Wire)
    return Nodes()


def rows(**owners: tuple[int, int]) -> list[Any]:
    """A map of slots: the first and the last of each node."""
    return [[begin, end, [name.encode(), 7000, b"id"]] for name, (begin, end) in owners.items()]


def commands(*slots: int) -> list[Command]:
    """Commands whose first keys are in these slots."""
    return [Command(USAGE, (key_on([slot], "w{}"), key_on([SLOTS - 1 - slot], "w{}")), ()) for slot in slots]


def left(nodes: Nodes) -> tuple[int, int]:
    return nodes.open, nodes.clients


def test_commands_go_to_their_nodes_and_replies_keep_their_order(scripted: Nodes) -> None:
    """Would send a quota to the wrong node, or give one quota the numbers of another."""
    scripted.maps[ONE] = rows(one=(0, 99), two=(100, SLOTS - 1))
    scripted.answers = {ONE: lambda command: f"one {command.keys[0]}", TWO: lambda command: f"two {command.keys[0]}"}
    asked = commands(500, 5, 600, 50)
    replies = run(scripted.cluster(ONE).run(asked, 2.0))
    wanted = ("two", "one", "two", "one")
    assert replies == [f"{name} {command.keys[0]}" for name, command in zip(wanted, asked, strict=True)]
    assert sorted(address for address, _ in scripted.asked) == [ONE, TWO]  # one message to each
    assert left(scripted) == (0, 0)
    assert run(scripted.cluster(ONE).run([], 2.0)) == []


def test_nodes_that_name_others_are_followed(scripted: Nodes) -> None:
    """Would fail a command whose slot has moved, or send it on without ASKING, or ask for ever."""
    scripted.maps[ONE] = rows(one=(0, SLOTS - 1))

    def one(command: Command) -> Any:
        return {5: MovedError("5 two:7000"), 6: AskError("6 three:7000")}.get(number(command), "one")

    scripted.answers = {ONE: one, TWO: lambda command: "two", THREE: lambda command: type(command)}
    five, six, seven = commands(5, 6, 7)
    numbers = {five.keys: 5, six.keys: 6, seven.keys: 7}

    def number(command: Command) -> int:
        return numbers[command.keys]

    assert run(scripted.cluster(ONE).run([five, six, seven, five], 2.0)) == ["two", Asking, "one", "two"]
    assert scripted.read == [ONE]  # what a node says is enough
    assert left(scripted) == (0, 0)


def test_detour_by_asking_is_for_one_message(scripted: Nodes) -> None:
    """Would send all later messages of a slot with ASKING, which its owner refuses, after it was moved once."""
    scripted.maps[ONE] = rows(one=(0, SLOTS - 1))
    replies = iter([AskError("5 two:7000"), "at home"])
    scripted.answers = {ONE: lambda command: next(replies), TWO: lambda command: TryAgainError("some keys moved")}
    assert run(scripted.cluster(ONE).run(commands(5), 2.0)) == ["at home"]
    assert [type(said[0]) for _, said in scripted.asked] == [Command, Asking, Command]


@pytest.mark.parametrize(
    "reply",
    [
        TryAgainError("Multiple keys request during rehashing of slot"),
        ClusterDownError("The cluster is down"),
        ResponseError("MOVED 5 ?:7000"),
    ],
)
def test_what_no_node_can_run_now_waits_and_the_map_is_read_again(scripted: Nodes, reply: Exception) -> None:
    """Would ask without a pause while a replica takes over, or give up what will work in a moment."""
    replies = iter([reply, reply, "now"])
    scripted.maps[ONE] = scripted.maps[TWO] = rows(one=(0, 50), two=(51, SLOTS - 1))
    scripted.answers = {ONE: lambda command: next(replies), TWO: lambda command: "two"}

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await scripted.cluster(ONE).run(commands(5, 100), 2.0) == ["now", "two"]
        return loop.time() - began

    assert run(main()) == pytest.approx(2 * RETRY, abs=0.01)
    assert len(scripted.read) == 3
    assert [len(said) for _, said in scripted.asked] == [1, 1, 1, 1]  # what has its reply is not sent again
    assert left(scripted) == (0, 0)


def test_slot_without_a_master_is_waited_for(scripted: Nodes) -> None:
    """Would fail, or send a command to no node, while no master serves its slot."""
    maps = iter([rows(one=(0, 3)), rows(one=(0, 3)), rows(one=(0, SLOTS - 1))])
    scripted.maps[ONE] = lambda: next(maps)
    scripted.answers[ONE] = lambda command: "here"
    assert run(scripted.cluster(ONE).run(commands(5, 2), 2.0)) == ["here", "here"]
    assert [len(said) for _, said in scripted.asked] == [1, 1]


def test_node_that_dies_is_replaced_within_the_time(scripted: Nodes) -> None:
    """Would fail all that is asked of a cluster while a replica takes over for one node."""
    maps = iter([rows(one=(0, 50), two=(51, SLOTS - 1))] * 3)
    scripted.maps[ONE] = lambda: next(maps, rows(one=(0, 50), three=(51, SLOTS - 1)))
    scripted.maps[TWO] = scripted.down[TWO] = ConnectionError("refused")
    scripted.answers = {ONE: lambda command: "one", THREE: lambda command: "three"}
    assert run(scripted.cluster(ONE).run(commands(5, 100), 2.0)) == ["one", "three"]
    assert [address for address, _ in scripted.asked] == [ONE, TWO, TWO, TWO, THREE]
    assert left(scripted) == (0, 0)


def test_node_that_stays_away_is_what_is_told(scripted: Nodes) -> None:
    """Would wait for ever, or say that the time is over and not why, or name a node that is back."""
    scripted.maps[ONE] = rows(one=(0, 50), two=(51, SLOTS - 1))
    scripted.maps[TWO] = ConnectionError("refused")
    scripted.down[TWO] = ConnectionError("connecting to two:7000 refused")
    scripted.answers = {ONE: lambda command: "one", TWO: lambda command: TryAgainError("some keys moved")}
    with pytest.raises(ConnectionError, match="two:7000 refused"):
        run(scripted.cluster(ONE).run(commands(5, 100), 2.0))

    async def main() -> None:
        asyncio.get_running_loop().call_later(1.0, scripted.down.clear)
        await scripted.cluster(ONE).run(commands(100), 2.0)

    with pytest.raises(TimeoutError):
        run(main())
    assert left(scripted) == (0, 0)


def test_node_that_does_not_reply_is_named(scripted: Nodes) -> None:
    """Would say of a cluster of many nodes only that the time is over."""
    scripted.maps[ONE] = rows(one=(0, 50), two=(51, SLOTS - 1))
    scripted.answers, scripted.silent = {ONE: lambda command: "one"}, {TWO}
    with pytest.raises(TimeoutError, match="no reply from two:7000 within 2 s"):
        run(scripted.cluster(ONE).run(commands(5, 100), 2.0))
    assert left(scripted) == (0, 0)


def test_what_a_node_may_have_run_is_not_repeated(scripted: Nodes) -> None:
    """Would say that nothing was paused, because the pause was ended by a command whose reply was lost."""
    scripted.maps[ONE] = rows(one=(0, SLOTS - 1))

    def cut(command: Command) -> Any:
        raise ConnectionError("reset")

    scripted.answers[ONE] = cut
    with pytest.raises(ConnectionError, match="reset"):
        run(scripted.cluster(ONE).run(commands(5), 2.0))
    assert len(scripted.asked) == 1
    assert left(scripted) == (0, 0)


def test_node_that_refuses_is_asked_once(scripted: Nodes) -> None:
    """Would ask again and again with a password that is wrong."""
    scripted.maps[ONE] = rows(one=(0, SLOTS - 1))
    scripted.down[ONE] = AuthenticationError("WRONGPASS invalid username-password pair or user is disabled.")
    with pytest.raises(AuthenticationError):
        run(scripted.cluster(ONE).run(commands(5), 2.0))
    assert len(scripted.asked) == 1
    assert left(scripted) == (0, 0)


def test_error_of_a_command_is_its_reply(scripted: Nodes) -> None:
    """Would repeat for ever what Redis refuses, or hide it from the others."""
    refusal = ResponseError("WRONGTYPE Operation against a key")
    scripted.maps[ONE] = rows(one=(0, SLOTS - 1))
    five, six = commands(5, 6)
    scripted.answers[ONE] = lambda command: refusal if command.keys == five.keys else "fine"
    assert run(scripted.cluster(ONE).run([five, six], 2.0)) == [refusal, "fine"]


def read(nodes: Nodes, *first: Address, known: tuple[Address, ...] = ()) -> tuple[frozenset[Address], float]:
    """The masters of the map that is read, and the seconds it took."""

    async def main() -> tuple[frozenset[Address], float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await nodes.cluster(*first).read_map(known)
        assert len(asyncio.all_tasks()) == 1
        return found.masters, loop.time() - began

    found = run(main())
    assert left(nodes) == (0, 0)
    return found


def test_next_node_is_asked_while_one_is_silent(scripted: Nodes) -> None:
    """Would wait for a dead node until its connection times out, or ask all of them at once."""
    scripted.maps = {ONE: 30.0, TWO: rows(two=(0, SLOTS - 1)), THREE: rows(three=(0, 1))}
    masters, seconds = read(scripted, ONE, TWO, THREE)
    assert (masters, scripted.read) == ({TWO}, [ONE, TWO])
    assert seconds == pytest.approx(NEXT_NODE, abs=0.01)


def test_last_node_is_waited_for(scripted: Nodes) -> None:
    """Would give up a slow cluster of one node after a quarter of a second, or ask it again and again."""
    scripted.maps = {ONE: 3.0}
    with pytest.raises(ConnectionError, match="silent"):
        read(scripted, ONE)
    assert scripted.read == [ONE]
    assert left(scripted) == (0, 0)


def test_nodes_that_fail_are_passed_over_at_once(scripted: Nodes) -> None:
    """Would end the search at the first node that is down, or wait after each."""
    scripted.maps = {ONE: ConnectionError("refused"), TWO: [], THREE: rows(three=(0, 1))}
    masters, seconds = read(scripted, ONE, TWO, THREE)
    assert (masters, scripted.read) == ({THREE}, [ONE, TWO, THREE])
    assert seconds < 0.01


def test_error_of_the_last_node_is_raised(scripted: Nodes) -> None:
    """Would say nothing of why no node answers, or take a node without slots for a cluster."""
    scripted.maps = {ONE: ConnectionError("refused"), TWO: []}
    with pytest.raises(ConnectionError, match="two:7000 is a node of a cluster that serves no hash slot"):
        read(scripted, ONE, TWO)
    with pytest.raises(ConnectionError, match="refused"):
        read(scripted, TWO, ONE)
    with pytest.raises(ConnectionError, match="no node of the cluster is known"):
        read(scripted)
    assert left(scripted) == (0, 0)


def test_known_nodes_come_first_and_each_is_asked_once(scripted: Nodes) -> None:
    """Would ask the first nodes of a program that runs for months, of which none may be left, or one node twice."""
    scripted.maps = dict.fromkeys((ONE, TWO, THREE), ConnectionError("refused"))
    begun = set()
    for _ in range(40):
        scripted.read.clear()
        with pytest.raises(ConnectionError):
            read(scripted, ONE, TWO, known=(TWO, THREE))
        assert sorted(scripted.read[:2]) == [THREE, TWO]
        assert scripted.read[2:] == [ONE]
        begun.add(scripted.read[0])
    assert begun == {TWO, THREE}  # not all processes at the same node


def test_cancelled_search_leaves_no_connection(scripted: Nodes) -> None:
    """Would leave connections and tasks behind when a call's deadline comes during the search."""
    scripted.maps = dict.fromkeys((ONE, TWO, THREE), 30.0)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await scripted.cluster(ONE, TWO, THREE).read_map()
        assert len(asyncio.all_tasks()) == 1

    run(main())
    assert scripted.read == [ONE, TWO, THREE]
    assert left(scripted) == (0, 0)


def test_what_ends_the_program_is_no_failure_of_a_node(scripted: Nodes) -> None:
    """Would ask the next node when the program is to end."""
    scripted.maps = {ONE: SystemExit(3), TWO: rows(two=(0, 1))}
    loop = VirtualTimeLoop()
    with pytest.raises(SystemExit), asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scripted.cluster(ONE, TWO).read_map())
    assert scripted.read == [ONE]


def test_what_is_no_error_is_no_failure_of_a_node(scripted: Nodes) -> None:
    """Would swallow what a debugger or a test runner raises to end the program, and go on with the next node."""

    class Stop(BaseException):
        pass

    scripted.maps = {ONE: Stop(), TWO: rows(two=(0, SLOTS - 1))}
    with pytest.raises(Stop):
        run(scripted.cluster(ONE, TWO).read_map())
    assert scripted.read == [ONE]
    assert left(scripted) == (0, 0)


@pytest.mark.parametrize(
    ("error", "refused"),
    [
        (NoPermissionError("this user has no permissions"), True),
        (AuthenticationError("WRONGPASS invalid username-password pair or user is disabled."), True),
        (ResponseError("unknown command 'CLUSTER'"), True),
        (ResponseError("LOADING Redis is loading"), False),
        (ClusterDownError("The cluster is down"), False),
        (ConnectionError("reset"), False),
        (OSError("no route"), False),
    ],
)
def test_refusals_of_the_whole_cluster(error: Exception, refused: bool) -> None:
    """Would ask every node of a cluster that refuses the client, or give up at one that is loading."""
    assert refuses(error) is refused


def test_search_goes_on_when_one_of_two_silent_nodes_fails(scripted: Nodes) -> None:
    """Would give up on the node that is still asked when the list of nodes is at its end."""
    scripted.maps = {ONE: 3 * NEXT_NODE, TWO: NEXT_NODE / 2}
    with pytest.raises(ConnectionError, match="silent"):
        read(scripted, ONE, TWO)
    assert (scripted.read, left(scripted)) == ([ONE, TWO], (0, 0))
