"""A server with a quota that others wrote never answers 429. How little time that costs: `python -m benchmarks quota`.

These take half a minute of real time: the server's clock is not ours to move.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import NamedTuple
from uuid import uuid4

import pytest

from recall_async import LaneStatistics, Priority, Quota, RecallSession
from tests.referee.drf_server import Referee, most_in_any, referee

pytestmark = pytest.mark.slow

SCHEDULE = "calendar_events.schedule_bot"
CALLS, LIMIT, PER, DELAY = 300, 60, 6.0, 0.2
SMOOTH, AUTO, GREEDY = Quota(LIMIT, PER, burst=6), Quota(LIMIT, PER), Quota(LIMIT, PER, burst=LIMIT)
QUOTAS = (SMOOTH, AUTO, GREEDY)


class Result(NamedTuple):
    """How a job of `CALLS` calls went, as the server and as the client saw it."""

    server: dict[str, int]
    client: LaneStatistics


async def job(server: Referee, quota: Quota) -> Result:
    """Two sessions of one workspace share the calls."""
    workspace = uuid4().hex
    async with (
        RecallSession("one", base_url=server.url, workspace=workspace, quotas={SCHEDULE: quota}) as first,
        RecallSession("two", base_url=server.url, workspace=workspace, quotas={SCHEDULE: quota}) as second,
    ):
        sessions = [first, second] * (CALLS // 2)
        await asyncio.gather(
            *(
                recall.calendar_events.schedule_bot(uuid4(), deduplication_key=f"key {number}", priority=Priority.BULK)
                for number, recall in enumerate(sessions)
            )
        )
        return Result(await asyncio.to_thread(server.report), first.statistics()[SCHEDULE])


@pytest.fixture(scope="module")
def results() -> dict[Quota, Result]:
    """All jobs, each with a server of its own, at the same time."""

    async def together(servers: list[Referee]) -> list[Result]:
        return await asyncio.gather(*(job(server, quota) for server, quota in zip(servers, QUOTAS, strict=True)))

    with ExitStack() as stack:
        servers = [stack.enter_context(referee(limit=LIMIT, per=PER, delay=DELAY)) for _ in QUOTAS]
        return dict(zip(QUOTAS, asyncio.run(together(servers)), strict=True))


@pytest.mark.parametrize("quota", QUOTAS, ids=["smooth", "auto", "greedy"])
def test_no_429(quota: Quota, results: dict[Quota, Result]) -> None:
    """Would overrun a strict sliding window when the network moves requests together."""
    server, client = results[quota]
    assert server == {"accepted": CALLS, "rejected": 0, "peak": server["peak"]}
    assert server["peak"] <= LIMIT
    assert (client.admitted, client.throttled, client.retries) == (CALLS, 0, 0)


def test_the_whole_window_is_used(results: dict[Quota, Result]) -> None:
    """Would be slower than it must, and pass the tests above by luck."""
    assert results[GREEDY].server["peak"] == LIMIT - GREEDY.reserved


async def test_the_referee_is_strict() -> None:
    """Would pass all of the above because the server never says 429."""
    with referee(limit=5, per=60.0, delay=0.0) as server:
        lenient = {"calendar_events.retrieve": Quota(1000, 60.0)}
        async with RecallSession("key", base_url=server.url, quotas=lenient) as recall:
            calls = [recall.calendar_events.retrieve(uuid4(), deadline=5.0) for _ in range(8)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(answer, Exception) for answer in answers) == 3
        assert server.report() == {"accepted": 5, "rejected": 3, "peak": 5}


def test_the_most_in_any_window() -> None:
    """Would miscount what the server reports."""
    assert most_in_any(6.0, []) == 0
    assert most_in_any(6.0, [0.0, 1.0, 5.9, 6.0, 6.5, 7.0, 20.0]) == 4
    assert most_in_any(1.0, [0.0, 1.0, 2.0]) == 1
