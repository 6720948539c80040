"""Reach the nodes of a Redis Cluster: connect to one of them, read the map of hash slots, run a few commands."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ConnectionError, RedisError

from ...stopping import end_tasks
from .failures import refuses
from .scripts import Asking, Command
from .slots import Address, Later, Moved, SlotMap, detour, slot_of
from .wire import Wire

NEXT_NODE = 0.25
"""Seconds until the next node is asked as well, while one does not reply."""
RETRY = 0.05
"""Seconds until a command is repeated that no node can run now."""


class Cluster:
    """How to reach a cluster: the nodes to ask first, and a function that makes the client of one node."""

    def __init__(self, first: Sequence[Address], connect: Callable[[Address], Redis]) -> None:
        self.first: tuple[Address, ...] = tuple(first)
        self.connect: Callable[[Address], Redis] = connect

    async def read_map(self, known: Iterable[Address] = ()) -> SlotMap:
        """Read the map of slots from any node, those of `known` first, in random order.

        Raises the error of the last node if none replies.
        """
        known = list(known)
        random.shuffle(known)
        candidates = list(dict.fromkeys([*known, *self.first]))
        asked: set[asyncio.Task[SlotMap]] = set()
        error: Exception = ConnectionError("no node of the cluster is known")
        try:
            while asked or candidates:
                if candidates:
                    name = "recall_async quota store: map of the cluster"
                    asked.add(asyncio.create_task(self._read_map_of(candidates.pop(0)), name=name))
                done, asked = await asyncio.wait(
                    asked, timeout=NEXT_NODE if candidates else None, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    if (failure := task.exception()) is None:
                        return task.result()
                    if not isinstance(failure, Exception):
                        raise failure
                    error = failure
            raise error
        finally:
            await end_tasks(asked)

    async def _read_map_of(self, address: Address) -> SlotMap:
        client, wire = self.connect(address), None
        try:
            wire = await Wire.connect(client)
            reply = await wire.ask("CLUSTER", "SLOTS")
        finally:
            if wire is not None:
                await wire.drop()
            await client.aclose()
        found = SlotMap(reply, address)
        if not found.masters:
            raise ConnectionError(f"{address} is a node of a cluster that serves no hash slot")
        return found

    async def run(self, commands: Sequence[Command], seconds: float) -> list[Any]:
        """Run commands on the nodes that have their keys, and return the replies.

        Follows nodes that name others, and waits while a slot is being moved or a node is down, for at most `seconds`.
        Repeats nothing that a node may have run. Raises the node's error, or `TimeoutError`.
        """
        failures: list[Exception] = []
        try:
            async with asyncio.timeout(seconds):
                return await self._run(commands, failures, seconds)
        except TimeoutError:
            if failures:
                raise failures[-1] from None
            raise

    async def _run(self, commands: Sequence[Command], failures: list[Exception], seconds: float) -> list[Any]:
        replies: list[Any] = [None] * len(commands)
        places = await self.read_map()
        asking: dict[int, Address] = {}
        left = list(range(len(commands)))
        while left:
            failures.clear()
            by_node: dict[Address, list[int]] = {}
            again = []
            for number in left:
                owner = asking.get(number) or places.owner(slot_of(commands[number].keys[0]))
                if owner is None:
                    again.append(number)
                else:
                    by_node.setdefault(owner, []).append(number)
            left = []
            for address, numbers in by_node.items():
                said = [Asking(*commands[number]) if number in asking else commands[number] for number in numbers]
                for number in numbers:
                    asking.pop(number, None)
                failures.append(TimeoutError(f"no reply from {address} within {seconds:g} s"))  # if that ends the time
                heard = await self._exchange(address, said)
                failures.pop()
                if isinstance(heard, Exception):
                    failures.append(heard)
                    again += numbers  # a replica may take over
                    continue
                for number, reply in zip(numbers, heard, strict=True):
                    way = detour(reply, address) if isinstance(reply, Exception) else None
                    if way is None:
                        replies[number] = reply
                    elif isinstance(way, Later) or way.to is None:
                        again.append(number)
                    else:
                        left.append(number)
                        if isinstance(way, Moved):
                            places.moved(slot_of(commands[number].keys[0]), way.to)
                        else:
                            asking[number] = way.to
            if again:
                await asyncio.sleep(RETRY)
                places = await self.read_map(places.nodes)
                left += again
        return replies

    async def _exchange(self, address: Address, commands: list[Command]) -> list[Any] | Exception:
        """Return the replies, or the error of a node that is down, to which nothing was sent."""
        client, wire = self.connect(address), None
        try:
            try:
                wire = await Wire.open(client)
            except (RedisError, OSError) as error:
                if refuses(error):
                    raise
                return error
            return await wire.exchange(commands)
        finally:
            if wire is not None:
                await wire.aclose()
            await client.aclose()
