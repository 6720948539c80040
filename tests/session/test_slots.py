"""Who holds a slot of the quota, and for how long, as `statistics()` and the server see it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from recall_async import (
    AttemptTimeoutError,
    BadRequestError,
    ConnectionFailedError,
    DeadlineExceededError,
    LaneStatistics,
    Priority,
    Quota,
    RateLimitedError,
    RecallSession,
    ResponseDecodeError,
    RetryPolicy,
)
from recall_async.operations import OPERATIONS
from tests.session.scripted_server import Behaviour, ScriptedServer, raw, reply, reset, silence

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
RETRIEVE = "calendar_events.retrieve"
ONCE = RetryPolicy(attempts=1)
PER = 0.3
QUICK = {RETRIEVE: Quota(5, PER, burst=5)}


def lane(recall: RecallSession) -> LaneStatistics:
    return recall.statistics()[RETRIEVE]


def now() -> float:
    return asyncio.get_running_loop().time()


async def until_free(recall: RecallSession, since: float) -> float:
    """Seconds from `since` until no slot is taken any more."""
    async with asyncio.timeout(60):
        while lane(recall).taken:  # noqa: ASYNC110 - statistics are there to be polled
            await asyncio.sleep(0.005)
    return now() - since


async def test_slot_in_flight_and_after_the_answer(server: ScriptedServer, connect: Any) -> None:
    """Would give a slot back while the request is under way, or before the server's window has passed."""
    recall = connect(quotas=QUICK)
    server.delay = 2 * PER
    begun = now()
    call = asyncio.create_task(recall.calendar_events.retrieve(EVENT_ID))
    await server.arrived(1)
    assert (lane(recall).taken, lane(recall).free, lane(recall).in_flight, lane(recall).admitted) == (1, 4, 1, 1)
    await asyncio.sleep(1.5 * PER)  # longer than the window, and still in flight
    assert (lane(recall).taken, lane(recall).in_flight) == (1, 1)
    await call
    assert (lane(recall).taken, lane(recall).free, lane(recall).in_flight) == (1, 4, 0)
    assert await until_free(recall, begun) >= server.delay + PER


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (reply(400, {"detail": "no"}), BadRequestError),
        (reply(200, body=b"garbage"), ResponseDecodeError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), ConnectionFailedError),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{", hang=True), AttemptTimeoutError),
    ],
)
async def test_any_head_of_an_answer_is_an_answer(
    answer: Behaviour, error: type[Exception], server: ScriptedServer, connect: Any
) -> None:
    """Would hold the slot of a request that was surely counted for a grace on top, or not at all."""
    recall = connect(quotas=QUICK, retry=ONCE, timeout=3.0)
    server.script(answer)
    begun = now()
    with pytest.raises(error):
        await recall.calendar_events.retrieve(EVENT_ID)
    assert (lane(recall).taken, lane(recall).in_flight) == (1, 0)
    answered, free = now() - begun, await until_free(recall, begun)
    waited = 3.0 if error is AttemptTimeoutError else 0.0
    assert waited + PER <= free <= answered + PER + 2.5


@pytest.mark.parametrize(("failure", "error"), [(reset, ConnectionFailedError), (silence, AttemptTimeoutError)])
async def test_slot_of_a_lost_request(
    failure: Behaviour, error: type[Exception], server: ScriptedServer, connect: Any
) -> None:
    """Would forget that a request without an answer may still be counted: its slot is held for a grace longer."""
    grace = 0.4
    recall = connect(quotas=QUICK, retry=ONCE, timeout=grace)
    server.script(failure)
    begun = now()
    with pytest.raises(error):
        await recall.calendar_events.retrieve(EVENT_ID)
    assert (lane(recall).taken, lane(recall).in_flight) == (1, 0)
    waited = grace if error is AttemptTimeoutError else 0.0
    assert await until_free(recall, begun) >= waited + PER + grace


class _Unanswering(aiohttp.abc.AbstractResolver):
    """A name server that never answers."""

    async def resolve(self, *args: Any, **options: Any) -> Any:
        await asyncio.Event().wait()

    async def close(self) -> None: ...


@asynccontextmanager
async def unresolved(connect: Callable[..., RecallSession]) -> AsyncIterator[RecallSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=_Unanswering())) as http:
        yield connect(base_url="https://recall.invalid", http=http, timeout=0.1)


@asynccontextmanager
async def full_backlog(connect: Callable[..., RecallSession]) -> AsyncIterator[RecallSession]:
    """A connection that is never made: nobody accepts it, and there is no room left to wait."""
    loop = asyncio.get_running_loop()
    waiting = []
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        try:
            for _ in range(8):
                client = socket.socket()
                client.setblocking(False)
                waiting.append(client)
                try:
                    await asyncio.wait_for(loop.sock_connect(client, listening.getsockname()), 0.05)
                except TimeoutError:
                    break
            else:
                pytest.skip("this system has room for any number of connections")
            yield connect(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=0.1)
        finally:
            for client in waiting:
                client.close()


@asynccontextmanager
async def refused(connect: Callable[..., RecallSession]) -> AsyncIterator[RecallSession]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    yield connect(base_url=f"http://127.0.0.1:{port}", timeout=0.1)


@asynccontextmanager
async def no_tls(connect: Callable[..., RecallSession]) -> AsyncIterator[RecallSession]:
    async with ScriptedServer() as server:
        yield connect(base_url=server.url.replace("http:", "https:"), timeout=0.1)


@pytest.mark.parametrize("broken", [unresolved, full_backlog, refused, no_tls])
async def test_request_that_never_left(broken: Any, connect: Any) -> None:
    """Would spend the quota of an operation on requests that no server has seen."""
    async with broken(connect) as recall:
        with pytest.raises((ConnectionFailedError, AttemptTimeoutError)) as caught:
            await recall.calendar_events.retrieve(EVENT_ID, deadline=5.0)
        assert caught.value.attempts == 5
        statistics = lane(recall)
        assert (statistics.taken, statistics.in_flight, statistics.admitted) == (0, 0, 5)


@pytest.mark.parametrize("broken", [unresolved, full_backlog])
async def test_cancelled_while_connecting(broken: Any, connect: Any) -> None:
    """Would keep a slot for a request that was given up before anything was sent."""
    async with broken(connect) as recall:
        call = asyncio.create_task(recall.calendar_events.retrieve(EVENT_ID))
        await asyncio.sleep(0.02)
        assert lane(recall).in_flight == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (lane(recall).taken, lane(recall).in_flight, lane(recall).admitted) == (0, 0, 1)


async def test_cancelled_after_sending(server: ScriptedServer, connect: Any) -> None:
    """Would give back the slot of a request that the server has counted."""
    recall = connect(quotas=QUICK, timeout=0.4)
    server.script(silence)
    begun = now()
    call = asyncio.create_task(recall.calendar_events.retrieve(EVENT_ID))
    await server.arrived(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (lane(recall).taken, lane(recall).in_flight) == (1, 0)
    assert await until_free(recall, begun) >= PER + 0.4


async def test_429_is_counted_and_pauses_everybody(server: ScriptedServer, connect: Any) -> None:
    """Would let one request learn of the pause and all others run into it."""
    recall, other = (connect(retry=ONCE) for _ in range(2))
    server.script(reply(429, retry_after="1"))
    with pytest.raises(RateLimitedError):
        await recall.calendar_events.retrieve(EVENT_ID)
    statistics = lane(recall)
    assert (statistics.throttled, statistics.taken) == (1, 1)
    assert statistics.paused > 0
    assert statistics.pace is not None
    waiting = asyncio.create_task(other.calendar_events.retrieve(EVENT_ID, priority=Priority.BULK))
    await asyncio.sleep(0.05)
    assert lane(other).waiting == {Priority.INTERACTIVE: 0, Priority.BULK: 1}
    assert len(server.requests) == 1
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert lane(other).waiting == {Priority.INTERACTIVE: 0, Priority.BULK: 0}


async def test_requests_in_flight_do_not_run_into_the_pause(server: ScriptedServer, connect: Any) -> None:
    """Would let a call that succeeds lift the pause that another one's 429 has set."""
    recall = connect(retry=RetryPolicy(attempts=1))
    server.delay = 0.05
    calls = [asyncio.create_task(recall.calendar_events.retrieve(EVENT_ID)) for _ in range(5)]
    server.script(reply(429, retry_after="1"))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, RateLimitedError) for result in results) == 1
    assert lane(recall).paused > 0
    with pytest.raises(DeadlineExceededError):
        await recall.calendar_events.retrieve(EVENT_ID, deadline=0.5)
    assert len(server.requests) == 5


async def test_quota_is_kept_over_sessions(server: ScriptedServer, connect: Any) -> None:
    """Would count each session by itself, so that two of one workspace take twice the quota, or forget a closed one."""
    quotas = {RETRIEVE: Quota(4, 60.0, burst=4)}
    first, second = (connect(quotas=quotas) for _ in range(2))
    await asyncio.gather(*(recall.calendar_events.retrieve(EVENT_ID) for recall in (first, second)))
    await first.aclose()
    third = connect(quotas=quotas)
    await asyncio.gather(*(recall.calendar_events.retrieve(EVENT_ID) for recall in (second, third)))
    assert (lane(second).free, lane(third).free) == (0, 0)
    with pytest.raises(DeadlineExceededError) as caught:
        await third.calendar_events.retrieve(EVENT_ID, deadline=1.0)
    assert caught.value.attempts == 0
    await connect(workspace="another", quotas=quotas).calendar_events.retrieve(EVENT_ID)
    assert len(server.requests) == 5


async def test_sessions_of_one_key_share_without_being_told(server: ScriptedServer, connect: Any) -> None:
    """Would take the quota twice where a program opens two sessions with the same key."""
    first, second = connect(workspace=None), connect(workspace=None)
    assert first.workspace == second.workspace
    await first.calendar_events.retrieve(EVENT_ID)
    await second.calendar_events.retrieve(EVENT_ID)
    assert lane(first).admitted == lane(second).admitted == 2
    assert RecallSession("another", base_url=server.url).workspace != first.workspace
    assert RecallSession("another").workspace != RecallSession("another", region="eu-central-1").workspace


async def test_statistics_of_a_session_that_did_nothing(connect: Any) -> None:
    """Would not say what there is before the first call."""
    statistics = connect(quotas=None).statistics()
    assert set(statistics) == set(OPERATIONS)
    assert statistics["calendar_events.schedule_bot"] == LaneStatistics(Quota(600, 60.0), free=600)
    assert statistics["calendar_events.list"].quota.limit == 60
