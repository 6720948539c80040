"""People beside a bulk job that never ends, on a strict server with 0 to 200 ms of delay each way."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from recall_async.limits.local.lane import LocalLane
from recall_async.limits.quota import Priority, Quota
from tests.simulation import Saturation, Server, call, saturate
from tests.virtual_time import run

MINUTES = 15


def simulated(quota: Quota, calls_per_second: float) -> Saturation:
    async def main() -> Saturation:
        random = Random(1)
        server = Server(quota.limit, quota.per, random)
        lane = LocalLane("test", quota)
        return await saturate(lane, server, random, duration=MINUTES * 60, calls_per_second=calls_per_second)

    return run(main())


@pytest.mark.parametrize("calls_per_second", [0.1, 0.5, 2.0])
@pytest.mark.parametrize(("limit", "used"), [(600, 0.985), (60, 0.91)])
def test_nobody_waits_for_a_bulk_job(limit: int, used: float, calls_per_second: float) -> None:
    """Would waste the quota, overrun it, or keep people waiting behind a bulk job, with the quota's defaults.

    At 60 in 6 s, a round trip is a thirtieth of the window, which nobody can use.
    """
    result = simulated(Quota(limit, limit / 10), calls_per_second)
    assert result.used >= used
    assert result.rejected == 0
    assert result.wait(0.99) <= 0.15


@pytest.mark.parametrize("limit", [60, 600])
def test_greedy_overruns_nothing_either(limit: int) -> None:
    """Would earn a 429 when a window goes out at once."""
    result = simulated(Quota(limit, limit / 10, burst=limit), 0.5)
    assert result.rejected == 0
    assert result.used >= 0.91


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("burst", [None, 6])
def test_most_of_a_small_quota_is_used_beside_people(seed: int, burst: int | None) -> None:
    """Would keep more for people than they use. What test_processes.py expects of four processes, in one."""
    taken, waits = list[int](), list[float]()

    async def main() -> None:
        random, per = Random(seed), 6.0
        server = Server(60, per, random, slow=0.03)
        lane = LocalLane("test", Quota(60, per, burst))

        async def bulk_job() -> None:
            while True:
                await call(lane, server, Priority.BULK)

        async def person() -> None:
            waits.append(await call(lane, server))

        async def people() -> None:
            while True:
                await asyncio.sleep(random.expovariate(2.5))
                tasks.create_task(person())

        async with asyncio.TaskGroup() as tasks:
            endless = [tasks.create_task(bulk_job()) for _ in range(64)] + [tasks.create_task(people())]
            await asyncio.sleep(per + 1)
            for _ in range(round(3 * per / 0.05)):
                taken.append(lane.statistics().taken)
                await asyncio.sleep(0.05)
            for task in endless:
                task.cancel()
        assert server.rejected == []

    run(main())
    assert sum(taken) / len(taken) >= (0.89 if burst is None else 0.87) * 60
    assert sorted(waits)[int(len(waits) * 0.99)] <= 0.35
