"""Which node of a Redis Cluster serves which key: hash slots, and what nodes say of them. Pure.

The cluster spreads its keys over 16,384 hash slots. A key's slot follows from the text in its braces, and each slot
belongs to one master. A master that does not serve a slot names the one that does:

| reply | meaning | what follows |
| --- | --- | --- |
| `MOVED` | another master owns the slot | ask it from now on, and read the map again |
| `ASK` | the slot is being moved, and the keys are there already | send this message to it, once, after `ASKING` |
| `TRYAGAIN` | the slot is being moved, and only some of the keys are there | send it again soon |
| `CLUSTERDOWN` | no master serves the slot, or too few masters run | the same, and read the map again |
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from .failures import code

SLOTS: int = REDIS_CLUSTER_HASH_SLOTS


class Address(NamedTuple):
    """Where a node listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Moved(NamedTuple):
    """Another node owns the slot; `None` if the reply does not say which."""

    to: Address | None


class Elsewhere(NamedTuple):
    """Another node has the keys of this message already; `None` if the reply does not say which."""

    to: Address | None


class Later(NamedTuple):
    """No node can run this message now."""

    why: str
    down: bool
    """True if the map should be read again."""


Detour: TypeAlias = Moved | Elsewhere | Later


def detour(error: Exception, asked: Address) -> Detour | None:
    """Return where or when to send a message again; `None` if the error means something else.

    `asked` is the node that replied: a reply without a host means the same host.
    """
    name = code(error)
    if isinstance(error, AskError):  # which MovedError is, too; its text begins behind the code
        return _elsewhere("MOVED" if isinstance(error, MovedError) else "ASK", f"{error}".split()[-1], asked)
    if name in ("MOVED", "ASK"):  # redis-py 5 keeps the code
        return _elsewhere(name, f"{error}".split()[-1], asked)
    if isinstance(error, TryAgainError) or name == "TRYAGAIN":
        return Later("TRYAGAIN: the hash slot is being moved to another node", down=False)
    if isinstance(error, ClusterDownError) or name == "CLUSTERDOWN":
        return Later(str(error) if name == "CLUSTERDOWN" else f"CLUSTERDOWN {error}", down=True)
    return None


def _elsewhere(name: str, node: str, asked: Address) -> Detour:
    host, _, port = node.rpartition(":")
    to = None if host == "?" or not port.isdecimal() else Address(host or asked.host, int(port))
    return Moved(to) if name == "MOVED" else Elsewhere(to)


def slot_of(key: str) -> int:
    """Return the hash slot of a key."""
    return key_slot(key.encode())


def key_on(slots: Iterable[int], form: str) -> str:
    """Return a key in one of these slots, by putting the first number that fits into `form`."""
    wanted, number = set(slots), 0
    while slot_of(key := form.format(f"{{{number}}}")) not in wanted:
        number += 1
    return key


class SlotMap:
    """The master of each hash slot, as one node reported it. Slots without a master have none here."""

    def __init__(self, reply: Sequence[Any], asked: Address) -> None:
        """`reply`: that of `CLUSTER SLOTS`; `asked`: the node that replied."""
        self._owners: list[Address | None] = [None] * SLOTS
        self._patched = False
        self.nodes: dict[Address, None] = {}
        """All nodes: masters first, then replicas."""
        replicas: dict[Address, None] = {}
        for begin, end, master, *others in reply:
            owner = _address(master, asked)
            self._owners[begin : end + 1] = [owner] * (end + 1 - begin)
            if owner is not None:
                self.nodes[owner] = None
            replicas |= {address: None for node in others if (address := _address(node, asked)) is not None}
        self.masters: frozenset[Address] = frozenset(self.nodes)
        self.nodes |= replicas

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SlotMap) and self._state == other._state

    @property
    def _state(self) -> object:
        return self._owners, self.nodes, self._patched

    def owner(self, slot: int) -> Address | None:
        """Return the master of a slot."""
        return self._owners[slot]

    def moved(self, slot: int, to: Address) -> None:
        """Record what a node said of one slot."""
        self._owners[slot] = to
        self.masters |= {to}
        self.nodes[to] = None
        self._patched = True

    def slots(self, owner: Address) -> Iterator[int]:
        """Yield the slots of a master."""
        return (slot for slot, address in enumerate(self._owners) if address == owner)


def _address(node: Sequence[Any], asked: Address) -> Address | None:
    host = node[0].decode() if isinstance(node[0], bytes) else node[0]
    if host == "?":
        return None
    return Address(host or asked.host, int(node[1]))
