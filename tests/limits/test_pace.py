"""The pace among others that nobody told us of: by itself, and against them in virtual time."""

from __future__ import annotations

import asyncio
import math
from random import Random

import pytest

from benchmarks.crowd import BURST, CLIENTS, Backoff, Crowd, simulate
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.pace import DOUBT, FLOOR, FRESH, GROWTH, LEAST, Pace, report_pause
from recall_async.limits.promise import OPENING
from recall_async.limits.quota import Priority, Quota
from tests.simulation import Server, call
from tests.virtual_time import run

LIMIT, PER = 60, 6.0
FULL = LIMIT / PER
QUOTA = Quota(LIMIT, PER)


def share(requests: float) -> float:
    """The requests per window with which the pace begins after so many were granted."""
    return requests - DOUBT * math.sqrt(requests)


def steady(rate: float, *, until: float = 60.0) -> Pace:
    """The pace of a lane that has been accepted so many times a second."""
    pace = Pace(LIMIT, PER)
    for number in range(int(until * rate)):
        pace.admitted(number / rate)
        pace.accepted(number / rate)
    return pace


def test_nothing_is_held_back_before_a_429() -> None:
    """Would slow down a lane that has the quota to itself."""
    pace = steady(FULL)
    assert pace.rate(60.0) == math.inf
    assert pace.next == -math.inf


def test_begins_below_what_was_granted_and_grows_faster_and_faster() -> None:
    """Would ask for too much again at once, or never take back what others leave."""
    pace = steady(5.0)
    pace.rejected(60.0, 59.9, 62.0, jitter=0.5)
    assert pace.rate(61.0) == pace.rate(62.0) == pytest.approx(share(5.0 * PER) / PER, rel=0.05)
    rates = [pace.rate(62.0 + one * PER) for one in range(12)]
    last = rates.index(math.inf)
    assert 2 <= last <= 5  # a window at the full quota first
    assert 1.05 < rates[1] / rates[0] < 1.5
    assert rates[last - 1] == FULL
    pace.admitted(62.0 + 12 * PER)
    assert pace.next <= 62.0 + 12 * PER


def test_spreads_requests_evenly_after_a_random_moment() -> None:
    """Would let out clumps, or have all who met the same 429 begin again at the same moment."""
    pace = steady(5.0)
    pace.rejected(60.0, 59.9, 62.0, jitter=0.5)
    rate = pace.rate(62.0)
    assert pace.next == pytest.approx(62.0 + 0.5 / rate)
    pace.admitted(62.5)
    assert pace.next == pytest.approx(62.5 + 1 / pace.rate(62.5))


def test_late_answers_do_not_slow_down_twice() -> None:
    """Would punish a lane once for each of the requests that were on their way when it met the first 429."""
    pace = steady(5.0)
    pace.rejected(60.0, 59.9, 62.0, jitter=0.0)
    rate = pace.rate(62.0)
    for _ in range(10):
        pace.rejected(60.5, 59.95, 63.0, jitter=0.0)
    assert pace.rate(63.0) == rate
    pace.rejected(64.0, 63.5, 65.0, jitter=0.0)
    assert pace.rate(65.0) < rate


def test_never_slower_than_a_share_of_the_quota() -> None:
    """Would all but stop a lane whose every request is refused."""
    pace, now = steady(1.0), 60.0
    for apart, slowest in ((1.0, FLOOR * FULL), (PER, LEAST / PER)):
        for _ in range(100):
            now += apart
            pace.admitted(now)
            pace.rejected(now + 0.1, now, now + 0.5, jitter=1.0)
            assert pace.rate(now + 0.5) > slowest * 0.99
        assert pace.rate(now + 0.5) == pytest.approx(slowest, rel=0.2)


def test_lane_that_has_just_begun_is_not_taken_for_a_slow_one() -> None:
    """Would hold up a job that was interrupted and carries on, as if the little it was granted yet were its share."""
    pace = Pace(LIMIT, PER)
    for _ in range(20):
        pace.admitted(60.0)
        pace.accepted(60.2)
    pace.rejected(60.2, 60.0, 61.2, jitter=0.0)  # the oldest request in the server's window is 5 s old, ours 0.2 s
    assert pace.rate(61.2) == pytest.approx(share(LIMIT) / PER)
    # A job whose first request is refused has most likely filled the window itself, before a restart. A web backend may
    # have done so, or others.
    for bulk, granted in ((True, LIMIT), (False, FRESH * LIMIT)):
        pace = Pace(LIMIT, PER)
        pace.admitted(60.0)
        pace.rejected(60.2, 60.0, 61.2, jitter=0.0, bulk=bulk)
        assert pace.rate(61.2) == pytest.approx(share(granted) / PER)
    # And a window that filled while we were there says what our share of it is.
    pace = Pace(LIMIT, PER)
    for _ in range(6):
        pace.admitted(60.0)
        pace.accepted(60.2)
    pace.rejected(60.2, 60.0, 66.0, jitter=0.0)
    assert pace.rate(66.0) == pytest.approx(share(PER) / PER)


def test_grows_as_documented() -> None:
    """Would grow at another speed than docs/quota.md says: by 15 % in a window, sixteenfold after eight seconds more."""
    pace = Pace(600, 60.0)
    for number in range(-60, 60):
        pace.admitted(number + 0.5)
        pace.accepted(number + 0.5)
    pace.rejected(60.0, 59.9, 60.0, jitter=0.0)
    begun = pace.rate(60.0)
    assert begun == pytest.approx((60 - 0.5 * math.sqrt(60)) / 60)
    assert pace.rate(120.0) == pytest.approx(1.15 * begun)
    slowly = pace.rate(128.0)
    assert slowly == pytest.approx(1.15 ** (68 / 60) * begun)
    assert pace.rate(158.0) == pytest.approx(4 * slowly)
    assert pace.rate(128.0 + 1e9) == math.inf


def test_short_windows_grow_slowly_for_two_and_a_half() -> None:
    """Would hold a lane with a short window back for many of them, or not wait for those who still pause."""
    pace = Pace(600, 1.0)
    for number in range(20):
        pace.admitted(number / 10)
        pace.accepted(number / 10)
    pace.rejected(2.0, 1.9, 2.0, jitter=0.0)
    assert pace.rate(4.5) == pytest.approx(1.15**2.5 * pace.rate(2.0))
    assert pace.rate(5.0) == pytest.approx(4 * pace.rate(4.5))


def test_floor_is_halved_once_in_half_a_window() -> None:
    """Would stop a lane for what it did before it slowed down, or hold out against a crowd that is larger than it seemed."""
    pace = steady(0.2)
    pace.rejected(60.0, 59.9, 60.0, jitter=0.0)
    floor = FLOOR * FULL
    assert pace.rate(60.0) == pytest.approx(floor)
    pace.rejected(60.0 + 0.4 * PER, 60.1, 60.0 + 0.4 * PER, jitter=0.0)
    assert pace.rate(60.0 + 0.4 * PER) == pytest.approx(floor)
    again = 60.0 + 0.95 * PER
    pace.rejected(again, again - 0.1, again, jitter=0.0)
    assert pace.rate(again) == pytest.approx(max(floor * GROWTH**0.55 / 2, LEAST / PER))


def test_request_of_the_moment_at_which_a_pause_ends_is_a_later_one() -> None:
    """Would not slow down for a lane whose clock is coarse, or that sends at the first moment."""
    pace = steady(5.0)
    pace.rejected(60.0, 59.9, 62.0, jitter=0.0)
    rate = pace.rate(62.0)
    pace.rejected(62.1, 62.0, 63.0, jitter=0.0)
    assert pace.rate(63.0) < 0.9 * rate


def test_429_at_the_moment_of_the_request() -> None:
    """Would divide by zero where the clock has not moved on since the lane began."""
    pace = Pace(LIMIT, PER)
    for _ in range(16):
        pace.admitted(60.0)
        pace.accepted(60.0)
    pace.rejected(60.0, 60.0, 61.0, jitter=0.0)
    assert pace.rate(61.0) == pytest.approx(share(16) / PER)


def test_what_the_server_has_forgotten_does_not_count() -> None:
    """Would take for a share of this window what was accepted in earlier ones, or keep the times of all requests."""
    pace = Pace(LIMIT, PER)
    pace.admitted(0.0)
    for number in range(1000):
        pace.accepted(number * PER / 20)
    assert len(pace._accepted) == LIMIT
    end = 999 * PER / 20
    pace.admitted(end)
    pace.rejected(end, end, end, jitter=0.0)
    assert pace.rate(end) == pytest.approx(share(20) / PER)


def test_lane_that_was_granted_nothing_asks_once_in_two_windows() -> None:
    """Would insist, where others leave nothing of a small quota."""
    pace = Pace(10, PER)
    for number in range(20):
        pace.admitted(number)
    pace.rejected(20.0, 19.0, 21.0, jitter=0.0)
    assert pace.rate(21.0) == pytest.approx(0.5 / PER)


def test_lane_that_has_recovered_begins_like_a_new_one() -> None:
    """Would crawl after the first 429 of a new day, because there was one the day before."""
    pace = steady(5.0)
    pace.rejected(60.0, 59.9, 62.0, jitter=0.0)
    later = 62.0 + 100 * PER
    pace.admitted(later)
    assert pace.rate(later) == math.inf
    pace.rejected(later + 0.1, later, later + 1.0, jitter=0.0)
    assert pace.rate(later + 1.0) == pytest.approx(share(FRESH * LIMIT) / PER)


def test_long_pause_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Would stop a workspace for hours without a word, cry at every 429 of a minute, or repeat itself."""
    report_pause("op", 3600.0, -math.inf)
    assert not caplog.records
    report_pause("op", 86400.0, 3600.0)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "op was answered 429 with a Retry-After of 86400 s" in record.getMessage()
    report_pause("op", 86400.0, 86399.0)
    assert len(caplog.records) == 1
    report_pause("op", 3600.5, -math.inf)
    assert len(caplog.records) == 2


def crowds(strategy: Backoff | None, pattern: str, limit: int, windows: float, seeds: int) -> Crowd:
    each = [simulate(strategy, pattern, limit, limit / 10, windows, seed) for seed in range(seeds)]
    requests, rejected, seconds = (sum(values) for values in zip(*each, strict=True))
    return Crowd(int(requests), int(rejected), seconds)


@pytest.mark.parametrize(("limit", "windows", "seeds"), [(60, 10, 4), (600, 3, 1)])
def test_ten_strangers_hardly_get_in_each_others_way(limit: int, windows: float, seeds: int) -> None:
    """Would meet storms of 429s, or hardly use the quota, where others use it too."""
    usual = Backoff(0.5, 30.0, honours=True)
    ours = crowds(None, "Poisson", limit, windows, seeds)
    theirs = crowds(usual, "Poisson", limit, windows, max(1, seeds // 2))
    assert ours.rejected / ours.requests <= (1 - 0.973) * theirs.rejected / theirs.requests


@pytest.mark.parametrize(("limit", "windows", "seeds"), [(60, 10, 4), (600, 3, 1)])
def test_ten_strangers_who_come_in_bursts_learn_from_one_request(limit: int, windows: float, seeds: int) -> None:
    """Would meet more 429s than come in one burst of each. A burst goes at once where nothing is known of others, or nothing
    any more."""
    ours = crowds(None, "bursts", limit, windows, seeds)
    assert ours.rejected <= 1.2 * seeds * CLIENTS * BURST


def busy(lane: LocalLane, server: Server, workers: int = 32) -> list[asyncio.Task[None]]:
    """A bulk job that never ends."""

    async def worker() -> None:
        while True:
            await call(lane, server, Priority.BULK)

    return [asyncio.create_task(worker()) for _ in range(workers)]


@pytest.mark.parametrize("seed", range(3))
def test_two_lanes_share_and_the_one_that_stays_takes_all(seed: int) -> None:
    """Would leave quota unused beside another client, or long after it has gone."""

    async def main() -> None:
        random = Random(seed)
        server = Server(LIMIT, PER, random)
        first, second = (LocalLane("test", QUOTA, jitter=random.random) for _ in range(2))
        now, begin = asyncio.get_running_loop().time, asyncio.get_running_loop().time()
        staying, leaving = busy(first, server), busy(second, server)

        def used(since: float, windows: float) -> float:
            return sum(since <= at < since + windows * PER for at in server.accepted) / (windows * LIMIT)

        await asyncio.sleep(23 * PER)
        assert used(begin + 3 * PER, 20) >= 0.8
        assert sum(at >= begin + 3 * PER for at in server.rejected) <= 20 * 2
        assert first.statistics().pace or second.statistics().pace
        for worker in leaving:
            worker.cancel()
        gone = now()
        await asyncio.sleep(14 * PER)
        assert used(gone + 6 * PER, 8) >= 0.9
        assert first.statistics().pace is None
        assert sum(at >= gone + PER for at in server.rejected) == 0
        for worker in staying:
            worker.cancel()

    run(main())


@pytest.mark.parametrize("idle", [1.0, 5.0, 20.0])
def test_job_that_was_killed_carries_on(idle: float) -> None:
    """Would have half a window refused at once, and take minutes to get going again, because the server still counts what
    the killed process sent."""

    async def main() -> tuple[float, int]:
        random = Random(1)
        server, now = Server(600, 60.0, random), asyncio.get_running_loop().time
        killed = busy(LocalLane("killed", Quota(600, 60.0)), server)
        await asyncio.sleep(90)
        for worker in killed:
            worker.cancel()
        await asyncio.sleep(idle)
        lane, begin = LocalLane("next", Quota(600, 60.0), jitter=random.random), now()
        await asyncio.gather(*(call(lane, server, Priority.BULK) for _ in range(1200)))
        return now() - begin, len(server.rejected)

    seconds, rejected = run(main())
    assert seconds <= 2.8 * 60
    assert rejected <= 100


def test_lone_job_begins_with_a_few_requests() -> None:
    """Would send half a window at once to a server whose window others have filled, or take more than moments for it where
    nobody has."""

    async def main() -> tuple[int, float]:
        server, now = Server(600, 60.0, Random(1)), asyncio.get_running_loop().time
        lane = LocalLane("test", Quota(600, 60.0))
        calls = [asyncio.create_task(call(lane, server, Priority.BULK)) for _ in range(300)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        at_once = lane.statistics().in_flight
        await asyncio.wait(calls)
        return at_once, now()

    at_once, seconds = run(main(), start=0.0)
    assert at_once == OPENING
    assert seconds <= 2.0
