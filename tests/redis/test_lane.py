"""A lane of Redis between its calls and a scripted link, in virtual time: no server, and every reply is chosen."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ResponseError

from recall_async import DeadlineExceededError, Priority, Quota, QuotaStoreUnavailableError
from recall_async.limits.contract import Ending
from recall_async.limits.redis.lane import RedisLane
from recall_async.limits.redis.memory import Memory
from recall_async.limits.redis.outbox import Outbox
from recall_async.limits.redis.reserve import LocalReserve
from recall_async.limits.redis.scripts import ACQUIRE, GRANT_MAX_AGE, SETTLE, Command, Keys, Terms
from recall_async.limits.redis.speaker import Speaker
from tests.redis.words import ends, reply, wanted
from tests.virtual_time import run

QUOTA = Quota(10, 60.0, burst=10, reserve=2)


def now() -> float:
    return asyncio.get_running_loop().time()


class Scripted:
    """A link that says nothing by itself, its lane, and what Redis replies."""

    def __init__(
        self,
        *,
        reserve: int = 0,
        quota: Quota = QUOTA,
        named: Quota | None = None,
        memory: Memory | None = None,
        longest: float = 30.0,
    ) -> None:
        self.trouble = ""
        self.silent = 0.0
        self.users = 0
        self.woken = 0
        self.closed = 0
        keys = Keys("recall", "w", "o")
        self.memory = memory or Memory("recall")
        self.outbox = Outbox(keys, self.memory.known(("w", "o")))
        self.lane = RedisLane(
            "calendars.list",
            quota,
            keys,
            self,
            self.outbox,
            lambda quota: Terms.of(quota, 0, longest),
            LocalReserve(reserve),
        )
        self.lane.join(named)

    def silence(self) -> float:
        return self.silent

    def wake(self, speaker: Speaker) -> None:
        self.woken += 1

    def join(self) -> None:
        self.users += 1

    def leave(self) -> None:
        self.users -= 1

    async def aclose_unused(self) -> None:
        self.closed += 1

    def say(self) -> list[Command]:
        return self.lane.compose("run") if self.lane.speaks else []

    def reply(self, commands: list[Command], interactive: int = 0, bulk: int = 0, **more: int) -> None:
        """Redis grants so many slots, with the lane's own clock as its time."""
        time = int(now() * 1e6)
        soon = more.get("soon", 0)
        waits = (soon, more.get("certain", soon)) * 2
        closed = {until: time + more.get(until, 0) for until in ("paused", "held")}
        taken, pace, name = more.get("taken", 0), more.get("pace", -1), "1-a/run 10/60060000"
        grant = reply(interactive, bulk, *waits, now=time, taken=taken, pace=pace, name=name, **closed)
        self.lane.on_reply([grant if command.script is ACQUIRE else 1 for command in commands])

    def call(self, priority: Priority = Priority.INTERACTIVE, until: float = float("inf")) -> asyncio.Task[Any]:
        return asyncio.create_task(self.lane.admit(priority, until=until))


async def ready() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_slot_whose_lease_ends_before_its_request_is_not_used() -> None:
    """Would send a request that Redis no longer counts, because the process stood still between the reply and the call."""

    async def main() -> None:
        link = Scripted()
        waiting = link.call()
        await ready()
        asked = link.say()
        asyncio.get_running_loop()._now += GRANT_MAX_AGE + 1.0  # type: ignore[attr-defined]
        link.reply(asked, interactive=1)
        await ready()
        assert not waiting.done()
        again = link.say()
        assert ends(again[0])[0][:2] == (0, Ending.UNUSED)
        link.reply(again, interactive=1)
        slot = await waiting
        # The process stands still when the call has its slot, before it runs on.
        second = link.call()
        await ready()
        link.reply(link.say(), interactive=1)
        asyncio.get_running_loop()._now += GRANT_MAX_AGE + 1.0  # type: ignore[attr-defined]
        await ready()
        assert not second.done()
        link.reply(link.say(), interactive=1)
        (await second).unused()
        slot.answered()
        assert (link.lane.statistics().admitted, link.lane.statistics().in_flight) == (2, 0)

    run(main())


def test_slots_that_nobody_waits_for_any_more_are_given_back() -> None:
    """Would keep a slot until its lease ends for each call that was cancelled while Redis was asked."""

    async def main() -> None:
        link = Scripted()
        one, other = link.call(), link.call()
        await ready()
        asked = link.say()
        one.cancel()
        await ready()
        link.reply(asked, interactive=2)
        slot = await other
        assert link.lane.statistics().in_flight == 1
        (end,) = link.say()
        assert (end.script, ends(end)) == (SETTLE, [(1, Ending.UNUSED, 0)])
        link.reply([end])
        slot.unused()
        assert not link.lane.settled
        link.reply(link.say())
        assert link.lane.settled

    run(main())


def test_bulk_call_gets_no_slot_of_an_interactive_one() -> None:
    """Would let a job use the reserve, when the call that the slot was for has given up."""

    async def main() -> None:
        link = Scripted()
        person, job = link.call(), link.call(Priority.BULK)
        await ready()
        asked = link.say()
        assert wanted(asked[0]) == (1, 1)
        person.cancel()
        await ready()
        link.reply(asked, interactive=1, soon=1_000_000)
        await ready()
        assert not job.done()
        assert link.lane.statistics().in_flight == 0
        job.cancel()

    run(main())


def test_own_slots_of_a_longer_window_prove_nothing_about_a_shorter_one() -> None:
    """Would fail calls at once for slots that count no more since a session named a quota with a shorter window."""

    async def main() -> None:
        link = Scripted(quota=Quota(1, 60.0, burst=1))
        waiting = link.call()
        await ready()
        link.reply(link.say(), interactive=1)
        (await waiting).answered()
        link.reply(link.say())
        with pytest.raises(DeadlineExceededError):
            await link.lane.admit(until=now() + 5.0)
        link.lane.leave(None)
        link.lane.join(Quota(1, 2.0))
        waiting = link.call(until=now() + 5.0)
        await ready()
        assert not waiting.done()
        link.reply(link.say(), interactive=1)
        (await waiting).answered()

    run(main())


def test_reserve_serves_calls_while_redis_is_away() -> None:
    """Would keep a slot of the reserve that nobody could use, wait for Redis all the same, or send in a pause."""

    async def main() -> None:
        link = Scripted(reserve=2)
        waiting = [link.call() for _ in range(3)]
        await ready()
        link.say()
        link.trouble = "connection refused"
        link.lane.on_no_reply()
        await ready()
        assert [call.done() for call in waiting] == [True, True, False]
        assert link.lane.statistics().in_flight == 2
        waiting[0].result().unused()
        await ready()
        assert waiting[2].done()
        waiting[1].result().rejected(10.0)
        waiting[2].result().unused()
        late = link.call()
        await asyncio.sleep(9)
        assert not late.done()
        await asyncio.sleep(2)
        (await late).lost(5.0)
        assert link.lane.statistics().in_flight == 0

    run(main())


def test_slot_of_the_reserve_for_a_call_that_was_cancelled_is_free() -> None:
    """Would lose a slot of the reserve to each call that is cancelled when the connection breaks."""

    async def main() -> None:
        link = Scripted(reserve=1)
        cancelled = link.call()
        await ready()
        link.say()
        cancelled.cancel()
        link.trouble = "connection reset"
        link.lane.on_no_reply()
        assert link.lane.statistics().in_flight == 0
        (await link.lane.admit(until=now() + 1.0)).answered()

    run(main())


def test_errors_of_redis_fail_the_calls_that_wait() -> None:
    """Would leave calls waiting for a quota that Redis refuses, or blame the quota where Redis is silent."""

    async def main() -> None:
        link = Scripted()
        waiting = link.call()
        await ready()
        link.lane.on_reply([ResponseError("WRONGTYPE Operation against a key") for _ in link.say()])
        with pytest.raises(
            QuotaStoreUnavailableError, match=r"calendars.list is kept in Redis, which refuses: WRONGTYPE"
        ):
            await waiting
        waiting = link.call(until=now() + 3.0)
        await ready()
        link.say()
        link.silent, link.trouble = 2.5, "connection reset"
        link.lane.on_no_reply()
        with pytest.raises(QuotaStoreUnavailableError, match=r"has not answered for 2.5 s \(connection reset\)"):
            await waiting
        waiting = link.call()
        await ready()
        link.lane.refused(ResponseError("NOAUTH Authentication required"))
        with pytest.raises(QuotaStoreUnavailableError, match="NOAUTH"):
            await waiting
        assert link.lane.settled

    run(main())
