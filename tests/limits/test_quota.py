"""What follows from a quota: how long so many requests take, and the same for a workspace with a raised limit."""

from __future__ import annotations

import asyncio
import math

import pytest

from recall_async import ConfigurationError, Priority, Quota
from recall_async.limits.local.lane import LocalLane
from tests.virtual_time import run

SCHEDULE = "calendar_events.schedule_bot"


@pytest.mark.parametrize("priority", list(Priority))
@pytest.mark.parametrize(
    "quota", [Quota(60, 6.0), Quota(60, 6.0, burst=60), Quota(60, 6.0, burst=5, reserve=0), Quota(1, 2.0)]
)
@pytest.mark.parametrize("requests", [0, 1, 30, 60, 61, 200])
def test_seconds_for_is_about_what_they_take(priority: Priority, quota: Quota, requests: int) -> None:
    """Would promise a time that is no use, to people or to bulk jobs."""

    async def main() -> float:
        lane, now = LocalLane(SCHEDULE, quota), asyncio.get_running_loop().time
        begun = now()
        for _ in range(requests):
            (await lane.admit(priority)).answered()
        return now() - begun

    assert quota.seconds_for(requests, priority) == pytest.approx(run(main()), rel=0.05, abs=0.05)


def test_scaled_keeps_the_shape() -> None:
    """Would lose a setting, or make a quota that cannot be."""
    assert Quota(600, 60.0).scaled(2) == Quota(1200, 60.0)
    assert Quota(600, 60.0, burst=100, reserve=6).scaled(0.5) == Quota(300, 60.0, burst=50, reserve=3)
    assert Quota(3, 1.0, burst=3, reserve=2).scaled(0.1) == Quota(1, 1.0, burst=1, reserve=0)


@pytest.mark.parametrize("factor", [0, -1, math.inf, math.nan])
def test_factors_that_make_no_quota(factor: float) -> None:
    """Would divide by zero, or let everything go."""
    with pytest.raises(ConfigurationError, match="factor must be a finite number above 0, got "):
        Quota(600, 60.0).scaled(factor)
