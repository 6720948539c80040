"""`deadline=` covers the whole call, and what cannot be in time fails at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import aiohttp
import pytest

from recall_async import (
    AttemptTimeoutError,
    BotPoolExhaustedError,
    ConnectionFailedError,
    DeadlineExceededError,
    Priority,
    Quota,
    RateLimitedError,
    RecallError,
    RecallSession,
    RetryPolicy,
    ServerError,
)
from tests.session.scripted_server import ScriptedServer, raw, reply, reset, silence
from tests.virtual_time import run

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
SCHEDULE = "calendar_events.schedule_bot"


class Stopwatch:
    """Says that something took no time to speak of, or about as long as it should."""

    def __enter__(self) -> Stopwatch:
        self.begun = time.monotonic()
        return self

    def __exit__(self, *args: object) -> None:
        self.seconds = time.monotonic() - self.begun


async def schedule(recall: RecallSession, key: str = "k", **options: Any) -> Any:
    return await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key=key, **options)


async def test_no_slot_in_time(server: ScriptedServer, connect: Any) -> None:
    """Would wait until the deadline for a slot that cannot be there by then."""
    recall = connect(quotas={SCHEDULE: Quota(2, 60.0, burst=2)})
    await asyncio.gather(schedule(recall, "a"), schedule(recall, "b"))
    with Stopwatch() as took, pytest.raises(DeadlineExceededError, match=r"2 requests in 60 s.* [56]\d") as caught:
        await schedule(recall, deadline=30.0)
    assert took.seconds < 5
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.operation, caught.value.attempts) == (SCHEDULE, 0)
    assert 55 < (caught.value.retry_after or 0) < 61
    assert len(server.requests) == 2


async def test_no_slot_in_time_behind_others(server: ScriptedServer, connect: Any) -> None:
    """Would look at the next slot only, and not at who stands before in the queue."""
    recall = connect(quotas={SCHEDULE: Quota(60, 60.0, burst=1)})
    await schedule(recall, "first")
    waiting = [asyncio.create_task(schedule(recall, f"{number}")) for number in range(3)]
    await asyncio.sleep(0.01)
    with Stopwatch() as took, pytest.raises(DeadlineExceededError):
        await schedule(recall, deadline=3.5)
    assert took.seconds < 3
    for call in waiting:
        call.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


def test_overtaken_until_the_deadline() -> None:
    """Would let a call that others overtake wait on behind its deadline."""

    class Http:
        closed = False

        async def request(self, *args: Any, **options: Any) -> Any:
            await asyncio.Event().wait()

    async def main() -> None:
        http: Any = Http()
        now = asyncio.get_running_loop().time
        async with RecallSession("key", http=http, quotas={SCHEDULE: Quota(6, 60.0, burst=1)}) as recall:
            others = [asyncio.create_task(schedule(recall, "first"))]
            await asyncio.sleep(1)
            begun = now()
            patient = asyncio.create_task(schedule(recall, "patient", priority=Priority.BULK, deadline=35.0))
            await asyncio.sleep(1)
            others += [asyncio.create_task(schedule(recall, f"{number}")) for number in range(6)]
            with pytest.raises(DeadlineExceededError):
                await patient
            assert now() == pytest.approx(begun + 35.0, abs=0.01)
            lane = recall.statistics()[SCHEDULE]
            assert (lane.in_flight, lane.waiting_interactive, lane.waiting_bulk) == (4, 3, 0)
            for call in others:
                call.cancel()
            await asyncio.gather(*others, return_exceptions=True)

    run(main())


@pytest.mark.parametrize(
    ("status", "error"), [(429, RateLimitedError), (503, ServerError), (507, BotPoolExhaustedError)]
)
async def test_retry_after_that_does_not_fit(
    status: int, error: type[Exception], server: ScriptedServer, recall: RecallSession
) -> None:
    """Would shorten a Retry-After, or wait for a deadline that it cannot meet, and hide what the server said."""
    server.script(reply(status, retry_after="20"))
    with Stopwatch() as took, pytest.raises(error) as caught:
        await schedule(recall, deadline=10.0)
    assert took.seconds < 5
    assert caught.value.retry_after == 20.0  # type: ignore[attr-defined]
    assert caught.value.attempts == 1  # type: ignore[attr-defined]
    assert str(caught.value).endswith("It was not sent again: the wait of 20 s would end after the call's deadline.")
    assert len(server.requests) == 1


async def test_507_without_retry_after_that_does_not_fit(server: ScriptedServer, recall: RecallSession) -> None:
    """Would spend the caller's deadline on half of the 30 s that the documentation asks for."""
    server.script(reply(507))
    with Stopwatch() as took, pytest.raises(BotPoolExhaustedError, match="the wait of 30 s would end after"):
        await schedule(recall, deadline=20.0)
    assert took.seconds < 5


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (reply(503), r"failed with 503.* may have taken effect"),
        (reset, r"may have taken effect"),
        (reply(409, retry_after="0"), r"failed with 409"),
    ],
)
async def test_no_slot_for_another_attempt(first: Any, said: str, server: ScriptedServer, connect: Any) -> None:
    """Would claim that nothing was sent, when only the second attempt finds no slot before the deadline."""
    recall = connect(quotas={SCHEDULE: Quota(1, 60.0)}, retry=RetryPolicy(backoff=0.001))
    server.script(first)
    with pytest.raises(DeadlineExceededError, match=rf"no slot before the deadline.* Before that: .*{said}") as caught:
        await schedule(recall, deadline=30.0)
    assert caught.value.attempts == 1
    assert "Nothing was sent" not in str(caught.value)
    assert isinstance(caught.value.__cause__, RecallError)
    with pytest.raises(DeadlineExceededError, match=r"no slot before the deadline.* Nothing was sent\.$"):
        await schedule(recall, deadline=30.0)


async def test_calls_behind_a_429_that_does_not_fit(server: ScriptedServer, recall: RecallSession) -> None:
    """Would keep those who already wait until their deadlines, when a pause is longer than these."""
    server.delay = 0.05
    server.script(reply(429, retry_after="20"))
    limited = asyncio.create_task(schedule(recall, "a", deadline=10.0))
    await server.arrived(1)
    same_key = asyncio.create_task(schedule(recall, "a", deadline=10.0))
    with Stopwatch() as took:
        results = await asyncio.gather(limited, same_key, return_exceptions=True)
    assert took.seconds < 5
    assert [type(result) for result in results] == [RateLimitedError, DeadlineExceededError]
    with Stopwatch() as took, pytest.raises(DeadlineExceededError) as caught:
        await schedule(recall, "b", deadline=10.0)
    assert took.seconds < 5
    assert 15 < (caught.value.retry_after or 0) < 21


async def test_retry_after_that_fits(server: ScriptedServer, recall: RecallSession) -> None:
    """Would give up although the server's wait ends in time."""
    server.script(reply(503, retry_after="1"))
    with Stopwatch() as took:
        await schedule(recall, deadline=10.0)
    assert took.seconds >= 1.0


async def test_deadline_in_the_middle_of_an_attempt(server: ScriptedServer, recall: RecallSession) -> None:
    """Would wait for the attempt's timeout, or name that instead of the deadline."""
    server.script(silence)
    with (
        Stopwatch() as took,
        pytest.raises(DeadlineExceededError, match=r"passed, [\d.]+ s after .*may have") as caught,
    ):
        await schedule(recall, deadline=0.2)
    assert 0.19 < took.seconds < 5
    assert caught.value.attempts == 1
    assert recall.statistics()[SCHEDULE].taken == 1


async def test_deadline_in_the_middle_of_an_answer(server: ScriptedServer, recall: RecallSession) -> None:
    """Would wait for the rest of an answer behind the deadline."""
    server.script(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", hang=True))
    with Stopwatch() as took, pytest.raises(DeadlineExceededError):
        await schedule(recall, deadline=0.2)
    assert took.seconds < 5


async def test_deadline_in_a_later_attempt(server: ScriptedServer, recall: RecallSession) -> None:
    """Would give each attempt the whole deadline."""
    server.delay = 0.12
    server.script(*[reply(503)] * 9)
    with Stopwatch() as took, pytest.raises((DeadlineExceededError, ServerError)) as caught:
        await schedule(recall, deadline=0.3)
    assert took.seconds < 5
    assert caught.value.attempts < 4


async def test_timeout_that_is_shorter_than_the_deadline(server: ScriptedServer, connect: Any) -> None:
    """Would take an attempt's timeout for the end of the call."""
    recall = connect(timeout=0.05)
    server.script(silence)
    await schedule(recall, deadline=5.0)
    assert len(server.requests) == 2
    server.script(*[silence] * 5)
    with pytest.raises(AttemptTimeoutError):
        await schedule(recall, deadline=5.0)


async def test_a_backoff_that_does_not_fit(server: ScriptedServer, connect: Any) -> None:
    """Would sleep beyond the deadline, and raise that instead of what happened."""
    recall = connect(retry=RetryPolicy(backoff=100.0))
    server.script(reset)
    with (
        Stopwatch() as took,
        pytest.raises(ConnectionFailedError, match="would end after the call's deadline") as caught,
    ):
        await schedule(recall, deadline=8.0)
    assert took.seconds < 5
    assert caught.value.attempts == 1


async def test_deadline_while_waiting_for_the_same_key(server: ScriptedServer, recall: RecallSession) -> None:
    """Would wait for another call's key behind the deadline, or hold the key afterwards."""
    server.delay = 2.0
    first = asyncio.create_task(schedule(recall))
    await server.arrived(1)
    with Stopwatch() as took, pytest.raises(DeadlineExceededError, match="same deduplication key") as caught:
        await schedule(recall, deadline=0.1)
    assert took.seconds < 1.8
    assert caught.value.attempts == 0
    await first
    await schedule(recall, deadline=10.0)
    assert len(server.requests) == 2


async def test_deadline_of_the_policy(server: ScriptedServer, connect: Any) -> None:
    """Would ignore the session's own deadline, or let it win over the call's."""
    recall = connect(retry=RetryPolicy(deadline=0.1))
    server.delay = 0.3
    with pytest.raises(DeadlineExceededError):
        await schedule(recall)
    await schedule(recall, deadline=5.0)


@pytest.mark.parametrize("left", [5.3, 7.2])
async def test_deadline_is_kept_to_the_fraction_of_a_second(left: float) -> None:
    """Would end up to a second late: aiohttp rounds timeouts above five seconds up to a whole second."""
    limits: list[aiohttp.ClientTimeout] = []

    class Http:
        closed = False

        def request(self, *args: Any, timeout: aiohttp.ClientTimeout, **options: Any) -> Any:
            limits.append(timeout)
            raise aiohttp.ClientConnectionError("nobody there")

    http: Any = Http()
    async with RecallSession("key", http=http, retry=RetryPolicy(attempts=1)) as recall:
        with pytest.raises(ConnectionFailedError):
            await recall.calendar_events.retrieve(EVENT_ID, deadline=left)
    (limit,) = limits
    assert limit.total == pytest.approx(left, abs=0.1)
    assert limit.ceil_threshold >= limit.total


def test_timer_that_fires_early() -> None:
    """Would name the attempt's timeout, which nobody set, where a loop's timers are a millisecond early, as uvloop's."""

    class Http:
        closed = False

        async def request(self, *args: Any, timeout: aiohttp.ClientTimeout, **options: Any) -> Any:
            assert timeout.total is not None
            await asyncio.sleep(timeout.total - 0.002)
            raise TimeoutError

    async def main() -> None:
        http: Any = Http()
        async with RecallSession("key", http=http) as recall:
            with pytest.raises(DeadlineExceededError):
                await recall.calendar_events.retrieve(EVENT_ID, deadline=0.05)

    run(main())


@pytest.mark.parametrize("deadline", [0, 1e-9])
async def test_deadline_that_is_there_already(deadline: float, server: ScriptedServer, recall: RecallSession) -> None:
    """Would hang, or fail with something odd, where a program computes that no time is left."""
    with pytest.raises(DeadlineExceededError):
        await schedule(recall, deadline=deadline)
    assert not server.requests
    assert recall.statistics()[SCHEDULE].taken == 0
