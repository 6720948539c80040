"""How 100,000 workspaces spread over the masters of a Redis cluster: a simulation.

Every workspace has one hash tag for each operation, so each of its quotas is on one master, chosen by the cluster's own
function of the tag. What a workspace demands is drawn at random: most of them are quiet, some run bulk jobs.
"""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from redis.crc import key_slot

from recall_async.limits.redis.scripts import Keys

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
    operation = "calendar_events.schedule_bot"
    return [
        key_slot(Keys("recall", f"workspace{number}", operation).slots.encode(), SLOTS) for number in range(workspaces)
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
