"""Ten minutes without the server in the middle of a long job, in virtual time and over a whole network."""

from __future__ import annotations

import asyncio
from random import Random
from uuid import UUID

import pytest

from recall_async import Quota, RecallSession, ScheduleBot
from recall_async.limits.quota import base_quota
from tests.whole.faults import Fault, Faults
from tests.whole.network import Network, NetworkLoop
from tests.whole.run import clocks
from tests.whole.server import Event, Server

SCHEDULE = "calendar_events.schedule_bot"
ACTIONS, TIMEOUT = 5_000, 3.0
OUTAGE = 600.0


class Gateway(Faults):
    """In front of the API: it answers 502, 503 or 504 for ten minutes."""

    def __init__(self, loop: NetworkLoop, random: Random, begins: float) -> None:
        super().__init__(random, 0.0)
        self._loop, self._begins = loop, begins
        self.answered = 0

    def draw(self) -> Fault:
        away = self._begins <= self._loop.time() < self._begins + OUTAGE
        self.answered += away
        return Fault.GATEWAY if away else Fault.NONE


async def job(loop: NetworkLoop, quota: Quota, seed: int) -> tuple[float, set[str], int]:
    """How long the job took, how its actions ended, and how many requests met the outage."""
    random = Random(seed)
    network = Network(loop, random, 0.05)
    faults = Gateway(loop, random, loop.time() + random.uniform(30.0, 300.0))
    server = Server(loop, network, random, faults, {SCHEDULE: quota.limit}, quota.per, TIMEOUT * 0.9, TIMEOUT)
    ids = [str(UUID(int=number + 1)) for number in range(ACTIONS)]
    server.events.update({name: Event() for name in ids})
    session = RecallSession(
        "key-0", base_url=server.url, workspace=f"outage {seed}", quotas={SCHEDULE: quota}, timeout=TIMEOUT
    )
    begun = loop.time()
    async with session:
        outcomes = [outcome async for outcome in session.bulk([ScheduleBot(name, f"key {name}") for name in ids])]
    assert len(outcomes) == ACTIONS
    return loop.time() - begun, {outcome.status for outcome in outcomes}, faults.answered


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_ten_minutes_of_outage_cost_ten_minutes(seed: int) -> None:
    """Would fail actions because the server was away, or go on long after it is back, or slower than the quota allows."""
    quota, loop = base_quota(SCHEDULE), NetworkLoop()
    loop.max_turns = 10**9
    with clocks(loop), asyncio.Runner(loop_factory=lambda: loop) as runner:
        seconds, statuses, refused = runner.run(job(loop, quota, seed))
    assert loop.failures == []
    assert statuses == {"done"}
    assert seconds <= OUTAGE + 1.05 * quota.seconds_for(ACTIONS)
    assert refused <= 35 + OUTAGE / 15  # those in flight and the first retries, then a probe every 15 to 30 s
