"""People beside a bulk job that never ends, on a strict server with 0 to 200 ms of delay each way."""

from __future__ import annotations

from random import Random

import pytest

from recall_async.limits.local.lane import LocalLane
from recall_async.limits.quota import Quota
from tests.simulation import Saturation, Server, saturate
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
