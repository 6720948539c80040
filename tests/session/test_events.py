"""What a session tells while a caller waits: the events, the log, and that neither costs or breaks anything."""

from __future__ import annotations

import asyncio
import logging
import math
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar
from uuid import uuid4

import pytest

from recall_async import (
    AttemptTimeoutError,
    CalendarSyncer,
    ConfigurationError,
    NotFoundError,
    Priority,
    Quota,
    RecallSession,
    RecordingPolicy,
    RetryPolicy,
    ScheduleBot,
)
from recall_async.call import Call
from recall_async.callbacks import Callback
from recall_async.events import (
    AttemptEnded,
    BulkParked,
    BulkResumed,
    CallEnded,
    CallEvent,
    CallStarted,
    Event,
    JobProgressed,
    PaceChanged,
    Paused,
    PlanMade,
    RetryScheduled,
    SlotGranted,
)
from recall_async.limits.local.lane import LocalLane
from recall_async.operations import RETRIEVE_EVENT
from recall_async.reporting import Reporter, log_as_the_environment_says
from recall_async.secrecy import KeyMask, Secret
from tests.session.conftest import API_KEY
from tests.session.scripted_server import CALENDAR, EVENT, ScriptedServer, reply, reset, silence

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
T = TypeVar("T", bound=Event)
RETRIEVE, SCHEDULE = "calendar_events.retrieve", "calendar_events.schedule_bot"


@pytest.fixture
def told() -> list[Event]:
    return []


@pytest.fixture
def recall(connect: Callable[..., RecallSession], told: list[Event]) -> RecallSession:
    return connect(on_event=told.append)


def only(told: list[Event], kind: type[T]) -> list[T]:
    return [event for event in told if isinstance(event, kind)]


async def test_one_call(server: ScriptedServer, recall: RecallSession, told: list[Event]) -> None:
    """Would not tell of a call, or of its request id and headers though it succeeded."""
    server.script(reply(200, EVENT | {"id": EVENT_ID}, X_Request_Id="r-1"))
    await recall.calendar_events.retrieve(EVENT_ID)
    assert [type(event) for event in told] == [CallStarted, SlotGranted, AttemptEnded, CallEnded]
    started, granted, attempt, ended = told
    assert isinstance(started, CallStarted)
    assert isinstance(granted, SlotGranted)
    assert isinstance(attempt, AttemptEnded)
    assert isinstance(ended, CallEnded)
    assert {event.call for event in only(told, CallEvent)} == {started.call}
    assert {event.workspace for event in told} == {recall.workspace}
    assert (granted.attempt, granted.why, granted.taken, granted.limit) == (1, "nothing", 1, 60_000)
    assert (attempt.status, attempt.error, attempt.request_id) == (200, None, "r-1")
    assert attempt.headers["x-request-id"] == "r-1"
    assert (ended.attempts, ended.error, ended.status) == (1, None, 200)
    assert 0 < attempt.duration <= ended.duration


async def test_one_pause_is_logged_once(
    server: ScriptedServer, recall: RecallSession, told: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Would print one warning for each of the dozens of requests in flight that run into one full window."""
    server.script(*[reply(429, retry_after="1")] * 3)
    await asyncio.gather(*[recall.calendar_events.retrieve(EVENT_ID) for _ in range(3)])
    assert [event.repeated for event in only(told, Paused)] == [False, True, True]
    assert len([record for record in caplog.records if "got a 429" in record.message]) == 1


def test_which_pauses_are_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would hide a pause that lasts longer than was announced, be it longer by little each time, or one after another's."""
    clock = SimpleNamespace()
    monkeypatch.setattr("recall_async.reporting.time", clock)
    told: list[Paused] = []
    reporter = Reporter("w", KeyMask(Secret("0123456789")), told.append)
    call = Call(RETRIEVE_EVENT.request(EVENT_ID), Priority.INTERACTIVE, math.inf, RetryPolicy())
    expected = []
    for now, seconds, left, repeated in (
        (0.0, 2.0, 30.0, False),  # the lane paused for another process, of which no line told
        (0.5, 2.0, 1.5, True),
        (0.9, 2.0, 1.6, True),
        (1.4, 2.0, 1.5, False),
        (1.5, 9.0, 1.9, False),
        (2.0, 9.0, 0.0, False),  # somebody ended the pause
    ):
        clock.monotonic = lambda now=now: now
        reporter.paused(call, seconds, left)
        expected.append((seconds, repeated))
    assert [(event.seconds, event.repeated) for event in told] == expected
    assert {event.log_level for event in told if event.repeated} == {logging.DEBUG}
    assert Paused.level == logging.WARNING


async def test_why_a_call_took_long(server: ScriptedServer, recall: RecallSession, told: list[Event]) -> None:
    """Would leave nobody a way to say from the log why a call took forty seconds."""
    server.script(reply(429, retry_after="1.1"), reply(503), reset, reply(409))
    await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k")
    assert [event.seconds for event in only(told, Paused)] == [1.1]
    retries = only(told, RetryScheduled)
    assert [(event.attempt, event.reason, event.new_key) for event in retries] == [
        (1, "429", False), (2, "503", False), (3, "no answer", False), (4, "409", False),
    ]  # fmt: skip
    assert [(event.attempt, event.status, event.error) for event in only(told, AttemptEnded)] == [
        (1, 429, None), (2, 503, None), (3, None, "ConnectionFailedError"), (4, 409, None), (5, 200, None),
    ]  # fmt: skip
    waits = {event.attempt: event for event in only(told, SlotGranted)}
    assert waits[2].why == "pause"
    assert 0.5 < waits[2].wait < 5
    assert len(only(told, PaceChanged)) >= 1


async def test_a_request_that_times_out(server: ScriptedServer, connect: Any, told: list[Event]) -> None:
    """Would tell of a broken connection where the server was slow."""
    server.script(silence)
    recall = connect(on_event=told.append, timeout=0.05, retry=RetryPolicy(attempts=1))
    with pytest.raises(AttemptTimeoutError):
        await recall.calendar_events.retrieve(EVENT_ID)
    assert [(event.status, event.error) for event in only(told, AttemptEnded)] == [(None, "AttemptTimeoutError")]


async def test_waiting_for_a_key(server: ScriptedServer, recall: RecallSession, told: list[Event]) -> None:
    """Would blame the quota for the time that another call with the same deduplication key took."""
    server.delay = 0.05
    await asyncio.gather(*(recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k") for _ in range(2)))
    assert sorted(event.why for event in only(told, SlotGranted)) == ["key", "nothing"]
    assert max(event.wait for event in only(told, SlotGranted)) > 0.04


async def test_a_busy_loop_is_not_the_quota(
    server: ScriptedServer, recall: RecallSession, told: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would blame the quota, of which all but one slot is free, for the time that the program itself took."""
    admit = LocalLane.admit

    async def busy(*given: Any, **named: Any) -> Any:
        time.sleep(0.005)  # noqa: ASYNC251 - a program that does not give way is the subject
        return await admit(*given, **named)

    monkeypatch.setattr(LocalLane, "admit", busy)
    await recall.calendar_events.retrieve(EVENT_ID)
    (granted,) = only(told, SlotGranted)
    assert granted.wait >= 0.005
    assert granted.why == "nothing"


async def test_calls_that_fail_or_are_cancelled(
    server: ScriptedServer, recall: RecallSession, told: list[Event]
) -> None:
    """Would leave whoever counts what is in flight with a number that only grows."""
    server.script(reply(404, {"detail": "No."}), silence)
    with pytest.raises(NotFoundError):
        await recall.calendar_events.retrieve(EVENT_ID)
    call = asyncio.create_task(recall.calendar_events.retrieve(EVENT_ID))
    await server.arrived(2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [event.error for event in only(told, CallEnded)] == ["NotFoundError", "CancelledError"]
    assert [event.error for event in only(told, AttemptEnded)] == [None, "CancelledError"]
    assert len(only(told, SlotGranted)) == len(only(told, AttemptEnded)) == 2


async def test_jobs_outages_and_plans(server: ScriptedServer, connect: Any, told: list[Event]) -> None:
    """Would not tell of what takes longest."""
    recall = connect(on_event=[told.append], retry=RetryPolicy(backoff=0.01, attempts=3))
    server.script(*[reply(503)] * 3)
    actions = [ScheduleBot(EVENT_ID, f"k{number}") for number in range(3)]
    outcomes = [outcome.status async for outcome in recall.bulk(actions)]
    assert outcomes == ["done"] * 3
    assert [(event.done, event.failed, event.total) for event in only(told, JobProgressed)] == [
        (1, 0, 3), (2, 0, 3), (3, 0, 3),
    ]  # fmt: skip
    parked, resumed = only(told, BulkParked), only(told, BulkResumed)
    assert parked[0].operation == resumed[0].operation == SCHEDULE
    assert parked[0].cause == "503"
    assert resumed[0].seconds > 0
    await recall.plan(policy=lambda event, calendar: None, calendars=[CALENDAR["id"]])
    assert [(event.events, event.requests) for event in only(told, PlanMade)] == [(1, 0)]


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError])
async def test_an_exception_in_a_listener_harms_nobody(
    server: ScriptedServer,
    connect: Any,
    told: list[Event],
    caplog: pytest.LogCaptureFixture,
    error: type[BaseException],
) -> None:
    """Would fail a call because a metric could not be counted, or keep the news from the other listeners."""

    def broken(event: Event) -> None:
        raise error

    recall = connect(on_event=(broken, told.append))
    await recall.calendar_events.retrieve(EVENT_ID)
    assert len(told) == 4
    assert caplog.text.count("on_event failed for") == 1
    assert recall.statistics()[RETRIEVE].in_flight == 0


async def test_a_listener_that_fails_each_time(
    server: ScriptedServer, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Would fill the log of a big job with one traceback for each event, and hide a second fault behind the first."""

    def broken(event: Event) -> None:
        raise KeyError("metrics") if isinstance(event, SlotGranted) else ZeroDivisionError

    recall = connect(on_event=broken)
    for _ in range(40):
        await recall.calendar_events.retrieve(EVENT_ID)
    failures = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.exc_info is not None for record in failures] == [True, True, False, False, False]
    assert [record.message for record in failures[2:]] == [
        "on_event failed, 10 times so far: ZeroDivisionError()",
        "on_event failed, 10 times so far: KeyError('metrics')",
        "on_event failed, 100 times so far: ZeroDivisionError()",
    ]


async def awaits(*given: object) -> None:
    """A callback of the wrong kind: nobody would await it."""


class Awaits:
    """The same as an object."""

    async def __call__(self, event: Event) -> None:
        pass


@pytest.mark.parametrize("listener", [7, "print", [print, None], awaits, [print, awaits], Awaits(), partial(awaits, 1)])
def test_listeners_that_cannot_be(listener: Any) -> None:
    """Would fail at the first event."""
    with pytest.raises(ConfigurationError, match="on_event must be a plain function"):
        RecallSession("key", on_event=listener)


@pytest.mark.parametrize("name", ["on_outcome", "on_error"])
def test_callbacks_of_a_syncer(name: str) -> None:
    """Would report nothing, because nobody awaits the coroutine."""
    with pytest.raises(ConfigurationError, match=f"{name} must be a plain function"):
        CalendarSyncer(RecallSession("key"), RecordingPolicy(), **{name: awaits})


@pytest.mark.parametrize("progress", [awaits, Awaits()])
def test_callbacks_of_a_job(progress: Any) -> None:
    """Would report nothing, because nobody awaits the coroutine."""
    with pytest.raises(ConfigurationError, match="on_progress must be a plain function"):
        RecallSession("key").bulk([], on_progress=progress)


async def test_a_listener_that_returns_a_coroutine(
    server: ScriptedServer, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Would lose all events without a word of the program's mistake."""
    recall = connect(on_event=lambda event: awaits(event))
    await recall.calendar_events.retrieve(EVENT_ID)
    assert caplog.text.count("on_event returned a coroutine, which nobody awaits") == 1


async def test_the_log(server: ScriptedServer, connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Would leave no line of a pause, three retries and a failure, or lines without what a program searches for."""
    recall = connect(quotas={RETRIEVE: Quota(60_000, 60.0)}, workspace=f"{uuid4()}\r\nroot: all is well")
    caplog.set_level(logging.DEBUG, "recall_async")
    server.script(reply(429, retry_after="1.9"), reply(503), reply(404))
    with pytest.raises(NotFoundError):
        await recall.calendar_events.retrieve(EVENT_ID, priority=Priority.INTERACTIVE)
    by_level = {level: [r.getMessage() for r in caplog.records if r.levelno == level] for level in (10, 20, 30)}
    assert len([line for line in by_level[10] if "attempt" in line]) >= 3
    assert any("attempt 1 failed (429)" in line for line in by_level[20])
    assert any("waited 1." in line and "for the pause" in line for line in by_level[20])
    assert any("pause for 1.9 s" in line for line in by_level[30])
    ended = next(record for record in caplog.records if getattr(record, "recall_event", "") == "CallEnded")
    assert (ended.recall_operation, ended.recall_attempts, ended.recall_error) == (RETRIEVE, 3, "NotFoundError")
    assert all(line.isprintable() for lines in by_level.values() for line in lines)


async def test_no_secrets_at_any_level(
    server: ScriptedServer, connect: Any, told: list[Event], caplog: pytest.LogCaptureFixture
) -> None:
    """Would write the key, a token or an OAuth secret into a log, or hand it to a listener that does."""
    caplog.set_level(logging.DEBUG)
    recall = connect(on_event=told.append)
    server.script(reply(200, CALENDAR | {"id": EVENT_ID}, X_Echo=f"Token {API_KEY}", **{f"X_{API_KEY[:7]}": "1"}))
    await recall.calendars.update(EVENT_ID, oauth_client_secret="s-e-c-r-e-t")
    await recall.calendars.create_access_token(EVENT_ID)
    shown = caplog.text + repr([vars(r) for r in caplog.records if r.name == "recall_async"]) + repr(told) + str(told)
    for secret in (API_KEY, "s-e-c-r-e-t", "do-not-show"):
        assert secret not in shown


async def test_nothing_is_told_to_nobody(server: ScriptedServer, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would pay for events that nobody sees."""
    recall = connect()
    monkeypatch.setattr(recall._client.report.__class__, "tell", lambda *args, **options: 1 / 0)
    logging.getLogger("recall_async").setLevel(logging.ERROR)
    try:
        server.script(reply(503), reply(429, retry_after="0"))
        await recall.calendar_events.retrieve(EVENT_ID)
    finally:
        logging.getLogger("recall_async").setLevel(logging.NOTSET)


PROGRAM = """
import asyncio, recall_async
async def main():
    async with recall_async.RecallSession("key", base_url="http://127.0.0.1:1") as recall:
        recall_async.RecallSession("key")
        quick = recall_async.RetryPolicy(attempts=2, backoff=0.01)
        try:
            await recall.calendar_events.retrieve("497f6eca-6276-4993-bfeb-53cbbbba6f08", retry=quick)
        except recall_async.RecallError:
            pass
asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("level", "attempts", "retries"), [("debug", True, True), ("INFO", False, True), ("", False, False)]
)
def test_the_log_by_an_environment_variable(level: str, attempts: bool, retries: bool) -> None:
    """Would need code to see what happens."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, env={"RECALL_LOG": level}, check=True
    )
    assert ("attempt 1 ended" in ran.stderr) is attempts
    assert ("attempt 1 failed" in ran.stderr) is retries
    assert ran.stderr.count("attempt 1 failed") <= 1


def test_levels_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would print nothing, and not say why."""
    monkeypatch.setenv("RECALL_LOG", "everything")
    with pytest.raises(ConfigurationError, match="RECALL_LOG must be debug, info or warning"):
        RecallSession("key")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_is_not_swallowed(kind: type[BaseException]) -> None:
    """Would go on with a program that a callback was to end."""

    def ends(told: object) -> None:
        raise kind

    with pytest.raises(kind):
        Callback("on_event", ends, "an Event")("told", about="it")


def test_the_log_of_the_environment_is_set_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each session of a program would add a handler: every line would be printed once for each of them."""
    logger = logging.getLogger("recall_async")
    before, level = list(logger.handlers), logger.level
    try:
        for wanted in ("info", "debug"):
            monkeypatch.setenv("RECALL_LOG", wanted)
            log_as_the_environment_says()
        assert len(logger.handlers) == len(before) + 1
        assert logger.level == logging.DEBUG
    finally:
        logger.handlers[:] = before
        logger.setLevel(level)


def test_the_full_pace_is_told_in_words() -> None:
    """The log would say "None requests per second" when an operation is back at its full pace."""
    event = PaceChanged(workspace="w", operation="o", call=1, pace=None)
    assert (str(event), event.log_level) == ("o: requests are sent at the full pace again", logging.INFO)
