"""The map of hash slots, as nodes report it."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import AskError, ClusterDownError, MovedError, ResponseError, TryAgainError

from recall_async.limits.redis.slots import SLOTS, Address, Elsewhere, Later, Moved, SlotMap, detour, key_on, slot_of

ASKED = Address("asked", 7000)
ONE, TWO, THREE = (Address(name, 7000) for name in ("one", "two", "three"))


def node(address: Address, *more: Any) -> list[Any]:
    return [address.host.encode(), address.port, b"id", *more]


def test_slots_belong_to_the_masters_and_replicas_are_known() -> None:
    """Would send a quota to a replica, to the wrong node at the end of a range, or forget a node to ask."""
    found = SlotMap([[0, 100, node(ONE), node(THREE)], [101, 101, node(TWO)], [16000, SLOTS - 1, node(ONE)]], ASKED)
    assert [found.owner(slot) for slot in (0, 100, 101, 102, 15999, 16000, SLOTS - 1)] == [
        ONE, ONE, TWO, None, None, ONE, ONE,
    ]  # fmt: skip
    assert found.masters == {ONE, TWO}
    assert list(found.nodes) == [ONE, TWO, THREE]
    assert list(found.slots(TWO)) == [101]
    assert list(found.slots(THREE)) == []
    assert SlotMap([], ASKED).masters == frozenset()


def test_nodes_that_do_not_know_their_address_are_where_they_were_asked() -> None:
    """Would connect to an empty host, or to one called "?"."""
    found = SlotMap([[0, 1, [b"", 7, b"id", []], ["?", 8, "id"]], [2, 3, [b"?", 9, b"id"]], [4, 4, ["name", 9]]], ASKED)
    assert found.owner(0) == Address("asked", 7)
    assert found.owner(2) is None
    assert found.owner(4) == Address("name", 9)
    assert list(found.nodes) == [Address("asked", 7), Address("name", 9)]


def test_what_a_node_says_of_one_slot_changes_that_slot() -> None:
    """Would move the neighbours, too, or take a map with a correction for one that was read."""
    rows = [[0, SLOTS - 1, node(ONE)]]
    found = SlotMap(rows, ASKED)
    assert found == SlotMap(rows, ASKED)
    found.moved(5, TWO)
    assert [found.owner(slot) for slot in (4, 5, 6)] == [ONE, TWO, ONE]
    assert found.masters == {ONE, TWO}
    assert found != SlotMap([[0, 4, node(ONE)], [5, 5, node(TWO)], [6, SLOTS - 1, node(ONE)]], ASKED)


@pytest.mark.parametrize(
    ("error", "way"),
    [
        (MovedError("3999 one:7000"), Moved(ONE)),
        (MovedError("3999 :7001"), Moved(Address("asked", 7001))),
        (MovedError("3999 fe80::1:7001"), Moved(Address("fe80::1", 7001))),
        (AskError("3999 two:7000"), Elsewhere(TWO)),
        (ResponseError("MOVED 3999 one:7000"), Moved(ONE)),
        (ResponseError("MOVED 3999 ?:7000"), Moved(None)),
        (ResponseError("ASK 3999 one:7000"), Elsewhere(ONE)),
        (TryAgainError("Multiple keys request during rehashing of slot"), Later),
        (ResponseError("TRYAGAIN Multiple keys"), Later),
        (ClusterDownError("Hash slot not served"), Later),
        (ResponseError("WRONGTYPE Operation against a key"), None),
        (ConnectionResetError("gone"), None),
    ],
)
def test_replies_that_name_another_way(error: Exception, way: Any) -> None:
    """Would take one reply for the other, in one of the versions of redis-py, or lose the address."""
    found = detour(error, ASKED)
    assert isinstance(found, Later) if way is Later else (type(found), found) == (type(way), way)


def test_only_a_cluster_that_is_down_is_read_again() -> None:
    """Would read the map again for each call while a slot is being moved, or never after a failure."""
    down, moving = detour(ClusterDownError("The cluster is down"), ASKED), detour(TryAgainError("x"), ASKED)
    assert isinstance(down, Later)
    assert isinstance(moving, Later)
    assert (down.down, moving.down) == (True, False)


def test_a_key_is_found_for_every_slot() -> None:
    """Would put the mark of a node's data on another node."""
    for slot in (0, 1, 8000, SLOTS - 1):
        assert slot_of(key_on([slot], "recall:{}:life")) == slot
    assert slot_of("a{w}b") == slot_of("{w}") != slot_of("{v}")


@pytest.mark.parametrize(
    ("error", "way"),
    [
        (ResponseError("MOVED 3999 one:seven"), Moved(None)),
        (ResponseError("ASK 3999 one"), Elsewhere(None)),
        (ResponseError("ASK 3999 ?:7000"), Elsewhere(None)),
        (ResponseError("ASK 3999 :7001"), Elsewhere(Address("asked", 7001))),
    ],
)
def test_replies_without_an_address(error: Exception, way: Any) -> None:
    """Would fail in the middle of a reply, or connect to a port that is none."""
    assert (type(detour(error, ASKED)), detour(error, ASKED)) == (type(way), way)


@pytest.mark.parametrize(
    ("error", "why", "down"),
    [
        (TryAgainError("Multiple keys"), "TRYAGAIN: the hash slot is being moved to another node", False),
        (ResponseError("TRYAGAIN Multiple keys"), "TRYAGAIN: the hash slot is being moved to another node", False),
        (ClusterDownError("Hash slot not served"), "CLUSTERDOWN Hash slot not served", True),
        (ResponseError("CLUSTERDOWN Hash slot not served"), "CLUSTERDOWN Hash slot not served", True),
    ],
)
def test_why_a_message_waits_is_said_in_the_words_of_redis(error: Exception, why: str, down: bool) -> None:
    """Would name the code twice, or not at all, in one of the versions of redis-py, or miss that the cluster is down."""
    assert detour(error, ASKED) == Later(why, down)


def test_addresses_are_written_as_in_a_url() -> None:
    """Would show an address of IPv6 from which the port cannot be told."""
    assert (str(ONE), str(Address("fe80::1", 7000))) == ("one:7000", "[fe80::1]:7000")


def test_maps_differ_in_every_part() -> None:
    """Would keep an old map of slots because only the replicas, one slot, or a correction are new."""
    rows = [[0, 1, node(ONE), node(TWO)]]
    assert SlotMap(rows, ASKED) == SlotMap(rows, ASKED)
    assert SlotMap(rows, ASKED) != SlotMap([[0, 1, node(ONE), node(THREE)]], ASKED)
    assert SlotMap(rows, ASKED) != SlotMap([[0, 2, node(ONE), node(TWO)]], ASKED)
    assert SlotMap(rows, ASKED) != rows
    moved = SlotMap(rows, ASKED)
    moved.moved(1, ONE)  # where it was
    assert moved != SlotMap(rows, ASKED)
    moved.moved(2, THREE)
    assert (list(moved.nodes), moved.masters) == ([ONE, TWO, THREE], {ONE, THREE})


def test_first_number_of_a_slot_names_its_key() -> None:
    """Would name one node's mark in two ways."""
    assert key_on(range(SLOTS), "life:{}") == "life:{0}"
    assert key_on([slot_of("{1}")], "life:{}") == "life:{1}"


def test_every_slot_has_the_owner_that_was_named() -> None:
    """Would move the slots behind a range by one, so that some are asked for at another master."""
    found = SlotMap([[0, 4, node(ONE)], [5, 5, node(TWO)], [6, SLOTS - 1, node(THREE)]], ASKED)
    assert (list(found.slots(ONE)), list(found.slots(TWO))) == ([0, 1, 2, 3, 4], [5])
    assert list(found.slots(THREE)) == list(range(6, SLOTS))


def test_rows_of_a_map_come_in_any_order() -> None:
    """Would give the slots behind a range to its neighbours, where a node reports its map node by node."""
    rows = [[100, 199, node(ONE)], [300, SLOTS - 1, node(THREE)], [200, 299, node(TWO)], [0, 99, node(TWO)]]
    found = SlotMap(rows, ASKED)
    assert (list(found.slots(ONE)), list(found.slots(THREE))) == ([*range(100, 200)], [*range(300, SLOTS)])
    assert list(found.slots(TWO)) == [*range(100), *range(200, 300)]


def test_nodes_with_further_names_are_read() -> None:
    """Would take the name of a node of Redis 7, which says more of itself, for something else."""
    found = SlotMap([[0, 1, node(ONE, [b"hostname", b"h"])], [2, 3, [b"?", 9, b"id", []]]], ASKED)
    assert (found.owner(0), found.owner(2), list(found.nodes)) == (ONE, None, [ONE])
