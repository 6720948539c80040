"""When a lane of Redis asks, reports, waits and gives up: on the scripted link of test_lane.py, in virtual time."""

from __future__ import annotations

import asyncio
import logging

import pytest

from recall_async import DeadlineExceededError, Priority, Quota, QuotaStoreUnavailableError
from recall_async.limits.contract import Ending
from recall_async.limits.redis.asking import ASK_EVERY
from recall_async.limits.redis.lane import (
    BATCH_DELAY,
    GATHER,
    GIVE_BACK_TIMEOUT,
    LOOK_EVERY,
    LOOK_HELD_EVERY,
    RETELL_PAUSE,
    SILENCE,
)
from recall_async.limits.redis.scripts import ACQUIRE, PAUSE, SETTLE
from recall_async.limits.sockets import MAX_BULK_IN_FLIGHT, MAX_IN_FLIGHT
from tests.redis.test_lane import QUOTA, Scripted, now, ready
from tests.redis.words import ends, wanted
from tests.virtual_time import run


def scripted(quota: Quota = QUOTA) -> Scripted:
    """A lane of which a session has named the quota."""
    link = Scripted()
    link.lane.join(quota)
    return link


async def seconds_until_it_speaks(link: Scripted) -> float:
    began = now()
    async with asyncio.timeout(100.0):
        while not link.lane.speaks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return now() - began


async def granted(link: Scripted, priority: Priority = Priority.INTERACTIVE, **more: int) -> object:
    """The slot of a call that Redis grants at once."""
    waiting = link.call(priority)
    await ready()
    bulk = priority is Priority.BULK
    link.reply(link.say(), interactive=not bulk, bulk=bulk, **more)
    return await waiting


def test_times_are_short_enough_for_those_who_wait() -> None:
    """Would notice a resumed quota late, keep a program that ends from ending, or ask a Redis all the time that refuses."""
    assert LOOK_EVERY <= 5.0
    assert 0.5 <= LOOK_HELD_EVERY <= 1.0
    assert GIVE_BACK_TIMEOUT <= 1.0
    assert SILENCE <= 1.0
    assert 0.5 <= RETELL_PAUSE <= 1.0


def test_ends_are_reported_together_and_unused_slots_at_once() -> None:
    """Would cost a script for each answer, keep an unused slot from others, or free one that may still be counted."""

    async def main() -> None:
        link = scripted()
        answered, lost, unused = [await granted(link, taken=1 + number) for number in range(3)]
        answered.answered()  # type: ignore[attr-defined]
        lost.lost(5.0)  # type: ignore[attr-defined]
        assert link.say() == []
        await asyncio.sleep(BATCH_DELAY - 0.01)
        assert not link.lane.speaks
        await asyncio.sleep(0.02)
        (said,) = link.say()
        assert said.script is SETTLE
        assert [end[:2] for end in ends(said)] == [(0, Ending.ANSWERED)]  # the lost one keeps its lease
        link.reply([said])
        assert not link.lane.speaks
        woken = link.woken
        unused.unused()  # type: ignore[attr-defined]
        assert link.woken > woken
        (said,) = link.say()
        assert ends(said) == [(2, Ending.UNUSED, 0)]
        link.reply([said])
        assert link.lane.settled
        assert link.lane.statistics().taken == 2  # the answered one, and the lost one
        link = scripted(Quota(10, 1.0))
        (await granted(link)).answered()  # type: ignore[attr-defined]
        woken = link.woken
        await asyncio.sleep(0.0401)
        assert link.woken == woken
        await asyncio.sleep(0.01)
        assert (link.woken, link.lane.speaks) == (woken + 1, True)  # within a twentieth of a short window

    run(main())


def test_answer_travels_with_the_next_ask() -> None:
    """Would send two messages for each request, or report an end twice."""

    async def main() -> None:
        link = scripted()
        slot = await granted(link)
        slot.answered()  # type: ignore[attr-defined]
        waiting = link.call()
        await ready()
        (said,) = link.say()
        assert (said.script, ends(said)[0][:2]) == (ACQUIRE, (0, Ending.ANSWERED))
        link.reply([said], interactive=1)
        (await waiting).answered()
        await asyncio.sleep(BATCH_DELAY + 0.01)
        (said,) = link.say()
        assert [end[:2] for end in ends(said)] == [(1, Ending.ANSWERED)]

    run(main())


def test_429_pauses_this_process_at_once_and_the_others_soon() -> None:
    """Would send on while a message to Redis is under way, or keep the pause for itself; or let calls wait in vain."""

    async def main() -> None:
        link = scripted()
        slot = await granted(link)
        hopeless, patient = link.call(until=now() + 20.0), link.call(until=now() + 60.0)
        await ready()
        slot.rejected(30.0)  # type: ignore[attr-defined]
        with pytest.raises(DeadlineExceededError) as caught:
            await hopeless
        assert caught.value.retry_after == pytest.approx(30.0, abs=0.01)
        statistics = link.lane.statistics()
        assert (statistics.throttled, statistics.waiting_interactive) == (1, 1)
        assert statistics.paused == pytest.approx(30.0, abs=0.01)
        said = link.say()
        assert PAUSE in [command.script for command in said]
        link.lane.on_reply([1 for _ in said] if said[0].script is not ACQUIRE else [])
        assert not patient.done()
        with pytest.raises(DeadlineExceededError):
            await link.lane.admit(until=now() + 20.0)
        patient.cancel()

    run(main())


def test_slots_that_come_during_a_pause_are_given_back() -> None:
    """Would send a request in a pause that another process was asked for."""

    async def main() -> None:
        link = scripted()
        waiting = link.call()
        await ready()
        link.reply(link.say(), interactive=1, paused=8_000_000)
        await ready()
        assert not waiting.done()
        assert link.lane.statistics().paused == pytest.approx(8.0, abs=0.01)
        (said,) = link.say()
        assert ends(said)[-1][1] is Ending.UNUSED
        link.reply([said])
        # It asks once in a while whether the pause was ended, and when it is over.
        assert await seconds_until_it_speaks(link) == pytest.approx(LOOK_EVERY, abs=0.1)
        link.reply(link.say(), paused=3_000_000)
        assert await seconds_until_it_speaks(link) == pytest.approx(3.0, abs=0.1)
        link.reply(link.say(), interactive=1)
        await waiting

    run(main())


def test_lane_asks_again_when_a_slot_can_be_free() -> None:
    """Would ask all the time while the quota is used up, wait though a slot is free, or ask for a call that has left."""

    async def main() -> None:
        link = scripted()
        waiting = link.call()
        await ready()
        link.reply(link.say(), soon=700_000)
        assert not link.lane.speaks
        assert 0.69 <= await seconds_until_it_speaks(link) <= 0.75
        (said,) = link.say()
        assert wanted(said) == (1, 0)
        link.reply([said], soon=500_000)
        waiting.cancel()
        await ready()
        await asyncio.sleep(5.0)
        assert not link.lane.speaks
        assert link.lane.settled

    run(main())


def test_free_slots_gather_for_a_job() -> None:
    """Would cost Redis a script for each request of a job, or keep a call of a person waiting for the same reason."""

    async def main() -> None:
        greedy, at_once = Quota(600, 60.0, burst=600), {"soon": 1000}
        for priority, quota, reply, gathers in (
            (Priority.BULK, greedy, at_once, True),
            (Priority.INTERACTIVE, greedy, at_once, False),
            (Priority.BULK, greedy, {}, False),  # there is a free slot, which a person may have
            (Priority.BULK, greedy, {"soon": 1000, "pace": 100_000}, False),
            (Priority.BULK, Quota(60, 6.0), at_once, False),  # idle slots of a short window are soon a loss
            (Priority.BULK, Quota(600, 60.0, burst=2), at_once, False),  # a bucket that would be full
            (Priority.BULK, Quota(600, 60.0, burst=1), at_once, False),
        ):
            least, most = (0.8 * GATHER, GATHER) if gathers else (0.0, 1.5 * ASK_EVERY)
            link = scripted(quota)
            waiting = link.call(priority)
            await ready()
            link.reply(link.say(), **reply)
            assert least <= await seconds_until_it_speaks(link) <= most + 0.0101
            waiting.cancel()
            await ready()

    run(main())


def test_lane_asks_for_what_may_be_in_flight() -> None:
    """Would take slots for which there is no connection, or leave persons none while a job runs."""

    async def main() -> None:
        link = scripted(Quota(10_000, 60.0, burst=10_000))
        jobs = [link.call(Priority.BULK) for _ in range(MAX_BULK_IN_FLIGHT + 5)]
        await ready()
        (said,) = link.say()
        assert wanted(said) == (0, MAX_BULK_IN_FLIGHT)
        link.reply([said], bulk=MAX_BULK_IN_FLIGHT)
        await ready()
        assert (sum(job.done() for job in jobs), link.lane.statistics().in_flight) == ((MAX_BULK_IN_FLIGHT,) * 2)
        people = [link.call() for _ in range(MAX_IN_FLIGHT)]
        await ready()
        (said,) = link.say()
        assert wanted(said) == (MAX_IN_FLIGHT - MAX_BULK_IN_FLIGHT, 0)
        for call in (*jobs, *people):
            call.cancel()

    run(main())


def test_deadline_that_cannot_be_kept_fails_at_once() -> None:
    """Would let a call wait for a slot that cannot come in time, or fail one that can have it."""

    async def main() -> None:
        link = scripted()
        slots = [await granted(link) for _ in range(10)]
        for slot in slots:
            slot.answered()  # type: ignore[attr-defined]
        await asyncio.sleep(1.0)
        link.reply(link.say())
        began = now()
        with pytest.raises(DeadlineExceededError, match=r"10 requests in 60 s\) has no slot") as caught:
            await link.lane.admit(until=now() + 58.0)
        assert now() == pytest.approx(began, abs=0.001)
        assert caught.value.retry_after == pytest.approx(59.06, abs=0.05)
        waiting = [link.call(until=now() + 62.0) for _ in range(10)]
        await ready()
        assert not any(call.done() for call in waiting)
        with pytest.raises(DeadlineExceededError) as caught:
            await link.lane.admit(until=now() + 62.0)  # ten are before it
        assert caught.value.retry_after == pytest.approx(119.06, abs=0.1)
        for call in waiting:
            call.cancel()
        assert link.lane.statistics().retries == 0
        with pytest.raises(DeadlineExceededError):
            await link.lane.admit(until=now() + 1.0, retry=True)
        assert (link.lane.statistics().retries, link.lane.statistics().admitted) == (1, 10)

    run(main())


def test_calls_fail_when_redis_is_silent_for_longer_than_they_wait() -> None:
    """Would let calls without a deadline wait for ever, or fail them in a short outage."""

    async def main() -> None:
        link = scripted()
        link.lane._patience = 20.0
        waiting = link.call()
        await ready()
        link.say()
        link.trouble = "refused"
        for link.silent in (1.0, 20.0):
            link.lane.on_no_reply()
            await ready()
            assert not waiting.done()
            assert link.lane.statistics().store_silent == link.silent
        link.silent = 20.5
        link.lane.on_no_reply()
        with pytest.raises(
            QuotaStoreUnavailableError, match=r"not answered for 20.5 s \(refused\), longer than calls wait"
        ):
            await waiting
        assert link.lane.statistics().store_silent == 0.0  # nobody waits

    run(main())


def test_silence_without_an_error_is_told_after_a_second() -> None:
    """Would blame the quota where Redis is silent, or Redis for the milliseconds of a reply."""

    async def main() -> None:
        for silent, error in (
            (0.3, DeadlineExceededError),  # a slow reply
            (SILENCE, DeadlineExceededError),
            (SILENCE + 0.1, QuotaStoreUnavailableError),
        ):
            link = scripted()
            waiting = link.call(until=now() + 2.0)
            await ready()
            link.say()
            link.silent = silent
            with pytest.raises(error) as caught:
                await waiting
            assert ("it is connected" in str(caught.value)) == (silent > SILENCE)

    run(main())


def test_closing_does_not_wait_until_ends_are_reported_together() -> None:
    """Would keep each short program for a quarter of a second at its end, just after its last response."""

    async def main() -> None:
        link = scripted()
        (await granted(link)).answered()  # type: ignore[attr-defined]
        assert link.say() == []  # other ends may follow
        woken = link.woken
        flushing = asyncio.create_task(link.lane.flush())
        await ready()
        assert link.woken > woken
        link.reply(link.say())
        await ready()
        assert flushing.done()

    run(main())


def test_session_that_ends_waits_a_second_for_its_reports() -> None:
    """Would leave slots to expire that could be free at once, or keep a program that ends waiting for Redis."""

    async def main() -> None:
        link = scripted()
        began = now()
        await link.lane.flush()
        assert now() == pytest.approx(began, abs=0.001)  # nothing to report
        early, late = [await granted(link) for _ in range(2)]
        early.answered()  # type: ignore[attr-defined]
        users = link.users
        flushing = asyncio.create_task(link.lane.flush())
        await ready()
        assert (link.users, link.lane.settled) == (users + 1, False)
        said = link.say()
        assert said
        late.answered()  # type: ignore[attr-defined]
        link.reply(said)
        await ready()
        assert not flushing.done()
        assert link.lane.speaks  # at once, as somebody waits
        link.reply(link.say())
        await ready()
        assert (flushing.done(), link.users, link.lane.settled) == (True, users, True)
        (await granted(link)).answered()  # type: ignore[attr-defined]
        began = now()
        await link.lane.flush()  # no reply comes
        assert now() - began == pytest.approx(GIVE_BACK_TIMEOUT, abs=0.01)
        assert (link.users, link.closed) == (users, 3)
        flushing = asyncio.create_task(link.lane.flush())
        await ready()
        flushing.cancel()
        await asyncio.wait({flushing})
        assert (link.users, link.closed) == (users, 4)
        link.trouble, began = "refused", now()
        await link.lane.flush()
        assert now() == pytest.approx(began, abs=0.001)

    run(main())


def test_other_terms_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """Would say nothing where two processes share a quota by different numbers, or say it with each reply."""

    async def main() -> None:
        caplog.set_level(logging.INFO, "recall_async")
        same, other = scripted(), scripted(Quota(20, 60.0, burst=10))
        await granted(same)
        assert not caplog.records
        for _ in range(2):
            await granted(other)
        (record,) = caplog.records
        assert "another process shares 10/60060000 requests/microseconds, this one 20/60060000" in record.getMessage()

    run(main())


def test_statistics_after_redis_has_forgotten() -> None:
    """Would show less than nothing as used, and more than the quota as free, after a flush."""

    async def main() -> None:
        link = scripted()
        (await granted(link, taken=1)).answered()  # type: ignore[attr-defined]
        await asyncio.sleep(30.0)
        link.reply(link.say())
        (await granted(link, taken=1)).answered()  # type: ignore[attr-defined]
        seen = link.lane.statistics()
        assert (seen.taken, seen.free) == (2, 8)
        await asyncio.sleep(31.0)  # the first one counts no more
        seen = link.lane.statistics()
        assert (seen.taken, seen.free) == (1, 9)

    run(main())


def test_statistics_tell_what_others_use_while_it_counts() -> None:
    """Would show a quota as free that others have used up, or as used long after that."""

    async def main() -> None:
        link = scripted()
        slot = await granted(link, taken=7)
        seen = link.lane.statistics()
        assert (seen.taken, seen.free, seen.in_flight, seen.quota) == (7, 3, 1, QUOTA)
        for taken in (10, 12):  # another process may have named a larger quota
            full = scripted()
            await granted(full, taken=taken)
            assert (full.lane.statistics().taken, full.lane.statistics().free) == (taken, 0)
        slot.answered()  # type: ignore[attr-defined]
        await asyncio.sleep(61.0)
        seen = link.lane.statistics()
        assert (seen.taken, seen.free, seen.in_flight, seen.paused, seen.pace) == (0, 10, 0, 0.0, None)
        waiting = [link.call(), link.call(Priority.BULK), link.call(Priority.BULK)]
        await ready()
        seen = link.lane.statistics()
        assert (seen.waiting_interactive, seen.waiting_bulk) == (1, 2)
        for call in waiting:
            call.cancel()
        assert seen.store_silent == 0.0

    run(main())


def test_lane_uses_its_link_while_a_session_is_open() -> None:
    """Would have the link closed under an open session, or kept open after the last; or leave an end unreported."""

    async def main() -> None:
        link = Scripted()
        assert link.users == 1
        link.lane.join(QUOTA)
        assert (link.users, link.lane._calls.queue.patience) == (1, QUOTA.per)
        link.lane.leave(None)
        assert (link.users, link.lane.in_use) == (1, True)
        (await granted(link)).answered()  # type: ignore[attr-defined]
        link.lane.leave(QUOTA)
        assert (link.users, link.lane.in_use) == (0, False)
        woken = link.woken
        link.lane.join(Quota(10, 30.0))
        assert (link.users, link.woken > woken, link.lane._calls.queue.patience) == (1, True, 30.0)

    run(main())
