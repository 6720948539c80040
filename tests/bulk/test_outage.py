"""A server that goes away in the middle of a job: nothing fails for it, and hardly anything is sent meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recall_async import (
    Outcome,
    Priority,
    Progress,
    Quota,
    RecallSession,
    RemoveBot,
    RetryPolicy,
    ScheduleBot,
    ServerError,
    ServerUnavailableError,
)
from recall_async import outage as outages
from recall_async.checks import Backoff
from tests.bulk.conftest import OPERATIONS
from tests.bulk.test_endings import jobs, lines
from tests.bulk.test_engine import schedule
from tests.bulk.world import Asked, World, event_id

AWAY = 503


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of the time between probes."""
    monkeypatch.setattr(outages, "BACKOFF", Backoff(0.005, 0.3))


class Weather:
    """When the server is away, and what it was asked meanwhile."""

    def __init__(self, world: World, status: int = AWAY, only: Callable[[Asked], bool] = lambda asked: True) -> None:
        self.away = False
        self.refused: list[Asked] = []
        self.served: list[Asked] = []
        self._status, self._only = status, only
        world.statuses = self.answer

    def answer(self, asked: Asked) -> int:
        if self.away and self._only(asked):
            self.refused.append(asked)
            return self._status
        self.served.append(asked)
        return 200


async def drain(run: AsyncIterator[Outcome]) -> list[Outcome]:
    return [outcome async for outcome in run]


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_an_outage_in_the_middle(world: World, recall: RecallSession, status: int) -> None:
    """Would fail most of a job because the server was away for some seconds of it."""
    weather = Weather(world, status)
    world.latency = 0.002
    run = recall.bulk([schedule(number) for number in range(600)], concurrency=32)
    outcomes = [await anext(run) for _ in range(200)]
    weather.away = True
    rest = asyncio.create_task(drain(run))
    await asyncio.sleep(1.0)  # for some probes
    refused = list(weather.refused)
    weather.away = False
    outcomes += await rest
    assert [outcome.status for outcome in outcomes] == ["done"] * 600
    # What was in flight when it went away, and then one at a time.
    events = [asked.event for asked in refused]
    first = len(dict.fromkeys(events))
    assert first <= 32 + outages.THRESHOLD
    assert len(events) <= first + 20
    assert world.overlaps == 0


async def test_refused_connections(connect: Callable[..., RecallSession]) -> None:
    """Would fail what could not be sent, though nothing was wrong with it."""
    world = World()
    async with world:
        recall = connect(base_url=world.url)
        run = recall.bulk([schedule(number) for number in range(300)], concurrency=16)
        outcomes = [await anext(run) for _ in range(50)]
        port = int(world.url.rpartition(":")[2])
        await world.close_down()
        rest = asyncio.create_task(drain(run))
        await asyncio.sleep(0.5)
        assert run.progress.outage is not None
        assert run.progress.outage.cause == "connection refused"
        await world.open_again(port)
        outcomes += await rest
    assert [outcome.status for outcome in outcomes] == ["done"] * 300


async def test_one_probe_at_a_time(world: World, recall: RecallSession) -> None:
    """Would knock at the door of a server that is away with as many requests as there are actions."""
    weather = Weather(world)
    weather.away = True
    rest = asyncio.create_task(drain(recall.bulk([schedule(n) for n in range(100)], concurrency=16)))
    await world.arrived(16)
    while world.answered < 16:  # noqa: ASYNC110  # the server tells of arrivals only
        await asyncio.sleep(0.001)
    world.most_in_flight, world.latency = 0, 0.02
    await asyncio.sleep(0.5)
    assert world.most_in_flight == 1
    weather.away = False
    assert [outcome.status for outcome in await rest] == ["done"] * 100
    # Nothing had ever succeeded: not one request was a retry before the operation was parked.
    assert len({asked.event for asked in weather.refused[:16]}) == 16


async def test_small_jobs(world: World, recall: RecallSession) -> None:
    """Would need a number of failures that a job of a few actions never has, and fail them one after the other."""
    for number in (1, 3):
        weather = Weather(world)
        weather.away = True
        rest = asyncio.create_task(drain(recall.bulk([schedule(n) for n in range(number)], concurrency=2)))
        await asyncio.sleep(0.3)
        weather.away = False
        assert [outcome.status for outcome in await rest] == ["done"] * number


async def test_an_outage_of_one_operation(world: World, recall: RecallSession) -> None:
    """Would take the server for healthy because removals work, and fail everything that schedules."""
    weather = Weather(world, only=lambda asked: asked.key is not None)
    weather.away = True
    actions = [schedule(n) if n % 2 else RemoveBot(event_id(n)) for n in range(60)]
    rest = asyncio.create_task(drain(recall.bulk(iter(actions), concurrency=60)))
    await asyncio.sleep(0.5)
    weather.away = False
    assert [outcome.status for outcome in await rest] == ["done"] * 60


async def test_poison_is_no_outage(world: World, recall: RecallSession) -> None:
    """Would wait for the server for an hour because of one action on which it fails while it does all others."""
    world.statuses = lambda asked: 503 if asked.event == 7 else 200
    outcomes = await drain(recall.bulk([schedule(number) for number in range(200)], concurrency=4))
    assert [outcome.action.event_id for outcome in outcomes if outcome.status == "failed"] == [event_id(7)]
    assert len(outcomes) == 200


async def test_max_outage(world: World, recall: RecallSession, tmp_path: Path) -> None:
    """Would wait for ever, or note as failed what was never tried."""
    weather = Weather(world)
    actions = [schedule(number) for number in range(60)]
    run = recall.bulk(actions, concurrency=8, journal=tmp_path / "journal", max_outage=0.3)
    await anext(run)
    weather.away = True
    began = time.monotonic()
    with pytest.raises(ServerUnavailableError, match=r"unavailable for .* \(503\)") as caught:
        await drain(run)
    assert time.monotonic() - began >= 0.25
    assert "others are unfinished" in caught.value.__notes__[0]
    assert {line["status"] for line in lines(tmp_path / "journal")} == {"done"}
    assert jobs() == set()
    weather.away = False
    outcomes = await drain(recall.bulk(actions, journal=tmp_path / "journal"))
    assert [outcome.status for outcome in outcomes] == ["done"] * 60


async def test_stop_during_an_outage(world: World, recall: RecallSession, tmp_path: Path) -> None:
    """Would wait for the end of an outage before it ends, or send what waited for it."""
    weather = Weather(world)
    weather.away = True
    run = recall.bulk([schedule(number) for number in range(60)], concurrency=8, journal=tmp_path / "journal")
    rest = asyncio.create_task(drain(run))
    while run.progress.outage is None:  # noqa: ASYNC110  # a job tells of its outcomes only
        await asyncio.sleep(0.01)
    run.stop()
    asked = len(world.asked)
    async with asyncio.timeout(2):
        assert await rest == []
    assert len(world.asked) <= asked + 1
    assert lines(tmp_path / "journal") == []


async def test_events_that_are_over_when_the_server_is_back(world: World, recall: RecallSession) -> None:
    """Would put bots on meetings that ended during the outage, or call them failed."""
    weather = Weather(world)
    weather.away = True
    soon = datetime.now(UTC) + timedelta(seconds=0.2)
    actions = [ScheduleBot(event_id(n), f"k{n}", {}, end_time=soon) for n in range(40)]
    rest = asyncio.create_task(drain(recall.bulk(actions, concurrency=4)))
    await asyncio.sleep(0.5)
    weather.away = False
    outcomes = await rest
    assert "failed" not in {outcome.status for outcome in outcomes}
    assert sum(outcome.status == "skipped" for outcome in outcomes) >= 36


async def test_progress_and_logs(world: World, recall: RecallSession, caplog: pytest.LogCaptureFixture) -> None:
    """Would look as if the job hung."""
    caplog.set_level(logging.INFO, "recall_async")
    weather = Weather(world)
    weather.away = True
    seen: list[Progress] = []
    run = recall.bulk([schedule(number) for number in range(30)], on_progress=seen.append)
    rest = asyncio.create_task(drain(run))
    while (outage := run.progress.outage) is None:  # noqa: ASYNC110  # a job tells of its outcomes only
        await asyncio.sleep(0.01)
    assert outage.cause == "503"
    assert outage.seconds >= 0
    assert 0 <= outage.next_try <= 30
    assert run.progress.eta is None
    weather.away = False
    await rest
    assert run.progress.outage is None
    assert "the server is unavailable (503)" in caplog.text
    assert "the server is back" in caplog.text


async def test_interactive_calls_fail_fast(world: World, recall: RecallSession) -> None:
    """Would hang a web request on the outage that a bulk job waits for."""
    weather = Weather(world)
    weather.away = True
    rest = asyncio.create_task(drain(recall.bulk([schedule(number) for number in range(30)])))
    await world.arrived(30)
    with pytest.raises(ServerError):
        await recall.calendar_events.schedule_bot(event_id(50), deduplication_key="own")
    with pytest.raises(ServerUnavailableError):  # a bulk call that is no job's has the patience of its policy
        await recall.calendar_events.schedule_bot(event_id(51), deduplication_key="own", priority=Priority.BULK)
    with pytest.raises(ServerUnavailableError, match="same deduplication key"):
        await recall.calendar_events.schedule_bot(event_id(5), deduplication_key="key-5")
    weather.away = False
    await recall.calendar_events.schedule_bot(event_id(50), deduplication_key="own")
    assert [outcome.status for outcome in await rest] == ["done"] * 30


async def test_retry_after_of_an_outage(world: World, recall: RecallSession) -> None:
    """Would knock before the server said that one may."""
    weather = Weather(world)
    weather.away = True
    world.retry_after = 1
    rest = asyncio.create_task(drain(recall.bulk([schedule(number) for number in range(8)])))
    await world.arrived(8)
    await asyncio.sleep(0.5)
    assert len(world.asked) == 8
    weather.away = False
    assert [outcome.status for outcome in await rest] == ["done"] * 8


async def test_a_probe_that_is_cut_off_is_replaced(world: World, recall: RecallSession) -> None:
    """Would wait for a probe that was cancelled, and never try again."""
    weather = Weather(world)
    weather.away = True
    first = recall.bulk([schedule(0)])
    waiting = asyncio.create_task(drain(first))
    second = asyncio.create_task(drain(recall.bulk([schedule(number) for number in range(1, 9)])))
    await world.arrived(9)
    for _ in range(5):
        await asyncio.sleep(0.01)
        world.gate.clear()
        await asyncio.sleep(0.05)
        await first.aclose()
        world.gate.set()
    await asyncio.wait({waiting})
    weather.away = False
    assert [outcome.status for outcome in await second] == ["done"] * 8


@pytest.mark.slow
@pytest.mark.parametrize("attempts", [1, 5])
async def test_twenty_seconds_in_nine_hundred_actions(
    world: World, connect: Callable[..., RecallSession], attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would lose three quarters of a job to twenty seconds of 503."""
    monkeypatch.setattr(outages, "BACKOFF", Backoff(0.5, 30.0))
    recall = connect(quotas=dict.fromkeys(OPERATIONS, Quota(300, 6)), retry=RetryPolicy(attempts=attempts))
    weather = Weather(world)
    run = recall.bulk([schedule(number) for number in range(900)])
    outcomes = [await anext(run) for _ in range(350)]
    weather.away = True
    rest = asyncio.create_task(drain(run))
    await asyncio.sleep(20)
    weather.away = False
    outcomes += await rest
    assert [outcome.status for outcome in outcomes] == ["done"] * 900
    assert len(weather.refused) <= 64 + 10 + outages.THRESHOLD


async def test_stopped_while_a_probe_hangs(world: World, recall: RecallSession) -> None:
    """Ctrl-C in an outage would wait for the timeout of the one request that tries whether the server is back."""
    world.statuses = lambda asked: 503
    run = recall.bulk([schedule(number) for number in range(20)])
    job = asyncio.create_task(anext(run, None))
    async with asyncio.timeout(20):
        while world.answered < len(world.asked) or recall.outage() is None:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.01)
        world.gate.clear()
        asked = len(world.asked)
        while len(world.asked) == asked:  # noqa: ASYNC110  # the server tells of arrivals only
            await asyncio.sleep(0.01)
    run.stop()
    assert await asyncio.wait_for(job, 5) is None
