"""Who shares a lane, whose quota it keeps to, and what one event loop learns from another."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from recall_async.errors import ConfigurationError
from recall_async.limits.contract import QuotaLane
from recall_async.limits.local.store import LocalQuotaStore
from recall_async.limits.quota import Quota, base_quota
from tests.virtual_time import run

SCHEDULE, REMOVE = "calendar_events.schedule_bot", "calendar_events.remove_bot"


@pytest.fixture
def workspace(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses: what was sent in a workspace is remembered."""
    return str(request.node.nodeid)


def opened(workspace: str, quota: Quota | None = None, operation: str = SCHEDULE) -> QuotaLane:
    """The lane as a session opens it, each with a store of its own."""
    return LocalQuotaStore().open(workspace, operation, quota)


def test_one_lane_for_each_workspace_and_operation(workspace: str) -> None:
    """Would take a quota twice, or let operations or workspaces share one that have their own."""

    async def main() -> None:
        lane = opened(workspace)
        assert opened(workspace) is lane
        assert lane.quota == base_quota(SCHEDULE)
        assert len({id(lane), id(opened(workspace, operation=REMOVE)), id(opened(workspace + "'"))}) == 3

    run(main())


def test_who_names_a_quota_decides_for_who_names_none(workspace: str) -> None:
    """Would let a session without a word on quotas undo what another one was told, or be ignored for having come first."""

    async def main() -> None:
        silent = opened(workspace)
        named = opened(workspace, Quota(20, 60.0))
        assert silent.quota == named.quota == opened(workspace).quota == Quota(20, 60.0)
        assert opened(workspace, Quota(20, 60.0)).quota == Quota(20, 60.0)
        with pytest.raises(ConfigurationError, match=r"20.*30"):
            opened(workspace, Quota(30, 60.0))
        assert silent.quota == Quota(20, 60.0)

    run(main())


def test_base_value_named_is_kept_too(workspace: str) -> None:
    """Would take a quota that was named for one that was not, because it is the API's base value."""

    async def main() -> None:
        opened(workspace, base_quota(SCHEDULE))
        with pytest.raises(ConfigurationError):
            opened(workspace, Quota(30, 60.0))

    run(main())


def test_closed_sessions_have_no_say(workspace: str) -> None:
    """Would hold a program to a quota that nobody asks for any more."""

    async def main() -> None:
        lane = opened(workspace, Quota(20, 60.0))
        lane.leave(Quota(20, 60.0))
        assert opened(workspace).quota == base_quota(SCHEDULE)
        lane.leave(None)
        opened(workspace, Quota(20, 60.0))
        lane.leave(Quota(20, 60.0))
        assert opened(workspace, Quota(30, 60.0)).quota == Quota(30, 60.0)

    run(main())


def test_quota_ends_with_the_last_session_that_named_it(workspace: str) -> None:
    """Would leave a job's quota with the web backend beside it, or blame a session that was closed long ago."""

    async def main() -> None:
        job = Quota(600, 60.0, burst=600)
        web, first, second = opened(workspace), opened(workspace, job), opened(workspace, job)
        first.leave(job)
        assert web.quota == job
        second.leave(job)
        assert web.quota == base_quota(SCHEDULE)
        assert opened(workspace, Quota(30, 60.0)).quota == Quota(30, 60.0)

    run(main())


def test_another_quota_forgets_nothing_and_forgets_nobody(workspace: str) -> None:
    """Would forget what was sent when the quota is changed, or those who wait for it."""

    async def main() -> None:
        silent = opened(workspace)
        for _ in range(50):
            (await silent.admit()).answered()
        in_flight = await silent.admit()
        narrow = Quota(60, 60.0, burst=60)
        named = opened(workspace, narrow)
        statistics = named.statistics()
        assert (statistics.taken, statistics.free, statistics.in_flight) == (51, 9, 1)
        waiters = [asyncio.create_task(silent.admit()) for _ in range(20)]
        await asyncio.sleep(1)
        assert named.statistics().taken == 60
        named.leave(narrow)
        loop = asyncio.get_running_loop()
        now = loop.time()
        wider = opened(workspace, Quota(600, 60.0, burst=600))
        await asyncio.sleep(0.01)
        assert wider.statistics().taken == 71
        assert all(waiter.done() for waiter in waiters)
        assert loop.time() < now + 0.1
        in_flight.answered()
        for waiter in waiters:
            (await waiter).answered()
        assert wider.statistics().in_flight == 0

    run(main())


def test_next_loop_inherits(workspace: str) -> None:
    """Would let a program that calls `asyncio.run` again and again overrun the quota each time."""

    async def first() -> None:
        lane = opened(workspace, Quota(5, 60.0, burst=5))
        for _ in range(3):
            (await lane.admit()).answered()
        await lane.admit()  # and never told what became of it

    async def second() -> tuple[int, int]:
        lane = opened(workspace, Quota(5, 60.0, burst=5))
        before = lane.statistics().taken
        await asyncio.sleep(70)
        return before, lane.statistics().taken

    run(first(), start=1000.0)
    assert run(second(), start=1010.0) == (4, 0)


def test_next_loop_inherits_the_pause(workspace: str) -> None:
    """Would run into a pause again that the API has asked for."""

    async def first() -> None:
        lane = opened(workspace)
        slot = await lane.admit()
        slot.rejected(30)

    async def second() -> float:
        (await opened(workspace).admit()).answered()
        return asyncio.get_running_loop().time()

    run(first(), start=1000.0)
    assert run(second(), start=1010.0) == pytest.approx(1030.0, abs=0.01)


def test_second_loop_at_once_is_told_once(workspace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Would let two threads overrun the quota together without a word, or log it at every call."""
    lanes = []

    async def here() -> None:
        lanes.append(opened(workspace))
        with caplog.at_level(logging.WARNING, "recall_async"):
            for _ in range(2):
                other = threading.Thread(target=run, args=(there(),))
                other.start()
                other.join()

    async def there() -> None:
        lanes.append(opened(workspace))
        lanes.append(opened(workspace, operation=REMOVE))

    run(here())
    (record,) = caplog.records
    assert "RedisQuotaStore" in record.getMessage()
    assert lanes[1] is not lanes[0]


def test_loops_one_after_the_other_are_no_matter(workspace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Would warn of a second loop where there is only one at a time."""

    async def main() -> None:
        opened(workspace)

    run(main())
    run(main())
    assert caplog.records == []
