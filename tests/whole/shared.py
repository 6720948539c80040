"""The quota in Redis: each place for a session is a process with a store of its own, and all kinds of mishaps happen to
Redis and to the network between. The world is the one of tests/redis/world.py: real scripts, and a clock that is made up.
"""

from __future__ import annotations

import asyncio
import math
from functools import partial
from random import Random
from typing import Any

import pytest
from redis import Redis

from recall_async import Quota
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.link import Link
from recall_async.limits.redis.scripts import GRANT_MAX_AGE, Keys, decode_usage, usage
from tests.redis.world import FakeWire, World
from tests.whole.network import NetworkLoop


class SharedQuota:
    """The stores of two processes on one Redis."""

    def __init__(
        self, client: Redis, loop: NetworkLoop, random: Random, workspace: str, quotas: dict[str, Quota], timeout: float
    ) -> None:
        self._loop, self._random, self._quotas, self._workspace = loop, random, quotas, workspace
        self._per = max(quota.per for quota in quotas.values())
        self._longest = timeout * random.choice((1, 3))
        self._hold_new = random.random() < 0.4
        self._fault = random.choice((0.0, 0.02, 0.2))
        self._world = World(client, random)
        self._world.loop = loop
        self._ill = False  # whether Redis and the network have mishaps
        self._stores = [self._make(0), self._make(1)]

    def _make(self, process: int, after_loss: bool = False) -> RedisQuotaStore:
        """A process; `after_loss` has it speak first after a loss, of which it does not know."""
        losses = []
        if after_loss:
            losses = [self._random.choice((self._world.flush, partial(self._world.restart, "old")))]

        async def open_wire(client: Any) -> FakeWire:
            if losses and self._ill:
                losses.pop()()
            return await self._world.open(process, client)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("recall_async.limits.redis.store.Link", partial(Link, open_wire=open_wire))
            store = RedisQuotaStore.from_url("redis://nowhere", longest_request=self._longest, hold_new=self._hold_new)
            for name, quota in self._quotas.items():  # the first one makes the link
                store.open(self._workspace, name, quota).leave(quota)
        return store

    def store(self, place: int) -> RedisQuotaStore:
        """The store for a new session; now and then its process is another one, which knows nothing yet."""
        if self._hold_new and self._loop.time() > 1040 and self._random.random() < 0.6:
            self._stores[place] = self._make(place, self._ill)
        return self._stores[place]

    async def begin(self) -> None:
        """All have been there before anything goes wrong."""
        await self._admit_everywhere()
        await asyncio.sleep(1)
        self._world.fault = self._fault
        self._world.copy()

    async def _admit_everywhere(self) -> None:
        async with asyncio.TaskGroup() as group:
            for store in self._stores:
                for name in self._quotas:
                    group.create_task(self._admit(store, name))

    async def _admit(self, store: RedisQuotaStore, name: str) -> None:
        lane = store.open(self._workspace, name, self._quotas[name])
        try:
            (await lane.admit()).unused()
        finally:
            lane.leave(self._quotas[name])
            await lane.flush()

    async def mishaps(self) -> None:
        """One after the other, of a few kinds."""
        random, self._ill = self._random, True
        happen = self._world.mishaps(self._per, lambda: len(self._stores))
        kinds = random.sample(list(happen), random.choice((1, 2, 3, len(happen))))
        while True:
            await asyncio.sleep(random.random() * self._per * random.choice((0.3, 1.0, 5.0)))
            happen[random.choice(kinds)]()

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self._ill = False
        self._world.fault, self._world.down_until = 0.0, -math.inf
        self._world.cut.clear()

    async def left(self) -> list[str]:
        """What is wrong when all sessions are closed."""
        complaints = self._world.problems[:1]
        lease = self._longest + GRANT_MAX_AGE + self._per
        try:
            async with asyncio.timeout(4 * lease):
                await self._admit_everywhere()
        except TimeoutError:
            complaints.append("a quota gives no slots any more")
        await asyncio.sleep(self._per + 1)
        for name in self._quotas:
            (reply,) = self._world.execute([usage(Keys("recall", self._workspace, name))])
            if taken := decode_usage(reply).taken:
                complaints.append(f"{taken} slots of {name} are taken for ever")
        if self._world.wires:
            complaints.append(f"{len(self._world.wires)} connections to Redis are left")
        self._world.close()
        return complaints
