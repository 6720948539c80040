"""What a lane of Redis reckons by itself: pauses, the slots of this process, and the deadlines that cannot be kept.

On the scripted link of test_lane.py, in virtual time.
"""

from __future__ import annotations

import asyncio
import math

import pytest
from redis.exceptions import ResponseError

from recall_async import DeadlineExceededError, Priority, Quota, QuotaStoreUnavailableError
from recall_async.limits.contract import Ending
from recall_async.limits.pace import LONGEST_USUAL_PAUSE
from recall_async.limits.quota import base_quota
from recall_async.limits.redis import lane as lanes
from recall_async.limits.redis.asking import ASK_EVERY
from recall_async.limits.redis.lane import BATCH_DELAY, LOOK_EVERY, LOOK_HELD_EVERY, RETELL_PAUSE
from recall_async.limits.redis.scripts import ACQUIRE, GRANT_MAX_AGE, PAUSE, SETTLE
from tests.redis.test_lane import QUOTA, Scripted, now, ready
from tests.redis.test_lane_times import granted, scripted, seconds_until_it_speaks
from tests.redis.words import asked, ends, wanted
from tests.virtual_time import run

BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE
LEASE = 30.0 + GRANT_MAX_AGE + 60.06
"""The seconds for which Redis keeps the slot of a request that never ended."""


async def refusal(link: Scripted, seconds: float, priority: Priority = INTERACTIVE, start: float = math.inf) -> float:
    """The `retry_after` of a call that cannot be admitted within `seconds`, which must fail without waiting."""
    began = now()
    with pytest.raises(DeadlineExceededError) as raised:
        await link.lane.admit(priority, start, began + seconds)
    assert now() == pytest.approx(began, abs=0.001)
    assert raised.value.retry_after is not None
    return raised.value.retry_after


async def waits(link: Scripted, seconds: float, priority: Priority = INTERACTIVE, start: float = math.inf) -> bool:
    """True if a call that must be admitted within `seconds` waits."""
    call = asyncio.create_task(link.lane.admit(priority, start, now() + seconds))
    await ready()
    waiting = not call.done()
    call.cancel()
    await asyncio.wait({call})
    return waiting


def test_hold_of_redis_is_kept_and_named() -> None:
    """Would send while Redis waits for slots that it lost track of, call that the quota, or notice a second move late."""

    async def main() -> None:
        link = scripted()
        waiting = link.call()
        await ready()
        link.reply(link.say(), interactive=1, held=20_000_000)
        await ready()
        assert not waiting.done()
        assert link.lane.statistics().paused == pytest.approx(20.0, abs=0.01)
        with pytest.raises(
            DeadlineExceededError, match="10 requests in 60 s\\), held because Redis lost track"
        ) as raised:
            await link.lane.admit(until=now() + 10.0)
        assert raised.value.retry_after == pytest.approx(20.0, abs=0.01)
        link.reply(link.say())  # gives the slot back
        assert await seconds_until_it_speaks(link) == pytest.approx(LOOK_HELD_EVERY, abs=0.1)
        link.reply(link.say(), held=3_000_000, paused=4_000_000)
        with pytest.raises(DeadlineExceededError, match="10 requests in 60 s\\) has no slot"):
            await link.lane.admit(until=now() + 2.0)
        assert await seconds_until_it_speaks(link) == pytest.approx(LOOK_HELD_EVERY, abs=0.1)
        link.reply(link.say(), interactive=1)
        (await waiting).answered()

    run(main())


def test_slots_granted_before_the_machine_slept_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would send with slots whose leases ended in the sleep, because the loop's clock did not notice it."""
    slept = 0.0
    monkeypatch.setattr(lanes, "lease_time", lambda: 50.0 + slept)

    async def main() -> None:
        nonlocal slept
        link = scripted()
        waiting = link.call()
        await ready()
        said = link.say()
        slept += GRANT_MAX_AGE - 0.01
        link.reply(said, interactive=1)
        (await waiting).answered()
        waiting = link.call()
        await ready()
        link.say()  # which gets no reply
        slept += 3600.0
        link.lane.on_no_reply()
        link.reply(link.say(), interactive=1)
        await ready()
        assert not waiting.done()
        said = link.say()
        assert ends(said[-1])[-1][1] is Ending.UNUSED
        link.reply(said, interactive=1)
        (await waiting).answered()

    run(main())


def test_pause_that_another_process_may_have_ended_fails_no_call() -> None:
    """Would fail calls for a pause that an operator has ended, or let calls wait in vain for one that lasts."""

    async def main() -> None:
        link = scripted()
        waiting = link.call()
        await ready()
        link.reply(link.say(), paused=60_000_000)
        await asyncio.sleep(LOOK_EVERY - 0.01)
        assert await refusal(link, 10.0) == pytest.approx(60.0 - LOOK_EVERY, abs=0.02)
        await asyncio.sleep(0.01)
        assert await waits(link, 10.0)
        link.reply(link.say(), interactive=1)
        (await waiting).answered()

    run(main())


def test_own_pause_fails_calls_until_redis_has_it() -> None:
    """Would let calls wait for a pause of this process, as if another one could have ended it unheard."""

    async def main() -> None:
        link = scripted()
        slot = await granted(link)
        slot.rejected(60.0)  # type: ignore[attr-defined]
        await asyncio.sleep(LOOK_EVERY + 1.0)
        assert await refusal(link, 10.0) == pytest.approx(60.0 - LOOK_EVERY - 1.0, abs=0.01)

    run(main())


def test_absurd_pause_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """Would stop a program for a day without a word, or say so for each request in flight."""

    async def main() -> None:
        link = scripted()
        slots = [await granted(link) for _ in range(3)]
        for slot, seconds in zip(slots, (30.0, 2 * LONGEST_USUAL_PAUSE, 2 * LONGEST_USUAL_PAUSE), strict=True):
            slot.rejected(seconds)  # type: ignore[attr-defined]
        (record,) = caplog.records
        assert "calendars.list was answered 429 with a Retry-After" in record.getMessage()
        assert link.lane.statistics().throttled == 3

    run(main(), start=1e6)


def test_pause_is_remembered_by_the_next_lane() -> None:
    """Would send in a pause when a session ends and the next begins, or not ask whether another process ended it."""

    async def main() -> None:
        before = scripted()
        slot = await granted(before)
        slot.rejected(60.0)  # type: ignore[attr-defined]
        link = Scripted(named=QUOTA, memory=before.memory)
        assert link.lane.statistics().paused == pytest.approx(60.0, abs=0.01)
        assert await refusal(link, 59.0) == pytest.approx(60.0, abs=0.01)
        waiting = link.call()
        await ready()
        said = link.say()
        assert [command.script for command in said] == [PAUSE, ACQUIRE]
        link.reply(said, interactive=1)
        (await waiting).answered()
        assert await waits(Scripted(named=QUOTA, memory=before.memory), 1.0)  # told, and ended by another process

    run(main())


def test_reserve_of_persons_counts_in_the_deadlines_of_a_job() -> None:
    """Would let a job wait in vain for the slots of persons, or refuse a person because a job may have no more."""

    async def main() -> None:
        link = scripted()
        for _ in range(8):  # of ten, two are for persons
            (await granted(link, BULK)).answered()  # type: ignore[attr-defined]
        assert await refusal(link, 50.0, BULK) == pytest.approx(60.06, abs=0.01)
        assert await waits(link, 61.0, BULK)
        assert await waits(link, 1.0)

    run(main())


def test_lost_request_counts_until_its_lease_is_over() -> None:
    """Would fail calls for a lost request that counts no more, or let them wait for a slot that cannot come in time."""

    async def main() -> None:
        link = scripted(Quota(1, 60.0, burst=1))
        slot = await granted(link)
        began = now()
        await asyncio.sleep(10.0)
        slot.lost(30.0)  # type: ignore[attr-defined]
        await asyncio.sleep(40.0)
        assert await refusal(link, LEASE - 50.1) == pytest.approx(LEASE - 50.0, abs=0.01)
        assert await waits(link, LEASE - 49.9)
        await asyncio.sleep(began + LEASE - 0.01 - now())
        assert link.lane.statistics().taken == 1
        await asyncio.sleep(0.02)
        assert link.lane.statistics().taken == 0

    run(main())


def test_message_without_a_reply_is_repeated_whole() -> None:
    """Would keep a slot until its lease ends because the report of its end was lost, or ask for other slots instead."""

    async def main() -> None:
        link = scripted()
        (await granted(link)).answered()  # type: ignore[attr-defined]
        await asyncio.sleep(BATCH_DELAY)
        (said,) = link.say()
        assert not link.lane.speaks
        link.lane.on_no_reply()
        (again,) = link.say()
        assert again.script is SETTLE
        assert [end[:2] for end in ends(again)] == [end[:2] for end in ends(said)] == [(0, Ending.ANSWERED)]
        link.reply([again])
        link.lane.on_no_reply()  # the next message is another lane's
        assert not link.lane.speaks
        waiting = link.call()
        await ready()
        (said,) = link.say()
        link.lane.on_no_reply()
        (again,) = link.say()
        first, second = asked(said), asked(again)
        assert (second.seq, second.again) == (first.seq + 1, True)
        assert (second.first, second.interactive, second.bulk) == (first.first, 1, 0)
        link.reply([again], interactive=1)
        (await waiting).answered()

    run(main())


def test_met_ask_ends_the_waiting() -> None:
    """Would let the next call wait for the time at which an earlier one hoped for a slot."""

    async def main() -> None:
        link = scripted()
        for priority in (INTERACTIVE, BULK):
            one = link.call(priority)
            await ready()
            link.reply(link.say(), soon=30_000_000)
            await asyncio.sleep(1.1)  # a slot may be freed early
            link.reply(link.say(), interactive=priority is INTERACTIVE, bulk=priority is BULK)
            (await one).answered()
            assert await waits(link, 10.0, priority)
            await asyncio.sleep(1.0)
            link.reply(link.say())
            other = link.call(priority)
            await ready()
            assert link.lane.speaks
            if priority is INTERACTIVE:
                link.reply(link.say(), interactive=1)
                (await other).answered()
        link.reply(link.say(), soon=30_000_000)
        assert await refusal(link, 10.0, BULK) == pytest.approx(30.0, abs=0.1)
        person = link.call()
        await ready()
        assert link.lane.speaks
        link.reply(link.say(), interactive=1, bulk=1)
        (await person).answered()
        (await other).answered()
        assert await waits(link, 10.0, BULK)

    run(main())


def test_token_bucket_counts_in_deadlines() -> None:
    """Would let a call wait behind others for a token that comes too late, or refuse one that precedes them."""

    async def main() -> None:
        link = scripted(Quota(10, 60.0, burst=2))  # a token each six seconds
        for priority in (INTERACTIVE, BULK):
            waiting = [link.call(priority) for _ in range(5)]
            await ready()
            assert await refusal(link, 23.9, priority) == pytest.approx(24.0, abs=0.01)
            assert await waits(link, 24.1, priority)
            assert await waits(link, 1.0, priority, start=5.0)
            assert await waits(link, 1.0) or priority is INTERACTIVE
            for call in waiting:
                call.cancel()
            await ready()
        single = scripted(Quota(10, 60.0, burst=1))
        assert await waits(single, 0.1)
        assert await waits(single, 0.1, start=5.0)
        waiting = [single.call()]
        await ready()
        assert await waits(single, 0.1, start=5.0)
        waiting += [single.call() for _ in range(9)]
        full = scripted()
        waiting += [full.call() for _ in range(10)]
        await ready()
        assert await refusal(full, 59.9) == pytest.approx(60.0, abs=0.01)
        assert await waits(full, 60.1)
        for call in waiting:
            call.cancel()
        greedy = scripted(Quota(10, 60.0))  # a job has five tokens, a person ten
        waiting = [greedy.call(BULK) for _ in range(5)]
        await ready()
        assert await refusal(greedy, 5.9, BULK) == pytest.approx(6.0, abs=0.01)
        assert await waits(greedy, 6.1, BULK)
        for call in waiting:
            call.cancel()
        waiting = [greedy.call() for _ in range(9)]
        await ready()
        assert await waits(greedy, 1.0)
        for call in waiting:
            call.cancel()

    run(main())


def test_calls_that_redis_cannot_serve_in_time_fail_with_its_reply() -> None:
    """Would let a call wait for a slot that is certainly not free in time, or tell the caller to come back too early."""

    async def main() -> None:
        link = scripted()
        hopeless, hopeful = link.call(until=now() + 4.0), link.call(until=now() + 6.0)
        await ready()
        began = now()
        link.reply(link.say(), soon=9_000_000, certain=5_000_000)
        with pytest.raises(DeadlineExceededError) as raised:
            await hopeless
        assert raised.value.retry_after == pytest.approx(9.0, abs=0.01)
        assert now() == pytest.approx(began, abs=0.001)
        with pytest.raises(DeadlineExceededError) as raised:
            await hopeful
        assert now() - began == pytest.approx(6.0, abs=0.01)
        assert raised.value.retry_after == pytest.approx(3.0, abs=0.01)
        await asyncio.sleep(10.0)
        with pytest.raises(DeadlineExceededError) as raised:
            await link.lane.admit(until=now() + 1.0)  # nobody asks Redis
        assert raised.value.retry_after == ASK_EVERY

    run(main())


def test_long_waits_are_exact() -> None:
    """Would tell a caller to come back some seconds too early or too late, when a quota is paused for a day."""

    async def main() -> None:
        day = 86_400
        for told in ("paused", "held"):
            link = scripted()
            waiting = link.call()
            await ready()
            link.reply(link.say(), **{told: day * 1_000_000})
            assert link.lane.statistics().paused == pytest.approx(day, abs=0.01)
            waiting.cancel()
        for priority in (INTERACTIVE, BULK):
            link = scripted()
            waiting = link.call(priority)
            await ready()
            link.reply(link.say(), soon=2 * day * 1_000_000, certain=1_000_000)
            assert await refusal(link, 0.5, priority) == pytest.approx(2 * day, abs=0.01)
            waiting.cancel()
            link = scripted()
            calls = [asyncio.create_task(link.lane.admit(priority, until=now() + day + more)) for more in (-0.05, 0.05)]
            await ready()
            link.reply(link.say(), soon=day * 1_000_000)
            await ready()
            assert [call.done() for call in calls] == [True, False]
            assert isinstance(calls[0].exception(), DeadlineExceededError)
            calls[1].cancel()
        link = Scripted(longest=day)
        slot, began = await granted(link), now()
        slot.lost(day)  # type: ignore[attr-defined]
        for more, taken in ((-0.05, 1), (0.05, 0)):
            await asyncio.sleep(began + day + GRANT_MAX_AGE + 60.06 + more - now())
            assert link.lane.statistics().taken == taken

    run(main())


def test_ends_name_the_slots_that_were_granted() -> None:
    """Would free the slot of another request, when calls of persons and of a job are asked for together."""

    async def main() -> None:
        link = scripted()
        for first in (0, 4):
            calls = [link.call(priority) for priority in (INTERACTIVE, BULK, INTERACTIVE, BULK)]
            await ready()
            (said,) = link.say()
            assert (asked(said).first, *wanted(said)) == (first, 2, 2)
            link.reply([said], interactive=1, bulk=2)
            for call in calls[:3]:  # one of the job's goes to a person
                (await call).answered()
            calls[3].cancel()
            await asyncio.sleep(BATCH_DELAY + 0.01)
            (said,) = link.say()
            assert {number for number, _, _ in ends(said)} == {first, first + 2, first + 3}
            link.reply([said])

    run(main())


def test_calls_that_the_reserve_may_serve_do_not_fail_for_shared_slots() -> None:
    """Would fail a call in an outage because the shared quota is used up, although the reserve has a slot for it."""

    async def main() -> None:
        quota = Quota(1, 60.0, burst=1)
        link = Scripted(reserve=2, quota=quota, named=quota)
        shared = await granted(link)
        link.trouble = "connection refused"
        (await link.lane.admit(until=now() + 1.0)).rejected(3.0)
        waiting, other = (link.call(until=now() + 10.0) for _ in range(2))
        await ready()
        assert not other.done()
        began = now()
        shared.rejected(5.0)  # type: ignore[attr-defined]
        (await waiting).answered()
        assert now() - began == pytest.approx(5.0, abs=0.01)
        with pytest.raises(QuotaStoreUnavailableError):  # nothing is left of it
            await other
        assert now() - began == pytest.approx(10.0, abs=0.01)

    run(main())


def test_pause_that_redis_refuses_is_sent_again() -> None:
    """Would keep a pause from the other processes for ever, because Redis was full when it was told."""

    async def main() -> None:
        link = scripted()
        slot = await granted(link)
        slot.rejected(30.0)  # type: ignore[attr-defined]
        said = link.say()
        assert [command.script for command in said] == [PAUSE, SETTLE]
        link.lane.on_reply([ResponseError("OOM command not allowed") for _ in said])
        assert await seconds_until_it_speaks(link) == pytest.approx(RETELL_PAUSE, abs=0.02)
        (again,) = link.say()
        assert again.script is PAUSE
        link.reply([again])
        await asyncio.sleep(2 * RETELL_PAUSE)
        assert not link.lane.speaks

    run(main())


def test_ends_alone_do_not_bring_an_ask_forward() -> None:
    """Would ask Redis for slots with each report while nothing can be free."""

    async def main() -> None:
        link = scripted()
        slot = await granted(link)
        waiting = link.call()
        await ready()
        link.reply(link.say(), soon=900_000)
        slot.answered()  # type: ignore[attr-defined]
        assert await seconds_until_it_speaks(link) == pytest.approx(BATCH_DELAY, abs=0.02)
        (said,) = link.say()
        assert said.script is SETTLE
        link.reply([said])
        assert await seconds_until_it_speaks(link) == pytest.approx(0.9 - BATCH_DELAY, abs=0.06)
        link.reply(link.say(), interactive=1)
        (await waiting).answered()

    run(main())


def test_pace_is_shown_as_redis_tells_it() -> None:
    """Would hide that other clients' requests slow the quota down."""

    async def main() -> None:
        link = scripted()
        (await granted(link, pace=1500)).answered()  # type: ignore[attr-defined]
        assert link.lane.statistics().pace == 1.5

    run(main())


def test_quota_of_a_lane_is_that_of_its_sessions() -> None:
    """Would ask Redis with the quota of the API, or of a session that has ended, or show another one."""

    async def main() -> None:
        link = Scripted(named=QUOTA)
        assert (link.lane.quota, link.lane.statistics().quota) == (QUOTA, QUOTA)
        one, other, job = link.call(), link.call(), link.call(BULK)
        await ready()
        (said,) = link.say()
        assert (wanted(said), asked(said).wanted) == ((2, 1), 2)
        assert asked(said).terms[:2] == (10, 2)  # the limit and the reserve
        link.reply([said], interactive=2, soon=30_000_000)
        for call in (one, other):
            (await call).answered()
        link.lane.join(None)
        assert not link.lane.speaks
        woken = link.woken
        link.lane.leave(QUOTA)
        assert link.lane.quota == base_quota("calendars.list") != QUOTA
        assert link.woken > woken  # what was said of the smaller quota counts no more
        (said,) = link.say()
        assert (asked(said).wanted, asked(said).terms[0]) == (0, link.lane.quota.limit)
        link.reply([said], bulk=1)
        (await job).answered()

    run(main())


def test_slots_count_as_long_as_the_longest_window() -> None:
    """Would forget the requests of a moment ago when a session names a quota with a longer window."""

    async def main() -> None:
        link = Scripted(quota=Quota(1, 2.0), named=Quota(1, 2.0))
        (await granted(link)).answered()  # type: ignore[attr-defined]
        await asyncio.sleep(1.0)
        link.lane.leave(Quota(1, 2.0))
        link.lane.join(Quota(1, 60.0))
        await asyncio.sleep(30.0)
        assert link.lane.statistics().taken == 1
        assert await refusal(link, 10.0) == pytest.approx(29.06, abs=0.01)

    run(main())
