"""Opening and closing: calls in flight end clearly, nothing hangs, nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from recall_async import ConfigurationError, Quota, RecallError, RecallSession, RetryPolicy, SessionClosedError
from tests.session.conftest import PLENTY
from tests.session.scripted_server import CALENDAR, ScriptedServer, raw, reply, silence

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
SCHEDULE = "calendar_events.schedule_bot"
SLOW = {SCHEDULE: Quota(60, 60.0, burst=1)}


async def schedule(recall: RecallSession, key: str = "k") -> Any:
    return await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key=key)


async def list_all(recall: RecallSession) -> Any:
    return [event async for event in recall.calendar_events.list()]


def in_flight(server: ScriptedServer, recall: RecallSession) -> list[Awaitable[Any]]:
    server.script(silence, silence)
    return [schedule(recall, "a"), schedule(recall, "b")]


def reading(server: ScriptedServer, recall: RecallSession) -> list[Awaitable[Any]]:
    server.script(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", hang=True))
    return [schedule(recall)]


def waiting_for_a_key(server: ScriptedServer, recall: RecallSession) -> list[Awaitable[Any]]:
    server.script(silence)
    return [schedule(recall) for _ in range(3)]


def waiting_in_the_lane(server: ScriptedServer, recall: RecallSession) -> list[Awaitable[Any]]:
    server.script(silence)
    return [schedule(recall, key) for key in "abc"]


def pausing(server: ScriptedServer, recall: RecallSession) -> list[Awaitable[Any]]:
    server.script(reply(429, retry_after="30"))
    return [schedule(recall)]


def backing_off(server: ScriptedServer, recall: RecallSession) -> list[Awaitable[Any]]:
    server.script(reply(503, retry_after="30"))
    return [schedule(recall)]


def listing(server: ScriptedServer, recall: RecallSession) -> list[Awaitable[Any]]:
    link = f"{server.url}/api/v2/calendar-events/?cursor=2"
    server.script(reply(200, {"next": link, "previous": None, "results": []}), silence)
    return [list_all(recall)]


def connecting(server: ScriptedServer, recall: RecallSession) -> list[Awaitable[Any]]:
    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, *args: Any, **options: Any) -> Any:
            await asyncio.Event().wait()

        async def close(self) -> None: ...

    recall._client.open()
    http = recall._client.transport._http
    assert http is not None
    assert isinstance(http.connector, aiohttp.TCPConnector)
    http.connector._resolve_host = Resolver().resolve  # type: ignore[method-assign]
    return [schedule(recall)]


def everything(server: ScriptedServer, recall: RecallSession) -> list[Awaitable[Any]]:
    return [*waiting_for_a_key(server, recall), *in_flight(server, recall), *backing_off(server, recall)]


PHASES = [
    in_flight, reading, waiting_for_a_key, waiting_in_the_lane, pausing, backing_off, listing, connecting, everything
]  # fmt: skip


@pytest.mark.parametrize("own", [False, True], ids=["", "own http"])
@pytest.mark.parametrize("phase", PHASES)
async def test_closed_with_calls_in_flight(
    phase: Callable[..., list[Awaitable[Any]]], own: bool, server: ScriptedServer, connect: Any
) -> None:
    """Would hang, warn, or end calls in anything but the clear error, wherever they are when the session is closed."""
    http = aiohttp.ClientSession() if own else None
    recall = connect(http=http, quotas=SLOW if phase is waiting_in_the_lane else PLENTY)
    calls = [asyncio.ensure_future(call) for call in phase(server, recall)]
    await asyncio.sleep(0.05)
    assert not any(call.done() for call in calls)
    async with asyncio.timeout(2):
        await recall.aclose()
        results = await asyncio.gather(*calls, return_exceptions=True)
    for result in results:
        assert isinstance(result, SessionClosedError), repr(result)
        assert result.operation in (SCHEDULE, "calendar_events.list")
        assert result.attempts <= 1
        assert ("again is safe" in str(result)) == (result.attempts > 0)
        assert ("Nothing was sent" in str(result)) == (result.attempts == 0)
    assert all(lane.in_flight == 0 for lane in recall.statistics().values())
    if http is not None:
        assert not http.closed
        await http.close()
    del recall, calls, results, result
    gc.collect()  # "unclosed" and "never awaited" are errors here


async def test_closed_when_calls_have_ended(server: ScriptedServer, connect: Any) -> None:
    """Would end calls that a moment more would have finished, begin others meanwhile, or wait for the whole timeout."""
    recall = connect()
    server.delay = 0.2
    calls = [asyncio.create_task(schedule(recall, f"{number}")) for number in range(3)]
    await server.arrived(1)
    closing = asyncio.create_task(recall.aclose(timeout=60))
    await asyncio.sleep(0)
    with pytest.raises(SessionClosedError):
        await schedule(recall, "late")
    async with asyncio.timeout(30):
        await asyncio.gather(closing, *calls)
    assert len(server.requests) == 3


@pytest.mark.parametrize("phase", [in_flight, waiting_for_a_key, waiting_in_the_lane, pausing, backing_off])
async def test_closed_after_a_timeout(
    phase: Callable[..., list[Awaitable[Any]]], server: ScriptedServer, connect: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Would wait for a used-up quota or a silent server longer than any orchestrator does, or not tell what is left."""
    recall = connect(quotas=SLOW if phase is waiting_in_the_lane else PLENTY)
    calls = [asyncio.ensure_future(call) for call in phase(server, recall)]
    await asyncio.sleep(0.05)
    async with asyncio.timeout(30):
        await recall.aclose(timeout=0.1)
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} == {SessionClosedError}
    assert (
        f"closed after 0.1 s with unfinished calls, which raise SessionClosedError: {len(calls)} x {SCHEDULE}"
        in caplog.text
    )


async def test_closing_is_cancelled(server: ScriptedServer, recall: RecallSession) -> None:
    """Would leave connections and the quota behind a closing that its own caller ended."""
    server.script(silence)
    call = asyncio.create_task(schedule(recall))
    await server.arrived(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await recall.aclose(timeout=60)
    assert recall.closed
    async with asyncio.timeout(30):
        await recall.aclose()
    assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], RecallError)


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
async def test_timeout_of_closing_is_checked(timeout: Any, recall: RecallSession) -> None:
    """Would fail with a TypeError at shutdown."""
    with pytest.raises(ConfigurationError, match=r"^timeout must be"):
        await recall.aclose(timeout)
    assert not recall.closed


async def test_used_after_closing(server: ScriptedServer, recall: RecallSession) -> None:
    """Would open itself again, or fail in aiohttp's words."""
    await schedule(recall)
    await recall.aclose()
    assert recall.closed
    for call, operation in ((schedule, SCHEDULE), (list_all, "calendar_events.list"), (RecallSession.__aenter__, None)):
        with pytest.raises(SessionClosedError, match="closed") as raised:
            await call(recall)
        assert (raised.value.operation, raised.value.attempts) == (operation, 0)
    assert len(server.requests) == 1
    assert recall.statistics()[SCHEDULE].admitted == 1
    assert "closed" in repr(recall)


async def test_closed_in_the_middle_of_a_list(server: ScriptedServer, recall: RecallSession) -> None:
    """Would end a list quietly, as if it were complete."""
    link = f"{server.url}/api/v2/calendars/?cursor=2"
    server.script(reply(200, {"next": link, "previous": None, "results": [CALENDAR]}))
    with pytest.raises(SessionClosedError):
        async for _ in recall.calendars.list():
            await recall.aclose()


async def test_closed_twice_and_at_once(server: ScriptedServer, recall: RecallSession) -> None:
    """Would hang or fail when two tasks close the session, or one closes it again."""
    server.script(silence)
    call = asyncio.create_task(schedule(recall))
    await server.arrived(1)
    async with asyncio.timeout(2):
        await asyncio.gather(recall.aclose(), recall.aclose())
        await recall.aclose()
    with pytest.raises(SessionClosedError):
        await call


async def test_closed_without_having_been_used() -> None:
    """Would fail to close what was never opened."""
    await RecallSession("key").aclose()
    async with RecallSession("key"):
        pass


async def test_other_sessions_go_on(server: ScriptedServer, connect: Any) -> None:
    """Would end the calls of a workspace's other sessions, or leave them stuck behind those that ended."""
    closing, going_on = connect(), connect()
    server.script(silence)
    held = asyncio.create_task(schedule(closing))
    await server.arrived(1)
    behind = asyncio.create_task(schedule(going_on))
    await asyncio.sleep(0)
    await closing.aclose()
    async with asyncio.timeout(2):
        assert (await behind).id == EVENT_ID
    with pytest.raises(SessionClosedError):
        await held


async def test_cancelled_by_the_user_at_the_same_time(server: ScriptedServer, recall: RecallSession) -> None:
    """Would swallow the user's cancellation because the session is closed in the same moment."""
    server.script(silence, silence)
    first, second = (asyncio.create_task(schedule(recall, key)) for key in "ab")
    await server.arrived(2)
    first.cancel()
    closing = asyncio.create_task(recall.aclose())
    await asyncio.sleep(0)
    second.cancel()
    results = await asyncio.gather(first, second, closing, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, asyncio.CancelledError, type(None)]


async def test_timeout_of_the_user_at_the_same_time(server: ScriptedServer, recall: RecallSession) -> None:
    """Would take the session's closing for the user's timeout, or leave the task cancelled."""
    server.script(silence, silence)

    async def guarded(key: str, seconds: float) -> str:
        try:
            async with asyncio.timeout(seconds):
                await schedule(recall, key)
        except (TimeoutError, SessionClosedError) as error:
            await asyncio.sleep(0)  # would raise if a cancellation were left over
            return type(error).__name__
        return "done"

    calls = [asyncio.create_task(guarded("a", 0.1)), asyncio.create_task(guarded("b", 60))]
    await server.arrived(2)
    asyncio.get_running_loop().call_later(0.1, lambda: asyncio.ensure_future(recall.aclose()))
    results = await asyncio.gather(*calls)
    assert results[0] in ("TimeoutError", "SessionClosedError")
    assert results[1] == "SessionClosedError"


async def test_closing_that_is_cancelled(server: ScriptedServer, connect: Any) -> None:
    """Would leave connections open, and a warning for the garbage collector, when closing is interrupted."""
    recall = connect()
    server.script(silence)
    call = asyncio.create_task(schedule(recall))
    await server.arrived(1)
    closing = asyncio.create_task(recall.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    results = await asyncio.gather(closing, call, return_exceptions=True)
    assert isinstance(results[1], SessionClosedError)
    assert recall._client.transport._http is not None
    assert recall._client.transport._http.closed


async def test_exception_in_the_block_is_kept(server: ScriptedServer, connect: Any) -> None:
    """Would hide what happened in the block behind what closing does."""
    server.script(silence)
    with pytest.raises(ZeroDivisionError):
        async with connect() as recall:
            call = asyncio.create_task(schedule(recall))
            await server.arrived(1)
            raise ZeroDivisionError
    with pytest.raises(SessionClosedError):
        await call


async def test_quotas_of_open_sessions_must_agree(server: ScriptedServer, connect: Any) -> None:
    """Would let the last session change the quota under the others."""
    first, second = connect(quotas={SCHEDULE: Quota(100)}), connect(quotas={SCHEDULE: Quota(50)})
    await schedule(first)
    with pytest.raises(ConfigurationError, match="another open session") as caught:
        await schedule(second)
    assert caught.value.operation == SCHEDULE
    await first.aclose()
    await schedule(second)


def test_second_loop() -> None:
    """Would hang or fail in asyncio's words when a session is used in another event loop than its own."""
    recall = RecallSession("key", base_url="http://127.0.0.1:1", retry=RetryPolicy(attempts=1))

    async def use() -> None:
        await recall.calendar_events.retrieve(EVENT_ID)

    with pytest.raises(Exception, match="no answer"):
        asyncio.run(use())
    with pytest.raises(ConfigurationError, match="another event loop"):
        asyncio.run(use())
    asyncio.run(recall.aclose())


def test_used_without_a_loop() -> None:
    """Would not be usable as a global: a session can be made, asked and listed before there is a loop."""
    recall = RecallSession("key")
    assert recall.statistics()[SCHEDULE].free == 600
    assert recall.calendar_events.list() is not None
