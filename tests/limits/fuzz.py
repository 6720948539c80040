"""Schedules of the local store that follow from a seed, in virtual time, against a server that counts as badly as it may.

    python -m tests.limits.fuzz SEED

Calls of both priorities come, wait, are cancelled, are answered, refused or lost, and sessions with other quotas come and
go; loops follow one another, closed or not, in the middle of it. The server counts each request at the worst moment that
the network allows: at once, just before the answer, or at the end of the grace of a request that was given up.
"""

from __future__ import annotations

import asyncio
import math
import sys
from dataclasses import dataclass, field
from random import Random

from recall_async.errors import ConfigurationError, DeadlineExceededError
from recall_async.limits.contract import QuotaLane, Slot
from recall_async.limits.local import store as store_module
from recall_async.limits.local.lane import GRACE
from recall_async.limits.local.memory import Memories
from recall_async.limits.local.store import LocalQuotaStore
from recall_async.limits.loops import PerLoop
from recall_async.limits.quota import Priority, Quota
from tests.virtual_time import VirtualTimeLoop

OPERATION = "calendar_events.schedule_bot"


@dataclass
class Schedule:
    """One run, and what went wrong in it."""

    seed: int
    problems: list[str] = field(default_factory=list)
    counted: list[float] = field(default_factory=list)
    """When the server counted requests."""

    def __post_init__(self) -> None:
        self.random = random = Random(self.seed)
        self.per = random.choice([0.01, 0.3, 1.0, 4.0, 60.0, 1e4])
        self.limit = random.choice([1, 1, 2, 3, 5, 8, 20])
        self.grace = self.per * random.choice([0.1, 0.5, 2.0])
        self.loops: list[VirtualTimeLoop] = []

    def quota(self) -> Quota:
        """One that does not exceed the server's."""
        limit = self.random.randint(1, self.limit)
        burst = self.random.choice([None, limit, 1])
        return Quota(limit, self.per, burst, self.random.choice([None, 0, limit - 1]))

    async def _call(self, lane: QuotaLane) -> None:
        random, per, now = self.random, self.per, asyncio.get_running_loop().time
        await asyncio.sleep(random.choice([0.0, random.random() * per * 3, random.randrange(12) * per / 4]))
        until = random.choice([math.inf, math.inf, now() + random.random() * 4 * per])
        try:
            slot = await lane.admit(random.choice(list(Priority)), random.choice([math.inf, 1.0, 2.0]), until)
        except DeadlineExceededError:
            return
        sent, took = now(), per * random.choice([0.0, 0.01, 0.5, 0.999, 1.5])
        if sent > until:
            self.problems.append(f"sent {sent - until:g} s after its deadline")
        fate = random.choice(["early", "late", "lost", "rejected", "unused", "cancelled"])
        try:
            await asyncio.sleep(took)
            if fate == "cancelled":
                raise asyncio.CancelledError
        except asyncio.CancelledError:
            self._lose(slot, now())
            raise
        if fate == "unused":
            slot.unused()
        elif fate == "lost":
            self._lose(slot, now())
        else:
            self.counted.append(sent if fate == "early" else now())
            if fate == "rejected":
                slot.rejected(random.choice([0.0, per * random.random(), 2 * per]))
            slot.answered()

    def _lose(self, slot: Slot, now: float) -> None:
        self.counted.append(now + self.grace * (1 - 1e-9))
        slot.lost(self.grace)

    async def _sessions(self) -> None:
        """Other sessions of the workspace, with other quotas."""
        store, random = LocalQuotaStore(), self.random
        for _ in range(random.randrange(6)):
            quota = random.choice([None, self.quota()])
            try:
                lane = store.open("w", OPERATION, quota)
            except ConfigurationError:
                continue
            await asyncio.sleep(random.random() * self.per)
            lane.leave(quota)

    async def _part(self, last: bool) -> None:
        random, loop = self.random, asyncio.get_running_loop()
        quota = self.quota()
        lane = LocalQuotaStore().open("w", OPERATION, quota)
        tasks = [asyncio.create_task(self._call(lane)) for _ in range(random.randrange(5, 60))]
        others = asyncio.create_task(self._sessions())
        for _ in range(random.choice([0, 20])):
            await asyncio.sleep(random.random() * self.per / 4)
            random.choice(tasks).cancel()
        if not last:
            await asyncio.sleep(random.random() * self.per * 2)
            for task in tasks:
                task.cancel()
        for outcome in await asyncio.gather(*tasks, others, return_exceptions=True):
            if isinstance(outcome, Exception):
                self.problems.append(repr(outcome))
        lane.leave(quota)
        if last:
            await asyncio.sleep(8 * self.per + 3 * max(self.grace, GRACE))
            left = lane.statistics()
            assert isinstance(loop, VirtualTimeLoop)
            if left.taken or left.waiting[Priority.BULK] or left.waiting[Priority.INTERACTIVE] or loop.timers():
                self.problems.append(f"left behind: {left}, {loop.timers()} timers")

    def run(self) -> Schedule:
        """Run it, and say what went wrong in `problems`."""
        store_module._registry, store_module._memories = PerLoop(store_module.Lanes), Memories()
        store_module._warned_of.add("w")
        start, parts = 1000.0, self.random.choice([1, 1, 3])
        for part in range(parts):
            loop = VirtualTimeLoop(start)
            self.loops.append(loop)
            try:
                loop.run_until_complete(self._part(part == parts - 1))
            except RuntimeError as error:
                self.problems.append(f"hangs: {error}")
            start = loop.time()
            self.problems += [f"callback: {failure!r}" for failure in loop.failures]
            if self.random.random() < 0.5:
                loop.close()
        for loop in self.loops:
            loop.close()
        self.counted.sort()
        for first, beyond in zip(self.counted, self.counted[self.limit :], strict=False):
            if beyond - first < self.per * (1 - 1e-9):
                self.problems.append(f"{self.limit + 1} requests in {beyond - first:g} s of {self.per:g}, at {first:g}")
                break
        return self


def find(seeds: range) -> Schedule | None:
    """The first schedule in which something goes wrong."""
    return next((schedule for seed in seeds if (schedule := Schedule(seed).run()).problems), None)


if __name__ == "__main__":
    one = Schedule(int(sys.argv[1])).run()
    sys.stdout.write("\n".join(one.problems or ["nothing went wrong"]) + "\n")
