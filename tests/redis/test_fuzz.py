"""Thousands of courses of mishaps, each of which follows from its number: nothing is overrun, stuck or left behind.

A failing run is made again by `run(client, seed)` of tests/redis/world.py.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator

import pytest
from redis import Redis

from recall_async.limits.redis.link import Link
from tests.redis.server import RedisProcess
from tests.redis.world import Edit, run

QUICK = 16
MANY = int(os.environ.get("RECALL_TEST_SCHEDULES", "200"))
"""Schedules of the slow test. `RECALL_TEST_SCHEDULES=10000` takes less than half an hour of a core."""
BATCH = 50


@pytest.fixture(autouse=True)
def _silent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "recall_async")


@pytest.fixture
def redis(own_redis: Callable[..., RedisProcess]) -> Iterator[Redis]:
    with Redis(port=own_redis().port) as client:
        yield client


def judged(client: Redis, seeds: range) -> list[tuple[int, list[str]]]:
    """The seeds with problems."""
    reports = ((seed, run(client, seed)) for seed in seeds)
    return [(seed, report.problems) for seed, report in reports if report.problems]


@pytest.mark.timeout(600)  # what ends a test that is slow on a busy machine looks like a call that never ended
def test_no_mishap_overruns_hangs_or_leaks(redis: Redis) -> None:
    """Would break the quota, or a process, when several things go wrong at the same time."""
    assert judged(redis, range(QUICK)) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", range(QUICK, MANY, BATCH))
def test_many_mishaps(redis: Redis, first: int) -> None:
    """Would break the quota, or a process, once in a thousand times."""
    assert judged(redis, range(first, min(first + BATCH, MANY))) == []


GUARDS: dict[str, Edit] = {
    "a message that comes after its repetition is void": ("or '0') > seq then", "or '0') > math.huge then"),
    "another server process is noticed": ("elseif born_run ~= run then", "elseif false then"),
    "lost data are noticed": ("if known ~= '' and known ~= epoch then", "if false then"),
    "a clock that is set back is noticed": ("now < seen - SECOND", "false"),
    "a slot comes back a window after the answer": ("at + span), slot)", "at), slot)"),
    "a lease covers the longest request": ("now + lease + span - per), 0", "now + span), 0"),
    "a hold is as long as a lease": ("+ longest)", "+ per / 4)"),
    "a new quota is held where that was asked for": ("if hold_new == 1 then", "if false then"),
}


def found(client: Redis, edits: tuple[Edit, ...]) -> bool:
    """Whether one of the first runs has a problem."""
    return any(run(client, seed, edits).problems for seed in range(150))


@pytest.mark.parametrize("guard", list(GUARDS)[4:6])
def test_removed_guard_is_found_out(redis: Redis, guard: str) -> None:
    """Would let a fuzz pass that does not look."""
    assert found(redis, (GUARDS[guard],))


@pytest.mark.slow
@pytest.mark.parametrize("guard", GUARDS)
def test_every_removed_guard_is_found_out(redis: Redis, guard: str) -> None:
    """Would let a fuzz pass that does not come to where the guard is needed."""
    assert found(redis, (GUARDS[guard],))


def test_link_that_forgets_who_spoke_is_found_out(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would let calls hang for ever whose ask went unanswered."""
    compose = Link._compose

    def forget(self: Link, speakers: list[object], run: str) -> object:
        said = compose(self, speakers, run)  # type: ignore[arg-type]
        self._awake.clear()
        return said

    monkeypatch.setattr(Link, "_compose", forget)
    monkeypatch.setattr("recall_async.limits.redis.lane.RedisLane.on_no_reply", lambda self: self._outbox.on_no_reply())
    assert found(redis, ())
