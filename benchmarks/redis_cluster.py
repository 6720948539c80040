"""How 100,000 workspaces spread over the masters of a Redis cluster: a simulation, and a small cluster to hold it against.

Every workspace has one hash tag for each operation, so each of its quotas is on one master, chosen by the cluster's own
function of the tag. What a workspace demands is drawn at random: most of them are quiet, some run bulk jobs.
"""

from __future__ import annotations

import asyncio
import time
from random import Random
from typing import NamedTuple

from redis.crc import key_slot

from recall_async.limits.quota import Quota
from recall_async.limits.redis import RedisQuotaStore
from recall_async.limits.redis.scripts import Keys
from tests.redis.cluster import running_cluster

OPERATION = "calendar_events.schedule_bot"
SLOTS = 16384
FULL = 10.0
"""Requests per second of a workspace at its full quota."""


class Demand(NamedTuple):
    """What the workspaces ask for: `busy` of them their full quota, the others `quiet` requests per second on average."""

    name: str
    busy: float
    quiet: float


class Spread(NamedTuple):
    """What the masters of a cluster have to do, in shares of one core."""

    mean: float
    busiest: float


def slots_of(workspaces: int) -> list[int]:
    """The hash slot of each workspace's busiest quota."""
    return [
        key_slot(Keys("recall", f"workspace{number}", OPERATION).slots.encode(), SLOTS) for number in range(workspaces)
    ]


def spread(slots: list[int], demand: Demand, masters: int, cost: float, random: Random) -> Spread:
    """The load of the masters when a request costs `cost` seconds of a core; slots are dealt out evenly, in ranges."""
    load = [0.0] * masters
    for slot in slots:
        rate = FULL if random.random() < demand.busy else random.expovariate(1 / demand.quiet)
        load[slot * masters // SLOTS] += min(rate, FULL) * cost
    return Spread(sum(load) / masters, max(load))


def masters_needed(slots: list[int], demand: Demand, cost: float, most: float) -> int:
    """The smallest cluster in which no master is busier than `most`, a share of its core."""
    masters = 3
    while spread(slots, demand, masters, cost, Random(1)).busiest > most:
        masters += 1 + masters // 16
    return masters


class Shares(NamedTuple):
    """What part of the cluster's work one master has."""

    predicted: float
    """By the slots of the workspaces, which all ask for as much."""
    measured: float
    """By the CPU that its process used."""
    cost: float
    """Seconds of its CPU for each request of its workspaces."""


def measured_shares(workspaces: int, seconds: float) -> list[Shares]:
    """Drive a real cluster of three masters through the library, for `seconds`: each workspace, 10 requests a second."""
    slots = slots_of(workspaces)
    with running_cluster(3, replicas=False) as cluster:
        masters = cluster.nodes
        owners = [slot * len(masters) // SLOTS for slot in slots]

        async def work() -> tuple[list[float], list[int]]:
            store = RedisQuotaStore.from_url(cluster.url)
            quota = Quota(600, 60.0)
            lanes = [store.open(f"workspace{number}", OPERATION, quota) for number in range(workspaces)]
            used, sent = list[float](), [0] * len(masters)

            async def use(number: int, end: float) -> None:
                await asyncio.sleep(number / workspaces / FULL)
                while time.perf_counter() < end:
                    (await lanes[number].admit()).answered()
                    sent[owners[number]] += 1
                    await asyncio.sleep(1 / FULL)

            for length in (seconds / 4, seconds):  # the first is not counted: connecting, scripts, new keys
                before = [master.cpu_seconds() for master in masters]
                end, sent = time.perf_counter() + length, [0] * len(masters)
                await asyncio.gather(*(use(number, end) for number in range(workspaces)))
                used = [master.cpu_seconds() - cpu for master, cpu in zip(masters, before, strict=True)]
            for lane in lanes:
                lane.leave(quota)
            await asyncio.gather(*(lane.flush() for lane in lanes))
            return used, sent

        used, sent = asyncio.run(work())
    return [
        Shares(owners.count(place) / workspaces, cpu / sum(used), cpu / requests)
        for place, (cpu, requests) in enumerate(zip(used, sent, strict=True))
    ]
