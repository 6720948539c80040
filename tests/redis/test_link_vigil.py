"""How a process with slots in use watches whether Redis still has its data: scripted, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError, ResponseError

from recall_async.limits.redis.greeter import StateGreeter
from recall_async.limits.redis.link import (
    BEAT,
    RETRY_HELD_AT_MOST,
)
from tests.redis.test_link import KEY, TERMS, Speaker, World, gaps, now
from tests.redis.words import reply
from tests.virtual_time import run


def test_loss_of_data_is_noticed_within_a_second() -> None:
    """Would report slots later than documented, when others have used them again."""
    assert 2 * BEAT <= 1.0
    assert RETRY_HELD_AT_MOST <= 0.2


def test_busy_link_has_no_task_between_messages() -> None:
    """Would watch the connection anew after each message, though the next one shows whether it is broken."""

    async def main() -> None:
        world, lane = World(), Speaker("one")
        world.holds_slots()
        world.begin(lane)
        await asyncio.sleep(0.05)
        assert lane.heard == ["for one"]
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await asyncio.sleep(BEAT)
        assert len(asyncio.all_tasks()) > 1  # it is idle: the vigil begins
        await world.close()

    run(main())


def test_process_with_slots_asks_more_often() -> None:
    """Would come late to a Redis that was restarted empty, after others took the slots that are in use."""

    async def main() -> None:
        world = World()
        world.holds_slots()
        world.redis.refuses = ConnectionError("refused")
        world.link.join()
        await asyncio.sleep(20.0)
        waits = gaps(world.redis.opened)
        assert all(RETRY_HELD_AT_MOST / 2 <= gap <= RETRY_HELD_AT_MOST + 0.01 for gap in waits[-20:])
        await world.close()

    run(main())


def test_vigil_notices_that_the_data_are_lost() -> None:
    """Would notice a flush or a restart only with the next call, when others have used the slots again."""

    async def main() -> None:
        world = World()
        met: list[tuple[str, str]] = []

        class Greeter(StateGreeter):
            def meet(self, run: str, life: str) -> bool:
                met.append((run, life))
                return super().meet(run, life)

        world.link.greeter = Greeter(world.memory, now)
        lane = Speaker("one")
        world.begin(lane)
        await asyncio.sleep(0.01)
        assert met == [("run", "life")]
        world.holds_slots()
        lane.messages = 1
        world.link.wake(lane)
        await asyncio.sleep(10.0)
        assert world.redis.marks == pytest.approx(1 + 10.0 / BEAT, abs=2)
        assert set(met) == {("run", "life")}
        for _ in range(3):  # what is said in between changes nothing
            lane.messages, marks = 1, world.redis.marks
            world.link.wake(lane)
            await asyncio.sleep(3.0)
            assert world.redis.marks - marks == pytest.approx(3.0 / BEAT, abs=1)
        world.redis.life = b"another"
        world.redis.answer = lambda command: reply(name="2-b/run 10/60060000")
        count = len(world.redis.commands)
        await asyncio.sleep(BEAT + 0.01)
        assert met[-1] == ("run", "another")
        assert [command.keys[0] for command in world.redis.commands[count:]] == [world.memory.known(KEY).keys.slots]
        # Between two checks it hears that the connection breaks.
        world.redis.run = "new"
        await asyncio.sleep(BEAT / 2)
        world.redis.break_off()
        await asyncio.sleep(0.01)
        assert met[-1] == ("new", "another")
        await asyncio.sleep(TERMS.lease / 1e6)
        marks = world.redis.marks
        await asyncio.sleep(10.0)
        assert world.redis.marks == marks  # nothing counts any more
        await world.close()

    run(main())


def test_lane_is_heard_at_once_during_the_vigil() -> None:
    """Would have a call wait for the next check of the data."""

    async def main() -> None:
        world, lane, other = World(), Speaker("one"), Speaker("other")
        world.holds_slots()
        world.link.join()
        await asyncio.sleep(3.0 + BEAT / 3)
        began = now()
        world.link.wake(lane)
        world.link.wake(other)
        await asyncio.sleep(0.001)
        assert (lane.heard, other.heard) == (["for one"], ["for other"])
        assert world.redis.messages[-1][0] - began < 0.0001
        assert len(world.redis.opened) == 1
        await world.close()

    run(main())


def test_mark_that_redis_does_not_keep_is_no_life(caplog: pytest.LogCaptureFixture) -> None:
    """Would refuse all calls where the user may not write the mark, or take a server that is loading for one that cannot."""

    async def main() -> None:
        world, lane = World(), Speaker("one")
        met: list[tuple[str, str]] = []

        class Greeter(StateGreeter):
            def meet(self, run: str, life: str) -> bool:
                met.append((run, life))
                return False

        world.link.greeter = Greeter(world.memory, now)
        replies: list[Any] = [ResponseError("LOADING Redis is loading"), ResponseError("NOPERM no"), "text"]
        world.redis.mark = lambda: replies.pop(0)
        world.redis.policy = "allkeys-lru"
        world.begin(lane)
        await asyncio.sleep(0.001)
        assert (lane.heard, met, world.redis.ended) == ([], [], ["drop"])
        await asyncio.sleep(1.0)
        world.redis.break_off()
        lane.messages = 1
        world.link.wake(lane)
        await asyncio.sleep(5.0)
        assert len(lane.heard) == 2
        assert met == [("run", ""), ("run", "text")]
        assert sum("evicts keys" in record.getMessage() for record in caplog.records) == 1
        await world.close()

    run(main())


@pytest.mark.parametrize("policy", ["noeviction", ""])
def test_server_that_evicts_nothing_is_not_warned_of(caplog: pytest.LogCaptureFixture, policy: str) -> None:
    """Would warn of a server that is set up as it should be, or that does not say."""

    async def main() -> None:
        world = World()
        world.redis.policy = policy
        world.begin(Speaker("one"))
        await asyncio.sleep(1.0)
        assert not caplog.records
        await world.close()

    run(main())


def test_vigil_goes_on_after_the_link_was_closed() -> None:
    """Would not notice a flush any more, after a program closed its store and went on."""

    async def main() -> None:
        world, lane = World(), Speaker("one")
        world.holds_slots()
        world.link.join()
        for _ in range(2):
            lane.messages = 1
            world.link.wake(lane)
            await asyncio.sleep(0.01)
            await world.link.aclose()
        lane.messages = 1
        world.link.wake(lane)
        await asyncio.sleep(0.01)
        marks = world.redis.marks
        await asyncio.sleep(5.0)
        assert world.redis.marks - marks == pytest.approx(5.0 / BEAT, abs=1)
        await world.close()

    run(main())
