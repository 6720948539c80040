"""Cancellation at every point of a call: nothing leaks, and nobody behind is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any

import pytest

from recall_async import BotSpec, Quota, RecallSession, RemoveBot, RetryPolicy, ScheduleBot, SessionClosedError
from recall_async.workspace import workspaces
from tests.session.scripted_server import CALENDAR, EVENT, Behaviour, ScriptedServer, raw, reply, reset

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
OTHER_ID = EVENT_ID[:-1] + "9"
SCHEDULE, REMOVE = "calendar_events.schedule_bot", "calendar_events.remove_bot"
PLENTY = {SCHEDULE: Quota(10_000_000, 60.0)}
SLOW = {SCHEDULE: Quota(50_000, 60.0, burst=1)}  # the next token is there 1.2 ms later


async def schedule(recall: RecallSession, key: str = "k", **options: Any) -> str:
    return (await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key=key, **options)).id


async def assert_nothing_is_held(recall: RecallSession, server: ScriptedServer, *operations: str) -> None:
    """Once the loop has come to rest: no slot in flight, no place in a queue, no key, no task, no call to be awaited."""
    client = recall._client
    async with asyncio.timeout(30):
        while tasks_of_the_client():  # noqa: ASYNC110 - aiohttp's, which write bodies and tell nobody
            await asyncio.sleep(0)
    shared = workspaces()._known.get(recall.workspace)
    assert shared is None or shared.keys._queues == {}
    assert not client._in_flight
    for lane in recall.statistics().values():
        assert (lane.in_flight, lane.waiting_interactive, lane.waiting_bulk) == (0, 0, 0)
        assert lane.taken <= lane.admitted
    # Slots come back a minute after the answer: none of these has, so each request must still have one.
    taken = sum(recall.statistics()[operation].taken for operation in operations or (SCHEDULE,))
    assert len(server.requests) <= taken


def tasks_of_the_client() -> list[asyncio.Task[Any]]:
    servers = ("RequestHandler", "test_", "Condition")
    return [
        task for task in asyncio.all_tasks()
        if task is not asyncio.current_task() and not any(name in str(task.get_coro()) for name in servers)
    ]  # fmt: skip


async def cancelled_after(iterations: int, call: Coroutine[Any, Any, Any]) -> bool:
    """Whether the call was cancelled; else it was through after so many iterations of the loop, or less."""
    task = asyncio.create_task(call)
    for _ in range(iterations):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


async def at_every_iteration(call: Callable[[], Coroutine[Any, Any, Any]], check: Callable[[], Awaitable[None]]) -> int:
    for iterations in range(3000):
        cancelled = await cancelled_after(iterations, call())
        await check()
        if not cancelled:
            return iterations
    raise AssertionError("the call never ends")


SCRIPTS: dict[str, Iterable[Behaviour]] = {
    "success": (),
    "503": (reply(503),),
    "409": (reply(409), reply(409)),
    "cut": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),),
    "reset": (reset,),
    "429": (reply(429, retry_after="0"),),
}


@pytest.mark.parametrize("script", SCRIPTS)
async def test_cancelled_at_every_iteration(script: str, server: ScriptedServer, connect: Any) -> None:
    """Would leak a slot, a key, a task or a connection in one of the moments of a call, also of one that is retried."""
    recall = connect(quotas=PLENTY | {SCHEDULE: Quota(10_000_000, 60.0)})  # so that the pace after 429s costs no time

    async def call() -> None:
        server._script.clear()
        server.script(*SCRIPTS[script])
        await schedule(recall)

    iterations = await at_every_iteration(call, lambda: assert_nothing_is_held(recall, server))
    assert iterations > 5
    server._script.clear()
    assert await schedule(recall) == EVENT_ID


async def test_cancelled_while_reading_pages(server: ScriptedServer, connect: Any) -> None:
    """Would leave something behind on the way from one page to the next."""
    recall = connect()
    link = f"{server.url}/api/v2/calendar-events/?cursor=2"

    async def read() -> None:
        server._script.clear()
        server.script(reply(200, {"next": link, "previous": None, "results": [EVENT] * 3}), reply(503))
        assert len([event async for event in recall.calendar_events.list()]) == 4

    await at_every_iteration(read, lambda: assert_nothing_is_held(recall, server, "calendar_events.list"))


async def test_a_bulk_job_cancelled_at_every_iteration(server: ScriptedServer, connect: Any) -> None:
    """Would leave a task of the job, a slot or a socket behind, in one of the moments of three actions and a retry."""
    recall = connect(quotas=PLENTY | {REMOVE: Quota(10_000_000, 60.0)}, retry=RetryPolicy(backoff=0.0001, budget=10**9))

    async def job() -> None:
        server._script.clear()
        server.script(reply(409), reply(404))
        actions = [ScheduleBot(EVENT_ID, "k"), ScheduleBot(OTHER_ID, "k"), RemoveBot(OTHER_ID)]
        assert len([outcome async for outcome in recall.bulk(actions, concurrency=2)]) == 3

    async def check() -> None:
        await assert_nothing_is_held(recall, server, SCHEDULE, REMOVE)

    assert await at_every_iteration(job, check) > 10


async def test_a_plan_applied_and_cancelled_at_every_iteration(server: ScriptedServer, connect: Any) -> None:
    """Would leave a listing, a task or a slot behind when the application of a plan is cancelled."""
    lists = "calendar_events.list"
    recall = connect(quotas=PLENTY | {lists: Quota(10_000_000, 60.0)}, retry=RetryPolicy(backoff=0.0001, budget=10**9))
    times = {"start_time": "2099-01-01T10:00:00Z", "end_time": "2099-01-01T11:00:00Z"}
    event = EVENT | times | {"bots": [], "is_deleted": False, "calendar_id": CALENDAR["id"]}
    listing = reply(200, {"next": None, "previous": None, "results": [event]})
    server.script(reply(200, CALENDAR), listing)
    plan = await recall.plan(policy=lambda event, calendar: BotSpec(deduplication_key="k"), calendars=[CALENDAR["id"]])
    assert len(plan) == 1

    async def application() -> None:
        server._script.clear()
        server.script(reply(200, event))
        assert len([outcome async for outcome in recall.apply(plan)]) == 1

    async def check() -> None:
        await assert_nothing_is_held(recall, server, *recall.statistics())

    assert await at_every_iteration(application, check) > 10


async def test_cancelled_while_waiting_for_a_key(server: ScriptedServer, connect: Any) -> None:
    """Would leave a key locked for ever, or hand it to two, when the one whose turn it is goes away."""
    recall = connect(quotas=PLENTY)

    async def three() -> None:
        calls = [asyncio.create_task(schedule(recall)) for _ in range(3)]
        try:
            await calls[1]
        finally:
            calls[1].cancel()
            assert await calls[0] == EVENT_ID
            assert await calls[2] == EVENT_ID

    await at_every_iteration(three, lambda: assert_nothing_is_held(recall, server))
    assert server.overlaps["k"] == 1


async def test_cancelled_while_waiting_in_the_lane(server: ScriptedServer, connect: Any) -> None:
    """Would lose the slot or the token of a call that is cancelled between its turn and its running on."""
    recall = connect(quotas=SLOW)

    async def three() -> None:
        calls = [asyncio.create_task(schedule(recall, key)) for key in "abc"]
        try:
            await calls[1]
        finally:
            calls[1].cancel()
            await calls[0]
            await calls[2]

    await at_every_iteration(three, lambda: assert_nothing_is_held(recall, server))


@pytest.mark.parametrize("quotas", [PLENTY, SLOW])
async def test_closed_at_every_iteration(quotas: Any, server: ScriptedServer, connect: Any) -> None:
    """Would hang, or end a call in anything but its result or the one clear error, in some moment of a call."""
    ended = {"done": 0, "closed": 0}
    for iterations in range(0, 200, 3):
        server._script.clear()
        server.script(reply(503), reply(200, EVENT))
        recall = connect(quotas=quotas)
        calls = [asyncio.create_task(schedule(recall, key)) for key in "aab"]
        for _ in range(iterations):
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            await recall.aclose()
            for result in await asyncio.gather(*calls, return_exceptions=True):
                assert result == EVENT_ID or isinstance(result, SessionClosedError), repr(result)
                ended["done" if result == EVENT_ID else "closed"] += 1
        assert not any(task.cancelling() for task in calls)
        await assert_nothing_is_held(recall, server)
    assert min(ended.values()) > 0


async def test_cancelled_in_a_crowd(server: ScriptedServer, connect: Any) -> None:
    """Would forget somebody when many of those who wait go away at once, in no particular order."""
    recall = connect(quotas=SLOW)
    calls = [asyncio.create_task(schedule(recall, f"key {number % 7}")) for number in range(100)]
    await server.arrived(5)
    for number, call in enumerate(calls):
        if number * 7919 % 100 < 60:
            call.cancel()
    async with asyncio.timeout(60):
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(result == EVENT_ID for result in results) >= 40
    assert all(result == EVENT_ID or isinstance(result, asyncio.CancelledError) for result in results)
    await assert_nothing_is_held(recall, server)
    assert max(server.overlaps.values()) == 1


async def test_timeout_around_a_call(server: ScriptedServer, connect: Any) -> None:
    """Would turn the caller's own timeout into another error, or swallow it."""
    recall = connect(quotas=PLENTY)
    server.delay = 0.2
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(0.05):
            await schedule(recall)
    assert type(caught.value) is TimeoutError
    await assert_nothing_is_held(recall, server)


async def test_failed_sibling_in_a_task_group(server: ScriptedServer, connect: Any) -> None:
    """Would keep a task group from ending when one of its calls fails."""
    recall = connect(quotas=PLENTY)
    server.delay = 0.05
    server.script(reply(404))
    with pytest.raises(ExceptionGroup):
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            for key in "abbb":
                group.create_task(schedule(recall, key))
    await assert_nothing_is_held(recall, server)
