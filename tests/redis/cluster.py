"""A real Redis Cluster, or Valkey's, as child processes on free ports of this machine: masters and their replicas."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from tests.ports import free_port, is_free
from tests.redis.server import RedisProcess

SLOTS = 16384
NODE_TIMEOUT = 1000
"""Milliseconds after which the nodes of these clusters count one of them as failed."""


class ClusterProcess:
    """A cluster of `masters`, with one replica each if there are `replicas`."""

    def __init__(self, masters: int = 3, *, replicas: bool = True) -> None:
        count = 2 * masters if replicas else masters
        self.nodes: list[RedisProcess] = [_node() for _ in range(count)]
        self._masters = masters

    @property
    def url(self) -> str:
        """The address of all nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def start(self) -> None:
        """Start all nodes, deal the hash slots out to the masters, and wait until all of them are served."""
        for node in self.nodes:
            node.start()
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        for number, node in enumerate(masters):
            begin, end = number * SLOTS // len(masters), (number + 1) * SLOTS // len(masters)
            ask(node, "CLUSTER", "ADDSLOTS", *range(begin, end))
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            meet(self.nodes[0], node)
        until(lambda: all(len(_links(node)) == len(self.nodes) for node in self.nodes))
        for master, replica in zip(masters, replicas, strict=False):
            name = node_id(master)
            until(lambda replica=replica, name=name: _replicates(replica, name))  # type: ignore[misc]
        self.settled()

    def settled(self) -> None:
        """Wait until all running nodes agree that the cluster serves every slot, and replicas are in step."""
        until(lambda: all(_well(node) for node in self.nodes if node.running))

    def masters(self) -> list[RedisProcess]:
        """The running masters that serve slots."""
        first = next(node for node in self.nodes if node.running)
        ports = [master[1] for _, _, master, *_ in _slots(first)]
        return [node for node in self.nodes if node.running and node.port in ports]

    @staticmethod
    def slot_of(key: str) -> int:
        """The slot of a key."""
        return key_slot(key.encode())

    def owner(self, key: str) -> RedisProcess:
        """The master that has the slot of a key."""
        return self.owner_of(self.slot_of(key))

    def owner_of(self, slot: int) -> RedisProcess:
        """The master that has a slot."""
        for node in self.nodes:
            if node.running and (found := _owner(node, slot)) is not None:
                return next(one for one in self.nodes if one.port == found)
        raise AssertionError(f"no node serves slot {slot}")

    def replica_of(self, master: RedisProcess) -> RedisProcess:
        """The replica of a master."""
        name = node_id(master)

        def ports() -> list[int]:
            return [int(words[1].partition("@")[0].rpartition(":")[2]) for words in _links(master) if words[3] == name]

        until(lambda: bool(ports()))  # a master that was a replica itself learns of its own a moment later
        return next(node for node in self.nodes if node.port in ports())

    def add(self) -> RedisProcess:
        """Add an empty master."""
        node = _node()
        self.nodes.append(node)
        node.start()
        meet(self.nodes[0], node)
        until(lambda: all(len(_links(one)) >= len(self.nodes) for one in self.nodes if one.running))
        self.settled()
        return node

    def move(self, slot: int, source: RedisProcess, target: RedisProcess, *, end: bool = True) -> None:
        """Move a slot with its keys, as `redis-cli --cluster reshard` does; without `end`, stop before the last step."""
        begin_move(slot, source, target)
        move_keys(slot, source, target)
        if end:
            self.end_move(slot, target)

    def end_move(self, slot: int, target: RedisProcess) -> None:
        """Tell all masters that the slot has moved."""
        name = node_id(target)
        ask(target, "CLUSTER", "SETSLOT", slot, "NODE", name)
        for node in self.nodes:
            if node.running and node is not target and _is_master(node):
                ask(node, "CLUSTER", "SETSLOT", slot, "NODE", name)

    def close(self) -> None:
        """Leave nothing behind."""
        for node in self.nodes:
            node.close()


@contextmanager
def running_cluster(masters: int = 3, *, replicas: bool = True) -> Iterator[ClusterProcess]:
    """A cluster that serves."""
    cluster = ClusterProcess(masters, replicas=replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@contextmanager
def half_moved(cluster: ClusterProcess, key: str) -> Iterator[tuple[RedisProcess, RedisProcess]]:
    """The slot of a key is being moved from one node to another; it has been moved at the end."""
    slot, source = cluster.slot_of(key), cluster.owner(key)
    target = next(node for node in cluster.masters() if node is not source)
    begin_move(slot, source, target)
    try:
        yield source, target
    finally:
        while move_keys(slot, source, target):
            pass
        cluster.end_move(slot, target)


def until(condition: Callable[[], bool], within: float = 30.0) -> None:
    """Wait for what the nodes of a cluster tell each other."""
    limit = time.monotonic() + within
    while True:
        try:
            if condition():
                return
        except RedisError:
            pass
        assert time.monotonic() < limit, "the cluster does not get there"
        time.sleep(0.05)


def ask(node: RedisProcess, *words: Any) -> Any:
    """Send one command to one node."""
    with Redis(port=node.port, socket_timeout=5.0, decode_responses=True) as client:
        return client.execute_command(*words)


def node_id(node: RedisProcess) -> str:
    """A node's name in the cluster."""
    return str(ask(node, "CLUSTER", "MYID"))


def meet(node: RedisProcess, other: RedisProcess) -> None:
    """Have a node meet another one."""
    ask(node, "CLUSTER", "MEET", "127.0.0.1", other.port)


def begin_move(slot: int, source: RedisProcess, target: RedisProcess) -> None:
    """From here on, the source answers ASK where it has no key of the slot."""
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", node_id(source))
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", node_id(target))


def move_keys(slot: int, source: RedisProcess, target: RedisProcess, at_most: int = 1000) -> list[str]:
    """Move keys of the slot, and return their names."""
    keys: list[str] = list(ask(source, "CLUSTER", "GETKEYSINSLOT", slot, at_most))
    if keys:
        ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    return keys


def _node() -> RedisProcess:
    # Nodes talk to each other on the port 10,000 higher.
    port = free_port()
    while not is_free(port + 10_000):
        port = free_port()
    timeout = "--cluster-node-timeout", str(NODE_TIMEOUT), "--cluster-replica-validity-factor", "0"
    return RedisProcess("--cluster-enabled", "yes", *timeout, "--repl-diskless-sync-delay", "0", port=port)


def _links(node: RedisProcess) -> list[list[str]]:
    """What a node knows of all nodes whose names it has learnt."""
    with Redis(port=node.port, socket_timeout=5.0) as client:
        text = client.execute_command("CLUSTER", "NODES")
    lines = text.decode() if isinstance(text, bytes) else text
    return [line.split() for line in lines.splitlines() if "handshake" not in line]


def _owner(node: RedisProcess, slot: int) -> int | None:
    for begin, end, master, *_ in _slots(node):
        if begin <= slot <= end:
            return int(master[1])
    return None


def _slots(node: RedisProcess) -> list[Any]:
    with Redis(port=node.port, socket_timeout=5.0) as client:
        # In two words: redis-py would parse the reply to "CLUSTER SLOTS".
        return list(client.execute_command("CLUSTER", "SLOTS"))


def _replicates(replica: RedisProcess, name: str) -> bool:
    ask(replica, "CLUSTER", "REPLICATE", name)  # refused until the replica knows the master
    return True


def _is_master(node: RedisProcess) -> bool:
    return bool(ask(node, "ROLE")[0] == "master")


def _well(node: RedisProcess) -> bool:
    if b"cluster_state:ok" not in _info(node):
        return False
    with Redis(port=node.port, socket_timeout=5.0) as client:
        replication = client.info("replication")
    if replication["role"] == "slave":
        return bool(replication["master_link_status"] == "up")
    return True


def _info(node: RedisProcess) -> bytes:
    with Redis(port=node.port, socket_timeout=5.0) as client:
        info = client.execute_command("CLUSTER", "INFO")
    return info if isinstance(info, bytes) else str(info).replace("'", "").replace(": ", ":").encode()
