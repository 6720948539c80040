"""Events and log account for all of a call's time, in virtual time: what it waited for, and what the server took."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar
from uuid import uuid4

import msgspec
import pytest

from recall_async import DeadlineExceededError, Priority, Quota, RecallError, RecallSession, RetryPolicy
from recall_async.answers import Response
from recall_async.bulk.actions import ScheduleBot
from recall_async.events import AttemptEnded, CallEnded, CallEvent, Event, RetryScheduled, SlotGranted
from tests.session.scripted_server import EVENT
from tests.virtual_time import VirtualTimeLoop

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
SCHEDULE = "calendar_events.schedule_bot"
TEN = {SCHEDULE: Quota(10, 12.0)}
E = TypeVar("E", bound=Event)


class Told:
    """Runs calls in virtual time against a server that answers as it is told, and keeps the events."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: tuple[float, int, dict[str, str]]) -> None:
        self.answers = list(answers)
        """Seconds, status and headers; then 200 at once."""
        self.events: list[Event] = []
        self.loop = VirtualTimeLoop()
        monkeypatch.setattr("time.monotonic", self.loop.time)

    def run(self, main: Any, **settings: Any) -> None:
        async def opened() -> None:
            options = {"workspace": uuid4().hex, "quotas": TEN} | settings
            session = RecallSession("key", on_event=self.events.append, **options)
            session._client.transport.send = self._send  # type: ignore[method-assign]
            async with session as recall:
                await main(recall)

        with asyncio.Runner(loop_factory=lambda: self.loop) as runner:
            runner.run(opened())

    async def _send(self, attempt: Any, request: Any, *_: Any) -> Response:
        seconds, status, headers = self.answers.pop(0) if self.answers else (0.1, 200, {})
        attempt.response = SimpleNamespace(status=None, headers={})
        await asyncio.sleep(seconds)
        attempt.response = SimpleNamespace(status=status, headers=headers)
        if status == 429:
            attempt.on_429(headers)
        return Response(status, headers, msgspec.json.encode(EVENT | {"id": EVENT_ID}) if status < 300 else b"{}")

    def of(self, kind: type[E], call: int | None = None) -> list[E]:
        return [
            event
            for event in self.events
            if isinstance(event, kind) and (call is None or getattr(event, "call", None) == call)
        ]

    def unexplained(self, ended: CallEnded) -> float:
        """Seconds of a call of which nothing is told."""
        waits = sum(event.wait for event in self.of(SlotGranted, ended.call))
        backoffs = sum(event.after for event in self.of(RetryScheduled, ended.call) if event.reason != "429")
        requests = sum(event.duration for event in self.of(AttemptEnded, ended.call))
        assert ended.error or abs(ended.waited - waits - backoffs) < 0.01
        return ended.duration - waits - backoffs - requests


async def schedule(recall: RecallSession, key: str, **options: Any) -> None:
    await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key=key, **options)


def test_why_a_call_took_forty_seconds(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Would leave a part of the forty seconds in no line at INFO, or count a part of it twice."""
    caplog.set_level(logging.INFO, "recall_async")
    told = Told(
        monkeypatch, *[(0.1, 200, {})] * 10, (0.2, 429, {"retry-after": "8"}), (6.0, 503, {}), *[(0.1, 503, {})] * 2
    )

    async def main(recall: RecallSession) -> None:
        for number in range(10):
            await schedule(recall, f"k{number}")
        caplog.clear()
        await schedule(recall, "slow")

    told.run(main)
    ended = told.of(CallEnded)[-1]
    assert 25 < ended.duration < 45
    assert abs(told.unexplained(ended)) < 0.01
    lines = [record.getMessage() for record in caplog.records]
    assert any("waited 11." in line and "for the quota before attempt 1; " in line for line in lines)
    assert any("got a 429" in line and " pause for 8.0 s" in line for line in lines)
    assert any("for the pause after a 429 before attempt 2" in line for line in lines)
    assert any("attempt 2 ended with 503 in 6.0" in line for line in lines)
    assert sum("failed (503), trying again in" in line for line in lines) == 3
    assert f"done after {ended.duration:.2f} s, {ended.waited:.2f} s of it waiting; 5 requests" in lines[-1]
    assert not any("attempt 5 ended" in line or "begins" in line for line in lines)


def test_a_wait_without_a_request_is_told_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would say that a call that waited five seconds for a key, and then gave up, did not wait."""
    told = Told(monkeypatch, (20.0, 200, {}))

    async def main(recall: RecallSession) -> None:
        first = asyncio.create_task(schedule(recall, "same"))
        await asyncio.sleep(0.1)
        with pytest.raises(DeadlineExceededError):
            await schedule(recall, "same", deadline=5.0)
        await first

    told.run(main)
    late = next(event for event in told.of(CallEnded) if event.error)
    assert (late.attempts, round(late.waited, 2), round(late.duration, 2)) == (0, 5.0, 5.0)


@pytest.mark.parametrize("priority", Priority)
@pytest.mark.parametrize("seed", range(20))
def test_all_seconds_are_told(monkeypatch: pytest.MonkeyPatch, priority: Priority, seed: int) -> None:
    """Would tell of less than what a call took: a backoff, an outage, a pause or an empty retry budget is missing."""
    random = Random(seed)
    answers = [
        (random.choice((0.1, 3.0)), random.choice((200, 200, 503, 502, 409, 429, 507)), {"retry-after": "2"})
        for _ in range(40)
    ]
    told = Told(monkeypatch, *answers)

    async def call(recall: RecallSession, number: int) -> None:
        await asyncio.sleep(random.random() * 20)
        with suppress(RecallError):
            await schedule(recall, f"k{number % 5}", priority=priority)

    async def main(recall: RecallSession) -> None:
        await asyncio.gather(*(call(recall, number) for number in range(25)))

    told.run(main, retry=RetryPolicy(attempts=4, budget=random.choice((2, 100))))
    calls = told.of(CallEnded)
    assert len(calls) == len({event.call for event in told.of(CallEvent)}) == 25
    for ended in calls:
        if ended.error is None:
            assert abs(told.unexplained(ended)) < 0.01, ended


def test_a_job_tells_that_it_waited_for_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would blame the quota for an outage, or tell nothing of the seconds between two attempts of a job."""
    told = Told(monkeypatch, *[(0.1, 503, {})] * 12)

    async def main(recall: RecallSession) -> None:
        actions = [ScheduleBot(EVENT_ID, f"k{number}") for number in range(3)]
        assert [outcome.status async for outcome in recall.bulk(actions)] == ["done"] * 3

    told.run(main)
    assert "outage" in {event.why for event in told.of(SlotGranted)}
    for ended in told.of(CallEnded):
        assert abs(told.unexplained(ended)) < 0.01, ended
