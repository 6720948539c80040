"""How the connection of an event loop to Redis ends, and what begins anew after that: scripted, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from redis.exceptions import ResponseError

from recall_async.limits.redis.link import (
    UNUSED_AT_MOST,
    Link,
)
from tests.redis.scripted import ScriptedWire
from tests.redis.test_link import Speaker, World
from tests.virtual_time import run


def test_unused_connection_is_closed_soon() -> None:
    """Would keep a program that ends without closing its session from ending."""
    assert UNUSED_AT_MOST <= 0.2


def test_link_of_a_session_that_was_not_closed_waits_a_second_for_redis() -> None:
    """Would keep a connection to a silent Redis open, with a task, long after the last session."""

    async def main() -> None:
        world, lane = World(), Speaker("one")
        world.begin(lane)
        await asyncio.sleep(1.0)
        lane.messages, world.redis.delay = 1, 1000.0
        world.link.wake(lane)
        world.link.leave()
        await asyncio.sleep(UNUSED_AT_MOST + 1.01)
        assert (world.redis.wires, world.clients) == ([], 0)
        await world.close()

    run(main())


def test_lane_hears_of_its_error_before_the_connection_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would leave a lane waiting for its reply for ever, if the link is closed while it drops a connection."""
    drop = ScriptedWire.drop

    async def slow(wire: ScriptedWire) -> None:
        await drop(wire)
        await asyncio.sleep(1.0)

    monkeypatch.setattr(ScriptedWire, "drop", slow)

    async def main() -> None:
        world, lane = World(), Speaker("one")
        world.redis.answer = lambda command: ResponseError("LOADING Redis is loading the dataset in memory")
        world.begin(lane)
        await asyncio.sleep(0.5)
        world.link.leave()
        await world.close()
        assert (len(lane.runs), lane.silent) == (1, 1)

    run(main())


def test_unused_connection_is_closed_and_a_lent_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would leave a connection open when the closing of a session was cancelled, or close the caller's."""

    async def main() -> None:
        for owned, end in ((True, "aclose"), (False, "give_back")):
            world, lane = World(owned=owned), Speaker("one")
            world.begin(lane)
            await asyncio.sleep(1.0)
            world.link.leave()
            await asyncio.sleep(UNUSED_AT_MOST - 0.01)
            assert world.redis.ended == []
            world.link.join()  # another session begins
            world.link.leave()
            await asyncio.sleep(UNUSED_AT_MOST - 0.01)
            assert world.redis.ended == []  # the time begins anew
            world.link.join()
            await asyncio.sleep(1.0)
            assert world.redis.ended == []
            lane.messages, world.redis.delay = 1, 0.5
            world.link.wake(lane)
            world.link.leave()
            await asyncio.sleep(UNUSED_AT_MOST + 0.01)
            assert (world.redis.ended, len(lane.heard)) == ([], 1)  # what it still has to say
            await asyncio.sleep(1.0)
            assert (world.redis.ended, len(lane.heard), world.clients) == ([end], 2, 0 if owned else 1)
            assert world.link.users == 0

    run(main())


def test_session_that_ends_while_its_link_connects_leaves_no_connection() -> None:
    """Would leave open what is connected after the last session has ended, or lose what it still had to say."""

    async def main() -> None:
        world, lane = World(), Speaker("one")
        opened = world.redis.open

        async def slow(client: object) -> Any:
            await asyncio.sleep(0.5)
            return await opened(client)

        world.link._open_wire = slow  # type: ignore[assignment]
        world.begin(lane)
        await asyncio.sleep(0.1)
        world.link.leave()
        await asyncio.sleep(2.0)
        assert (lane.heard, world.redis.wires, world.clients) == (["for one"], [], 0)
        await world.close()

    run(main())


def test_link_that_is_closed_while_redis_py_connects_leaves_no_connection() -> None:
    """Would go on with a connection of a closed link, because redis-py took the cancellation for a time limit."""

    async def main() -> None:
        world, lane = World(), Speaker("one")
        opened = world.redis.open

        async def deaf(client: object) -> Any:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1.0)
            return await opened(client)

        world.link._open_wire = deaf  # type: ignore[assignment]
        world.begin(lane)
        await asyncio.sleep(0.5)
        world.link.leave()
        await world.close()
        assert (lane.runs, world.redis.ended) == ([], ["drop"])

    run(main())


def test_session_that_ends_after_its_loop_changes_nothing() -> None:
    """Would raise from the finalizer of a session that was never closed."""

    async def main() -> Link:
        world = World()
        world.link.join()
        return world.link

    link = run(main())
    link.leave()
    assert link.users == 0


def test_lane_that_begins_as_another_one_ends_keeps_the_connection() -> None:
    """Would connect anew for the reports of a session that closes its lanes together."""

    async def main() -> None:
        world, lane = World(), Speaker("one")
        world.begin(lane)
        await asyncio.sleep(1.0)
        world.link.leave()

        async def report() -> None:
            world.link.join()
            lane.messages = 1
            world.link.wake(lane)

        await asyncio.gather(world.link.aclose_unused(), report())
        await asyncio.sleep(1.0)
        assert (len(lane.heard), len(world.redis.opened), world.redis.ended) == (2, 1, [])
        await world.close()

    run(main())


def test_closed_link_begins_anew_for_lanes_in_use() -> None:
    """Would lose what a lane has to say, when the program closes the store while a session is open."""

    async def main() -> None:
        world, lane = World(), Speaker("one")
        world.redis.delay = 0.5
        world.begin(lane)
        await asyncio.sleep(0.75)
        await world.link.aclose()
        assert (world.redis.ended, lane.silent) == (["aclose"], 1)
        await asyncio.sleep(2.0)
        assert lane.heard == ["for one"]
        world.link.join()
        await world.link.aclose_unused()  # it is used
        await asyncio.sleep(2.0)
        assert lane.heard == ["for one"]
        world.link.leave()
        await world.close()
        # An unreported end of a lane that nobody uses is dropped.
        lane.messages = 1
        world.link.wake(lane)
        await world.link.aclose()
        world.link.join()
        await asyncio.sleep(2.0)
        assert len(lane.heard) == 1
        await world.close()

    run(main())
