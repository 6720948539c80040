"""What follows from a quota: how long so many requests take, and the same for a workspace with a raised limit."""

from __future__ import annotations

import asyncio
import math

import pytest

from recall_async import ConfigurationError, Priority, Quota
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.quota import base_quota, check_quotas
from recall_async.operations import OPERATIONS, OTHER, OTHER_LIMIT, QUOTA_PERIOD
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
    assert Quota(10, 1.0, reserve=9).scaled(0.19) == Quota(1, 1.0, reserve=0)


@pytest.mark.parametrize("factor", [0, -1, math.inf, math.nan])
def test_factors_that_make_no_quota(factor: float) -> None:
    """Would divide by zero, or let everything go."""
    with pytest.raises(ConfigurationError, match="factor must be a finite number above 0, got "):
        Quota(600, 60.0).scaled(factor)


@pytest.mark.parametrize("factor", [2e6, 1e300, 1e308, 10**30])
def test_factors_that_no_server_grants(factor: float) -> None:
    """Would end in an OverflowError of the lane at the first call."""
    with pytest.raises(ConfigurationError, match=r"factor must be at most 1.66667e\+06, got "):
        Quota(600, 60.0).scaled(factor)
    assert Quota(600, 60.0).scaled(1e6).limit == 6e8


@pytest.mark.parametrize(
    ("quota", "reserved", "interactive", "bulk", "promised", "at_most"),
    [
        (Quota(600, 60.0), 2, 600, 300, 5.0, 9.0),
        (Quota(601, 60.0), 3, 601, 300, 301 / 60, 9.015),
        (Quota(60, 6.0), 2, 60, 30, 5.0, 9.0),
        (Quota(59, 59.0), 1, 59, 29, 30 / 59, 53.1 / 59),
        (Quota(10, 1.0), 1, 10, 5, 5.0, 8.0),
        (Quota(2, 1.0), 1, 2, 1, 0.0, 0.0),
        (Quota(1, 2.0), 0, 1, 1, 0.0, 0.0),
        (Quota(600, 60.0, burst=10), 2, 10, 10, 9.0, 9.0),
        (Quota(600, 60.0, burst=600, reserve=0), 0, 600, 600, 0.0, 9.0),
        (Quota(600, 60.0, reserve=599), 599, 600, 300, 0.0, 0.0),
    ],
)
def test_what_a_quota_leaves_to_interactive_calls(
    quota: Quota, reserved: int, interactive: int, bulk: int, promised: float, at_most: float
) -> None:
    """Would leave them more or fewer slots than documented, or more than a lone bulk call can spare."""
    assert quota.reserved == reserved
    assert (quota.at_once(Priority.INTERACTIVE), quota.at_once(Priority.BULK)) == (interactive, bulk)
    assert quota.promised == pytest.approx(promised)
    assert quota.promised_at_most == pytest.approx(at_most)
    assert quota.rate == quota.limit / quota.per


@pytest.mark.parametrize(
    ("requests", "bulk", "interactive"),
    [(0, 0.0, 0.0), (1, 0.0, 0.0), (30, 0.4, 0.0), (58, 6.0, 0.0), (59, 6.0, 0.0), (60, 6.0, 0.0), (61, 6.0, 6.0)],
)
def test_seconds_for_at_its_boundaries(requests: int, bulk: float, interactive: float) -> None:
    """Would count a window too many or too few where one is just full, or take a job's requests for a person's."""
    quota = Quota(60, 6.0)
    assert quota.seconds_for(requests) == quota.seconds_for(requests, Priority.BULK) == pytest.approx(bulk)
    assert quota.seconds_for(requests, Priority.INTERACTIVE) == pytest.approx(interactive)


def test_no_requests_take_no_time() -> None:
    """Would tell of a moment for a job or a plan without requests, by an error of rounding."""
    assert Quota(351, 14.43067972858038, reserve=287).seconds_for(0) == 0.0


@pytest.mark.parametrize("values", [(1, 1.0, 1, 0), (2, 1.0, 2, 1), (2, 1.0, 1, 0)], ids=str)
def test_the_least_and_the_most_of_a_quota(values: tuple[int, float, int, int]) -> None:
    """Would refuse a quota that can be kept."""
    assert Quota(*values).burst == values[2]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("Quota.limit", (0,)),
        ("Quota.limit must be a whole number from 1 to 1000000000, got 1000", (10**400,)),
        ("Quota.per", (1, 0)),
        ("Quota.burst", (2, 1.0, 0)),
        ("Quota.burst", (2, 1.0, 3)),
        ("Quota.reserve", (2, 1.0, None, -1)),
        ("Quota.reserve", (2, 1.0, None, 2)),
    ],
)
def test_quotas_that_cannot_be(name: str, values: tuple[int, ...]) -> None:
    """Would let a quota through under which no call ever goes."""
    with pytest.raises(ConfigurationError, match=name):
        Quota(*values)


def test_quotas_of_a_session() -> None:
    """Would take a mistyped operation or a number for a quota, or share the caller's dictionary."""
    given = {SCHEDULE: Quota(5), OTHER: Quota(7)}
    assert check_quotas(given) == given
    assert check_quotas(given) is not given
    assert check_quotas(None) == {}
    with pytest.raises(ConfigurationError, match="an operation in quotas must be one of "):
        check_quotas({"schedule": Quota(5)})
    with pytest.raises(ConfigurationError, match="must be a Quota"):
        check_quotas({SCHEDULE: 5})  # type: ignore[dict-item]
    assert base_quota(SCHEDULE) == Quota(OPERATIONS[SCHEDULE].limit, QUOTA_PERIOD)
    assert base_quota(OTHER) == Quota(OTHER_LIMIT, QUOTA_PERIOD)
