"""How many connections a session opens, and who waits for one: counted at a real server."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from uuid import UUID

import aiohttp
import pytest
from aiohttp import web

from recall_async import ConfigurationError, DeadlineExceededError, Priority, RecallSession, ScheduleBot
from recall_async import connections as connections_module
from recall_async.connections import STILL, Connections
from tests.session.scripted_server import ScriptedServer, reply, silence, success
from tests.virtual_time import run as run_virtual

Connect = Callable[..., RecallSession]


def event(number: int) -> str:
    """The id of an event."""
    return str(UUID(int=number, version=4))


class Gate:
    """A behaviour of the server: it answers once the gate is open."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.opened.wait()
        return await success(request)


async def test_burst_shares_a_hundred_connections(
    server: ScriptedServer, recall: RecallSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would open a connection, and make a TLS handshake, for each call of a gather; and others for the next one."""
    monkeypatch.setattr(connections_module, "STILL", 60.0)  # a busy machine stands still for half a second
    for _ in range(2):
        await asyncio.gather(*(recall.calendar_events.retrieve(event(number)) for number in range(300)))
        assert len(server.connections) <= 100
    assert len(server.requests) == 600


@pytest.mark.parametrize("most", [1, 3, 16])
async def test_limit_holds_for_all_operations_together(server: ScriptedServer, connect: Connect, most: int) -> None:
    """Would open as many connections for each operation, or more for interactive calls."""
    recall, server.delay = connect(max_connections=most), 0.002
    calls = [recall.calendar_events.retrieve(event(number)) for number in range(40)]
    calls += [recall.calendar_events.remove_bot(event(number), priority=Priority.BULK) for number in range(40)]
    await asyncio.gather(*calls, recall.calendars.retrieve(event(1)))
    assert len(server.connections) <= most
    assert server.most_in_flight <= most
    assert all(each.in_flight == 0 for each in recall.statistics().values())


async def test_bulk_leaves_connections_to_interactive_calls(server: ScriptedServer, connect: Connect) -> None:
    """Would let a user wait for the answers of a job."""
    recall, gate = connect(max_connections=8), Gate()
    server.script(*[gate] * 7)

    async def job() -> int:
        actions = [ScheduleBot(event(number), f"key {number}") for number in range(20)]
        return len([outcome async for outcome in recall.bulk(actions)])

    running = asyncio.create_task(job())
    await server.arrived(7)
    await recall.calendar_events.retrieve(event(1))
    assert len(server.requests) == 8
    gate.opened.set()
    assert await running == 20


async def test_order_of_those_who_wait(server: ScriptedServer, connect: Connect) -> None:
    """Would send calls in the order of their arrival, with a job's before a user's."""
    recall, gate = connect(max_connections=1), Gate()
    server.script(gate)
    first = asyncio.create_task(recall.calendar_events.remove_bot(event(1)))
    await server.arrived(1)
    remove = recall.calendar_events.remove_bot
    others = [
        asyncio.create_task(remove(event(2), priority=Priority.BULK)),
        asyncio.create_task(remove(event(3))),
        asyncio.create_task(remove(event(4), start_time="2040-01-01T00:00:00Z")),
        asyncio.create_task(remove(event(5), start_time="2030-01-01T00:00:00Z")),
    ]
    await asyncio.sleep(0)
    gate.opened.set()
    await asyncio.gather(first, *others)
    assert [request.target.split("/")[4] for request in server.requests] == [
        event(number) for number in (1, 5, 4, 3, 2)
    ]


async def test_no_slot_is_held_meanwhile(server: ScriptedServer, connect: Connect) -> None:
    """Would use up the quota with calls that wait for a connection."""
    recall, gate = connect(max_connections=1), Gate()
    server.script(gate)
    calls = [asyncio.create_task(recall.calendar_events.retrieve(event(number))) for number in range(5)]
    await server.arrived(1)
    assert recall.statistics()["calendar_events.retrieve"].taken == 1
    gate.opened.set()
    await asyncio.gather(*calls)


async def test_pause_holds_for_those_who_wait(server: ScriptedServer, connect: Connect) -> None:
    """Would send a call that waited for a connection into the pause of a 429 that came meanwhile."""
    recall = connect(max_connections=1)
    server.script(reply(429, retry_after="0.2"))
    loop = asyncio.get_running_loop()
    calls = [asyncio.create_task(recall.calendar_events.retrieve(event(number))) for number in range(3)]
    await server.arrived(1)
    began = loop.time()
    await server.arrived(2)
    assert loop.time() - began > 0.15
    await asyncio.gather(*calls)


async def test_cancelled_and_late_calls_are_in_nobodys_way(server: ScriptedServer, connect: Connect) -> None:
    """Would let calls wait for ever behind one that was cancelled, or that has reached its deadline."""
    recall, gate = connect(max_connections=1), Gate()
    server.script(gate)
    retrieve = recall.calendar_events.retrieve
    first = asyncio.create_task(retrieve(event(1)))
    await server.arrived(1)
    cancelled = asyncio.create_task(retrieve(event(2)))
    late = asyncio.create_task(retrieve(event(3), deadline=0.01))
    last = asyncio.create_task(retrieve(event(4)))
    with pytest.raises(DeadlineExceededError, match="before a request could be sent"):
        await late
    cancelled.cancel()
    gate.opened.set()
    await asyncio.gather(first, last)
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    assert len(server.requests) == 2
    await retrieve(event(5))


async def test_another_operations_pause_blocks_nobody(server: ScriptedServer, connect: Connect) -> None:
    """Would let calls wait for a connection that is free, behind one that has its turn but no slot."""
    recall = connect(max_connections=1)
    server.script(reply(429, retry_after="30"))
    paused = [asyncio.create_task(recall.calendar_events.retrieve(event(number))) for number in range(3)]
    await server.arrived(1)
    async with asyncio.timeout(10):
        await asyncio.gather(*(recall.calendar_events.remove_bot(event(number)) for number in range(5)))
    for call in paused:
        call.cancel()


async def test_silent_server_holds_up_no_interactive_call(
    server: ScriptedServer, recall: RecallSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would let a user wait for the timeouts of a hundred other calls, though the quota has slots."""
    monkeypatch.setattr(connections_module, "STILL", 0.02)
    server.script(*[silence] * 100)
    hanging = [asyncio.create_task(recall.calendar_events.retrieve(event(number))) for number in range(100)]
    await server.arrived(100)
    await recall.calendar_events.retrieve(event(100))
    for call in hanging:
        call.cancel()


def test_calls_exceed_the_limit_in_their_order_and_step_by_step() -> None:
    """Would send a burst in the order of its arrival, or open a connection for each call, once a server is slow."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections = Connections()
        connections.in_flight = 100
        went: list[tuple[float, float]] = []

        async def one(priority: Priority, start: float) -> None:
            within = await connections.wait(priority, start, math.inf)
            assert not within
            went.append((loop.time(), start))

        bulk = [asyncio.create_task(one(Priority.BULK, 0.0)) for _ in range(10)]
        begun = loop.time()
        calls = [asyncio.create_task(one(Priority.INTERACTIVE, float(start))) for start in reversed(range(250))]
        await asyncio.sleep(0.6)
        connections.in_flight = 200
        await asyncio.wait(calls)
        assert [start for _, start in went] == list(range(250))
        assert [round(when - begun, 3) for when, _ in went] == [STILL] * 100 + [2 * STILL] * 150
        assert not any(task.done() for task in bulk)
        for task in bulk:
            task.cancel()
        await asyncio.wait(bulk)

    run_virtual(main())


def test_stillness_begins_with_who_waits() -> None:
    """Would open connections to a lively server, because a call that is long gone waited half a second ago."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        connections = Connections()
        connections.in_flight = 100
        first = asyncio.create_task(connections.wait(Priority.INTERACTIVE, math.inf, math.inf))
        await asyncio.sleep(0.01)
        first.cancel()
        await asyncio.sleep(STILL - 0.02)
        begun = loop.time()
        assert not await connections.wait(Priority.INTERACTIVE, math.inf, math.inf)
        assert loop.time() - begun == pytest.approx(STILL)

    run_virtual(main())


async def test_limit_of_the_users_own_connector(server: ScriptedServer, connect: Connect) -> None:
    """Would hold slots of the quota while calls wait in aiohttp's own queue."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=2)) as http:
        recall, gate = connect(http=http), Gate()
        server.script(gate, gate)
        calls = [asyncio.create_task(recall.calendar_events.retrieve(event(number))) for number in range(5)]
        await server.arrived(2)
        assert recall.statistics()["calendar_events.retrieve"].taken == 2
        gate.opened.set()
        await asyncio.gather(*calls)


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "many"])
def test_wrong_limit(connect: Connect, wrong: object) -> None:
    """Would be found out at the first call, or never."""
    with pytest.raises(ConfigurationError, match="max_connections must be a whole number of at least 1, got"):
        connect(max_connections=wrong)
