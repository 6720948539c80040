"""Calls with one deduplication key follow one another; those with different keys do not wait."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async import RecallSession
from recall_async.workspace import KeyLocks
from tests.session.scripted_server import ScriptedServer, reply, reset
from tests.virtual_time import run

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
OTHER_ID = "00000000-0000-4000-8000-000000000000"


async def schedule(recall: RecallSession, key: str = "k", event_id: str = EVENT_ID, **config: Any) -> Any:
    return await recall.calendar_events.schedule_bot(event_id, deduplication_key=key, bot_config=config)


async def test_one_key_is_one_request_at_a_time(server: ScriptedServer, recall: RecallSession) -> None:
    """Would send two requests with one key at once, of which the server answers one with 409."""
    server.delay = 0.01
    await asyncio.gather(*(schedule(recall, event_id=event_id) for event_id in (EVENT_ID, OTHER_ID) * 5))
    assert server.overlaps == {"k": 1}
    assert len(server.requests) == 10


async def test_also_from_two_sessions(server: ScriptedServer, connect: Any) -> None:
    """Would race between two sessions of one workspace."""
    server.delay = 0.01
    first, second = connect(), connect()
    await asyncio.gather(*(schedule(recall) for recall in (first, second) * 5))
    assert server.overlaps == {"k": 1}


async def test_also_while_it_is_retried(server: ScriptedServer, recall: RecallSession) -> None:
    """Would let a retry run into the call that went on in the meantime."""
    server.delay = 0.005
    server.script(reply(409), reset, reply(503), reply(429, retry_after="0"))
    await asyncio.gather(*(schedule(recall) for _ in range(5)))
    assert server.overlaps == {"k": 1}


async def test_different_keys_and_workspaces_do_not_wait(server: ScriptedServer, connect: Any) -> None:
    """Would make calls wait for one another that have nothing to do with each other."""
    server.delay = 0.05
    first, second = connect(), connect(workspace="another one")
    await asyncio.gather(schedule(first, "a"), schedule(first, "b"), schedule(second, "a"), schedule(second, "c"))
    assert server.most_in_flight == 4


async def test_calls_go_in_the_order_in_which_they_came(server: ScriptedServer, recall: RecallSession) -> None:
    """Would put an older configuration over a newer one."""
    calls = []
    for number in range(8):
        calls.append(asyncio.create_task(schedule(recall, number=number)))
        await asyncio.sleep(0)
    await asyncio.gather(*calls)
    assert [request.body for request in server.requests] == [
        b'{"deduplication_key":"k","bot_config":{"number":%d}}' % number for number in range(8)
    ]


async def test_other_operations_do_not_wait_for_keys(server: ScriptedServer, recall: RecallSession) -> None:
    """Would hold up calls that have no deduplication key."""
    server.delay = 0.05
    await asyncio.gather(
        schedule(recall), recall.calendar_events.remove_bot(EVENT_ID), recall.calendar_events.retrieve(EVENT_ID)
    )
    assert server.most_in_flight == 3


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.integers(0, 9), st.integers(0, 3)),
        min_size=1,
        max_size=12,
    )
)
def test_locks_hold_whatever_happens(calls: list[tuple[str, int, int, int]]) -> None:
    """Would give one key to two, pass somebody over, or stay locked when those who wait go away at any moment."""

    async def main() -> None:
        locks, holders, came, went = KeyLocks(), {"a": 0, "b": 0}, [], []

        async def call(number: int, key: str, arrives: int, holds: int) -> None:
            await asyncio.sleep(arrives)
            came.append((key, number))
            try:
                if not locks.take(key):
                    await locks.wait(key)
            except asyncio.CancelledError:
                came.remove((key, number))
                raise
            holders[key] += 1
            went.append((key, number))
            assert holders[key] == 1
            try:
                await asyncio.sleep(holds)
            finally:
                holders[key] -= 1
                locks.release(key)

        tasks = [asyncio.create_task(call(n, *given[:3])) for n, given in enumerate(calls)]
        for task, (_, arrives, _, gives_up) in zip(tasks, calls, strict=True):
            if gives_up:
                asyncio.get_running_loop().call_later(arrives + gives_up, task.cancel)
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            assert result is None or isinstance(result, asyncio.CancelledError), repr(result)
        assert locks._queues == {}
        for key in "ab":
            assert [name for name in came if name[0] == key] == [name for name in went if name[0] == key]

    run(main())


async def test_thousands_wait_for_one_key() -> None:
    """Would take quadratic time when a crowd that waits for one key goes away again."""
    locks = KeyLocks()
    assert locks.take("k")
    waiting = [asyncio.create_task(locks.wait("k")) for _ in range(20_000)]
    await asyncio.sleep(0)
    random.Random(7).shuffle(waiting)
    for task in waiting[1:]:
        task.cancel()
    locks.release("k")
    await waiting[0]
    locks.release("k")
    assert locks._queues == {}
    await asyncio.gather(*waiting, return_exceptions=True)


def test_call_that_is_dropped_while_it_waits() -> None:
    """Would let a coroutine that is thrown away, as at the end of a loop, take the holder's key with it."""

    async def main() -> None:
        locks = KeyLocks()
        assert locks.take("k")
        ahead = asyncio.create_task(locks.wait("k"))
        await asyncio.sleep(0)
        dropped = locks.wait("k")
        dropped.send(None)
        behind = asyncio.create_task(locks.wait("k"))
        await asyncio.sleep(0)
        dropped.close()
        await asyncio.sleep(0)
        assert not ahead.done()
        for waiting in (ahead, behind):
            locks.release("k")
            await waiting
        locks.release("k")
        assert locks._queues == {}

    run(main())


async def test_crowd_with_few_keys(server: ScriptedServer, recall: RecallSession) -> None:
    """Would lose somebody in a crowd, or let them overlap."""
    await asyncio.gather(*(schedule(recall, str(number % 9)) for number in range(200)))
    assert len(server.requests) == 200
    assert set(server.overlaps.values()) == {1}
