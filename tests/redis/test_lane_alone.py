"""A lane of Redis that nobody pushes: it wakes its link when there is something to say, and Redis answers that at once.

The link runs the lane's commands in a model of Redis, in virtual time.
"""

from __future__ import annotations

import asyncio
import math

import pytest
from redis.exceptions import ResponseError

from recall_async import Priority, Quota
from recall_async.limits.contract import Ending
from recall_async.limits.redis import lane as module
from recall_async.limits.redis.lane import BATCH_DELAY, LOOK_EVERY
from recall_async.limits.redis.scripts import ACQUIRE, PAUSE, SETTLE, Command
from recall_async.limits.redis.speaker import Speaker
from tests.redis.test_lane import Scripted, now, ready
from tests.redis.words import asked, ends, reply
from tests.virtual_time import VirtualTimeLoop, run


class Serving(Scripted):
    """A link whose Redis has so many slots, each of which is free again some seconds after its answer."""

    def __init__(self, slots: int, per: float, *, reserve: int = 0) -> None:
        self.free_at = [-math.inf] * slots
        self.slot_of: dict[int, int] = {}
        self.per = per
        self.closed_until = -math.inf
        self.asks: list[float] = []
        """When the lane asked for slots."""
        self.said: list[Command] = []
        quota = Quota(slots, per, burst=slots, reserve=0)
        super().__init__(quota=quota, named=quota, reserve=reserve)

    def wake(self, speaker: Speaker) -> None:
        super().wake(speaker)
        asyncio.get_running_loop().call_soon(self.talk)

    def talk(self) -> None:
        """Run what the lane has to say, unless the connection is broken."""
        for _ in range(10):
            if self.trouble or not self.lane.speaks:
                return
            said = self.lane.compose("run")
            self.said += said
            self.lane.on_reply([self.run(command) for command in said])
        raise AssertionError("the lane speaks for ever")

    def run(self, command: Command) -> object:
        if command.script is PAUSE:
            self.closed_until = now() + int(command.arguments[0]) / 1e6
            return 1
        for number, ending, _ in ends(command):
            self.free_at[self.slot_of[number]] = now() + (0.0 if ending is Ending.UNUSED else self.per)
        if command.script is not ACQUIRE:
            return 1
        self.asks.append(now())
        said = asked(command)
        first, interactive, bulk = said.first, said.interactive, said.bulk
        free = [place for place, at in enumerate(self.free_at) if at <= now()] if self.closed_until <= now() else []
        granted = list(range(first, first + interactive + bulk))[: len(free)]
        for number, place in zip(granted, free, strict=False):
            self.slot_of[number], self.free_at[place] = place, math.inf
        soon = max(0.0, min(self.free_at) - now())
        soon = int(min(soon, self.per) * 1e6) + 1
        mine = sum(number < first + interactive for number in granted)
        time = int(now() * 1e6)
        closed = time + int(max(0.0, self.closed_until - now()) * 1e6)
        return reply(
            *(mine, len(granted) - mine, soon, 0, soon, 0),
            now=time,
            taken=len(granted),
            paused=closed,
            name=f"1-a/run {said.quota}",
        )


def test_waiting_calls_are_served_as_slots_are_freed() -> None:
    """Would leave calls waiting for ever after a reply with too few slots, or ask Redis all the time."""

    async def main() -> None:
        link = Serving(2, 10.0)
        times = []

        async def one(priority: Priority) -> None:
            (await link.lane.admit(priority)).answered()
            times.append(now() - 1000.0)

        async with asyncio.TaskGroup() as group:
            for number in range(7):
                group.create_task(one(Priority(number % 2)))
        assert times == pytest.approx([0.0, 0.0, 10.0, 10.0, 20.0, 20.0, 30.0], abs=1.5)
        assert len(link.asks) <= 45  # at most about one a second
        await link.lane.flush()
        assert link.lane.settled
        assert not link.lane.speaks

    run(main())


def test_call_that_waits_for_a_connection_gets_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would leave a free slot unused while a call waits, when as many requests are in flight as may be."""
    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 1)

    async def main() -> None:
        link = Serving(5, 60.0)
        slot, waiting = await link.lane.admit(), link.call()
        await asyncio.sleep(7.0)
        assert (waiting.done(), len(link.asks)) == (False, 1)
        slot.answered()
        await ready()
        waiting.result().answered()

    run(main())


def test_end_is_reported_by_itself() -> None:
    """Would tell Redis that a slot is free only with the next call, which may come an hour later."""

    async def main() -> None:
        link = Serving(2, 60.0)
        one, other = await link.lane.admit(), await link.lane.admit()
        one.answered()
        await asyncio.sleep(BATCH_DELAY / 2)
        other.answered()
        assert not link.lane.settled
        await asyncio.sleep(BATCH_DELAY / 2 + 0.01)
        assert link.lane.settled
        assert [command.script for command in link.said].count(SETTLE) == 1
        link.free_at[0] = now()
        (await link.lane.admit()).answered()
        await asyncio.sleep(BATCH_DELAY + 0.01)
        assert link.lane.settled

    run(main())


def test_lane_has_two_timers_at_most() -> None:
    """Would set a timer for each answer or each look, and wake up for all of them."""

    async def main() -> None:
        link, loop = Serving(8, 60.0), asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        (await link.lane.admit()).unused()
        (await link.lane.admit()).answered()
        assert loop.timers() == 1
        link.free_at = [now()] * 8
        slots = [await link.lane.admit()]  # what was answered is reported with this ask
        assert loop.timers() == 0
        slots += [await link.lane.admit() for _ in range(7)]
        waiting = [link.call() for _ in range(3)]
        await ready()
        for slot in slots[:6]:
            await asyncio.sleep(0.06)
            slot.answered()
        assert loop.timers() == 2
        slots[6].unused()
        await waiting[0]
        for call in waiting:
            call.cancel()
        await ready()
        assert link.lane.statistics().waiting_interactive == 0
        assert loop.timers() == 0

    run(main())


def test_pause_ends_by_itself_or_when_another_process_ends_it() -> None:
    """Would sleep through the end of a pause, or ask again and again while it lasts."""

    async def main() -> None:
        for ended_after, admitted_after in ((math.inf, 22.0), (7.0, 2 * LOOK_EVERY)):
            link = Serving(2, 60.0)
            began = now()
            (await link.lane.admit()).rejected(22.0)
            await ready()
            assert PAUSE in [command.script for command in link.said]  # the others hear of it at once
            waiting = link.call()
            await ready()
            await asyncio.sleep(min(ended_after, 21.0))
            assert not waiting.done()
            if ended_after != math.inf:
                link.closed_until = now()
            (await waiting).answered()
            assert now() - began == pytest.approx(admitted_after, abs=0.2)
            assert len(link.asks) <= 8

    run(main())


def test_reserve_is_looked_at_again_by_itself() -> None:
    """Would leave a call waiting in an outage when a slot of the reserve is free again."""

    async def main() -> None:
        link = Serving(2, 10.0, reserve=1)
        link.trouble = "connection refused"
        (await link.lane.admit()).answered()
        began = now()
        (await link.lane.admit()).answered()
        assert 10.0 <= now() - began <= 12.0
        waiting = link.call()
        await ready()
        assert not waiting.done()
        link.trouble = ""
        link.lane.on_no_reply()
        (await waiting).answered()
        assert now() - began <= 12.1

    run(main())


def test_refusal_ends_what_waits_for_redis() -> None:
    """Would keep a session that closes waiting for its reports, or send an empty message, after a refused connection."""

    async def main() -> None:
        link = Serving(2, 60.0)
        (await link.lane.admit()).answered()
        link.trouble = "broken"
        await asyncio.sleep(BATCH_DELAY + 0.01)
        link.trouble = ""
        began = now()
        link.free_at = []  # whatever it says, Redis does not answer
        link.talk = lambda: None  # type: ignore[method-assign]
        flushing = asyncio.create_task(link.lane.flush())
        await ready()
        link.lane.refused(ResponseError("NOAUTH Authentication required"))
        await flushing
        assert now() == pytest.approx(began, abs=0.001)
        assert not link.lane.speaks

    run(main())
