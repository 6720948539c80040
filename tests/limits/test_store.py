"""Who shares a lane, whose quota it keeps to, and what one event loop learns from another."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
from collections.abc import Coroutine
from functools import partial
from random import Random
from typing import TypeVar

import pytest

from recall_async.errors import ConfigurationError, DeadlineExceededError
from recall_async.limits.contract import QuotaLane, Slot
from recall_async.limits.local import store as store_module
from recall_async.limits.local.lane import GRACE
from recall_async.limits.local.store import MAX_RESTING, LocalQuotaStore
from recall_async.limits.pace import CAUTION
from recall_async.limits.quota import Quota, base_quota
from tests.virtual_time import VirtualTimeLoop, run

T = TypeVar("T")

SCHEDULE, REMOVE = "calendar_events.schedule_bot", "calendar_events.remove_bot"


@pytest.fixture
def workspace(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses: what was sent in a workspace is remembered."""
    return str(request.node.nodeid)


def opened(workspace: str, quota: Quota | None = None, operation: str = SCHEDULE) -> QuotaLane:
    """The lane as a session opens it, each with a store of its own."""
    return LocalQuotaStore().open(workspace, operation, quota)


def test_one_lane_for_each_workspace_and_operation(workspace: str) -> None:
    """Would take a quota twice, or let operations or workspaces share one that have their own."""

    async def main() -> None:
        lane = opened(workspace)
        assert opened(workspace) is lane
        assert lane.quota == base_quota(SCHEDULE)
        assert len({id(lane), id(opened(workspace, operation=REMOVE)), id(opened(workspace + "'"))}) == 3

    run(main())


def test_who_names_a_quota_decides_for_who_names_none(workspace: str) -> None:
    """Would let a session without a word on quotas undo what another one was told, or be ignored for having come first."""

    async def main() -> None:
        silent = opened(workspace)
        named = opened(workspace, Quota(20, 60.0))
        assert silent.quota == named.quota == opened(workspace).quota == Quota(20, 60.0)
        assert opened(workspace, Quota(20, 60.0)).quota == Quota(20, 60.0)
        with pytest.raises(ConfigurationError, match=r"20.*30"):
            opened(workspace, Quota(30, 60.0))
        assert silent.quota == Quota(20, 60.0)

    run(main())


def test_base_value_named_is_kept_too(workspace: str) -> None:
    """Would take a quota that was named for one that was not, because it is the API's base value."""

    async def main() -> None:
        opened(workspace, base_quota(SCHEDULE))
        with pytest.raises(ConfigurationError):
            opened(workspace, Quota(30, 60.0))

    run(main())


def test_closed_sessions_have_no_say(workspace: str) -> None:
    """Would hold a program to a quota that nobody asks for any more."""

    async def main() -> None:
        lane = opened(workspace, Quota(20, 60.0))
        lane.leave(Quota(20, 60.0))
        assert opened(workspace).quota == base_quota(SCHEDULE)
        lane.leave(None)
        opened(workspace, Quota(20, 60.0))
        lane.leave(Quota(20, 60.0))
        assert opened(workspace, Quota(30, 60.0)).quota == Quota(30, 60.0)

    run(main())


def test_quota_ends_with_the_last_session_that_named_it(workspace: str) -> None:
    """Would leave a job's quota with the web backend beside it, or blame a session that was closed long ago."""

    async def main() -> None:
        job = Quota(600, 60.0, burst=600)
        web, first, second = opened(workspace), opened(workspace, job), opened(workspace, job)
        first.leave(job)
        assert web.quota == job
        second.leave(job)
        assert web.quota == base_quota(SCHEDULE)
        assert opened(workspace, Quota(30, 60.0)).quota == Quota(30, 60.0)

    run(main())


def test_another_quota_forgets_nothing_and_forgets_nobody(workspace: str) -> None:
    """Would forget what was sent when the quota is changed, or those who wait for it."""

    async def main() -> None:
        silent = opened(workspace)
        for _ in range(50):
            (await silent.admit()).answered()
        in_flight = await silent.admit()
        narrow = Quota(60, 60.0, burst=60)
        named = opened(workspace, narrow)
        statistics = named.statistics()
        assert (statistics.taken, statistics.free, statistics.in_flight) == (51, 9, 1)
        waiters = [asyncio.create_task(silent.admit()) for _ in range(20)]
        await asyncio.sleep(1)
        assert named.statistics().taken == 60
        named.leave(narrow)
        loop = asyncio.get_running_loop()
        now = loop.time()
        wider = opened(workspace, Quota(600, 60.0, burst=600))
        await asyncio.sleep(0.01)
        assert wider.statistics().taken == 71
        assert all(waiter.done() for waiter in waiters)
        assert loop.time() < now + 0.1
        in_flight.answered()
        for waiter in waiters:
            (await waiter).answered()
        assert wider.statistics().in_flight == 0

    run(main())


def test_next_loop_inherits(workspace: str) -> None:
    """Would let a program that calls `asyncio.run` again and again overrun the quota each time."""

    async def first() -> None:
        lane = opened(workspace, Quota(5, 60.0, burst=5))
        for _ in range(3):
            (await lane.admit()).answered()
        await lane.admit()  # and never told what became of it

    async def second() -> tuple[int, int]:
        lane = opened(workspace, Quota(5, 60.0, burst=5))
        before = lane.statistics().taken
        await asyncio.sleep(GRACE + 70)
        return before, lane.statistics().taken

    run(first(), start=1000.0)
    assert run(second(), start=1010.0) == (4, 0)


def test_next_loop_inherits_the_pause(workspace: str) -> None:
    """Would run into a pause again that the API has asked for."""

    async def first() -> None:
        lane = opened(workspace)
        slot = await lane.admit()
        slot.rejected(30)

    async def second() -> float:
        (await opened(workspace).admit()).answered()
        return asyncio.get_running_loop().time()

    run(first(), start=1000.0)
    # And the slower pace after it, which begins at a random moment.
    assert 1030.0 <= run(second(), start=1010.0) <= 1030.0 + CAUTION


def test_second_loop_at_once_is_told_once(workspace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Would let two threads overrun the quota together without a word, or log it at every call."""
    lanes = []

    async def here() -> None:
        lanes.append(opened(workspace))
        with caplog.at_level(logging.WARNING, "recall_async"):
            for _ in range(2):
                other = threading.Thread(target=run, args=(there(),))
                other.start()
                other.join()

    async def there() -> None:
        lanes.append(opened(workspace))
        lanes.append(opened(workspace, operation=REMOVE))

    run(here())
    (record,) = caplog.records
    assert "RedisQuotaStore" in record.getMessage()
    assert record.getMessage().startswith(f"workspace {workspace} is used in two event loops")
    assert lanes[1] is not lanes[0]


def test_loops_one_after_the_other_are_no_matter(workspace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Would warn of a second loop where there is only one at a time."""

    async def main() -> None:
        opened(workspace)

    run(main())
    run(main())
    assert caplog.records == []


FEW = Quota(5, 60.0, burst=5)


async def take(workspace: str, wanted: int, quota: Quota = FEW) -> int:
    """How many of so many calls are let through within a second, each answered at once."""
    lane, loop, taken = opened(workspace, quota), asyncio.get_running_loop(), 0
    for _ in range(wanted):
        with contextlib.suppress(DeadlineExceededError):
            (await lane.admit(until=loop.time() + 1)).answered()
            taken += 1
    lane.leave(quota)
    return taken


def test_shorter_quota_in_between_forgets_nothing(workspace: str) -> None:
    """Would forget what was sent in the last minute because a session named a quota of a second in between."""

    async def main() -> None:
        assert await take(workspace, 5) == 5
        await asyncio.sleep(2)
        assert await take(workspace, 1, Quota(1, 1.0)) == 1
        await asyncio.sleep(2)
        assert await take(workspace, 1, Quota(1, 1.0)) == 1
        assert await take(workspace, 5) == 0

    run(main())


def test_what_was_sent_in_small_windows_counts_in_the_one_of_the_api(workspace: str) -> None:
    """Would send a minute's worth at once after a minute of as many requests under a quota with a short window."""

    async def main() -> None:
        loop, small, sent = asyncio.get_running_loop(), Quota(10, 1.0, burst=10), list[float]()
        for quota, requests in ((small, 600), (None, 600)):
            lane = opened(workspace, quota)
            for _ in range(requests):
                slot = await lane.admit()
                sent.append(loop.time())
                slot.answered()
            lane.leave(quota)
        assert all(later - earlier >= 60.0 for earlier, later in zip(sent, sent[600:], strict=False))

    run(main())


def test_requests_in_flight_of_a_loop_that_was_closed_have_a_grace(workspace: str) -> None:
    """Would take requests for counted that are still on their way when their loop is closed, without being cancelled."""

    async def first() -> None:
        lane = opened(workspace, FEW)
        for _ in range(5):
            await lane.admit()

    loop = VirtualTimeLoop(1000.0)
    loop.run_until_complete(first())
    loop.close()
    assert run(take(workspace, 1), start=1061.0) == 0
    assert run(take(workspace, 5), start=1070.0 + 60 + GRACE) == 5


@pytest.mark.parametrize("close", [True, False])
def test_loops_that_have_ended_are_all_remembered(workspace: str, close: bool) -> None:
    """Would let each loop of a program take the whole quota, if none is closed, or all but the last if all are."""
    loops = [VirtualTimeLoop(1000.0 + number) for number in range(3)]
    try:
        assert [loop.run_until_complete(take(workspace, 2)) for loop in loops] == [2, 2, 1]
        loops[0]._now = 1005.0  # which runs again
        assert loops[0].run_until_complete(take(workspace, 1)) == 0
        if close:
            for loop in loops:
                loop.close()
        assert run(take(workspace, 1), start=1010.0) == 0
        assert run(take(workspace, 5), start=1070.0 + 60) == 5
    finally:
        for loop in loops:
            loop.close()


def test_two_overlapped_loops_that_were_closed_are_both_remembered(workspace: str) -> None:
    """Would remember only the last of two loops that used the quota at the same time."""

    async def outer() -> None:
        assert await take(workspace, 5) == 5
        inner = threading.Thread(target=run, args=(take(workspace, 0),), kwargs={"start": 1000.0})
        inner.start()
        inner.join()

    run(outer(), start=1000.0)
    assert run(take(workspace, 5), start=1010.0) == 0


def test_loops_in_turn_learn_of_each_other(workspace: str) -> None:
    """Would let each of two loops that stay open, and work in turn with one lane each, use the whole quota."""
    quota = Quota(5, 60.0)
    loops = [VirtualTimeLoop(), VirtualTimeLoop()]

    async def open_lane() -> QuotaLane:
        return opened(workspace, quota)

    async def admitted(lane: QuotaLane, *, at: float, answer: bool = True) -> bool:
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        try:
            slot = await lane.admit(until=at + 0.5)
        except DeadlineExceededError:
            return False
        if answer:
            slot.answered()
        return True

    lanes = [loop.run_until_complete(open_lane()) for loop in loops]
    granted = []
    for number in range(12):
        which = number % 2
        call = admitted(lanes[which], at=1001.0 + number, answer=number != 2)
        granted.append(loops[which].run_until_complete(call))
    assert granted == [True] * 5 + [False] * 7
    # Both have room again when the first window is over; the first still waits for the response of one request.
    again = [loops[n % 2].run_until_complete(admitted(lanes[n % 2], at=1200.0 + n)) for n in range(6)]
    assert again == [True, True, True, True, False, True]
    for loop in loops:
        loop.close()


@pytest.mark.parametrize("afresh", [False, True])
def test_loops_in_turn_learn_of_each_others_requests_in_flight(
    workspace: str, monkeypatch: pytest.MonkeyPatch, afresh: bool
) -> None:
    """Would take another loop's requests in flight for those that it had at the last look, and send as many too many."""
    monkeypatch.setattr(store_module, "MAX_RESTING", 0 if afresh else MAX_RESTING)
    quota, slots = Quota(5, 60.0), []
    ours, theirs = VirtualTimeLoop(), VirtualTimeLoop()

    async def send(number: int) -> None:
        lane = opened(workspace, quota)
        slots.extend([await lane.admit() for _ in range(number)])
        lane.leave(quota)

    async def answer() -> None:
        while slots:
            slots.pop().answered()

    async def free(at: float) -> int:
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        return await take(workspace, 9)

    async def later(at: float) -> None:
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        await send(3)

    theirs.run_until_complete(send(3))
    assert ours.run_until_complete(free(1001.0)) == 2
    theirs.run_until_complete(answer())
    theirs.run_until_complete(later(1300.0))
    assert ours.run_until_complete(free(1301.0)) == 2
    for loop in ours, theirs:
        loop.close()


@pytest.mark.parametrize("seed", range(30))
def test_any_turns_of_any_loops_keep_the_quota(workspace: str, seed: int) -> None:
    """Would let loops that work in turn, with requests in flight meanwhile, send more together than the quota."""
    chance, quota = Random(seed), Quota(6, 60.0, burst=6, reserve=0)
    loops = [VirtualTimeLoop() for _ in range(3)]
    in_flight: list[list[Slot]] = [[] for _ in loops]
    counted: list[float] = []  # when the server counted: at the response, but not later than the longest request takes

    async def turn(which: int, at: float) -> None:
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        slots, now = in_flight[which], asyncio.get_running_loop().time
        for _ in range(chance.randrange(len(slots) + 1)):
            slot = slots.pop(chance.randrange(len(slots)))
            slot.answered()
            counted.append(min(now(), slot.granted_at + GRACE))
        lane = opened(workspace, quota)
        for _ in range(chance.randrange(8)):
            with contextlib.suppress(DeadlineExceededError):
                slots.append(await lane.admit(until=now()))
        lane.leave(quota)

    at = 1000.0
    for _ in range(60):
        at += chance.choice([0.5, 5.0, 20.0, 70.0])
        which = chance.randrange(len(loops))
        loops[which].run_until_complete(turn(which, at))
    counted += [slot.granted_at + GRACE for slots in in_flight for slot in slots]
    for begin in counted:
        assert sum(begin <= moment < begin + 60.0 for moment in counted) <= 6
    assert len(counted) > 30
    for loop in loops:
        loop.close()


def test_absurd_pause_is_reported_and_can_be_ended(workspace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Would stop a fleet for decades, without a word or a remedy, for a Retry-After that no server can mean."""

    async def main() -> None:
        lane, store = opened(workspace), LocalQuotaStore()
        usual, absurd, again = [await lane.admit() for _ in range(3)]
        usual.rejected(3600.0)
        assert caplog.records == []
        absurd.rejected(1e9)
        again.rejected(1e9)
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert "resume" in record.getMessage()
        waiting = asyncio.create_task(opened(workspace).admit())
        await asyncio.sleep(1)
        assert not waiting.done()
        assert (await store.resume("another")) == {}
        with pytest.raises(ConfigurationError):
            await store.resume(workspace, "no.operation")
        ended = await store.resume(workspace, SCHEDULE)
        assert ended[SCHEDULE] == pytest.approx(1e9, rel=1e-6)
        (await waiting).answered()
        assert lane.statistics().pace is None

    run(main())


@pytest.mark.parametrize("closed", [True, False])
def test_pause_of_a_loop_that_does_not_run_can_be_ended(workspace: str, closed: bool) -> None:
    """Would find no pause to end in the next event loop, and pass it to the session that is opened there later."""

    async def refused() -> None:
        (await opened(workspace).admit()).rejected(1e9)

    async def resumed() -> None:
        assert await LocalQuotaStore().resume(workspace) == {SCHEDULE: pytest.approx(1e9, rel=1e-6)}
        (await opened(workspace).admit(until=asyncio.get_running_loop().time() + 1)).unused()

    with asyncio.Runner() as before:
        before.run(refused())
        if closed:
            before.close()
        asyncio.run(resumed())


def test_many_workspaces_one_after_the_other_leave_little(workspace: str) -> None:
    """Would keep a lane for every customer that a program ever worked for; or forget what was sent a moment ago."""

    async def main() -> None:
        for number in range(5000):
            assert await take(f"{workspace} {number}", 5) == 5
        assert len(store_module._registry.get().open) <= 2 * MAX_RESTING
        assert await take(f"{workspace} 0", 1) == 0
        await asyncio.sleep(61)
        assert await take(f"{workspace} 0", 5) == 5
        for number in range(5000):
            assert await take(f"{workspace} again {number}", 1) == 1
        assert len(store_module._memories) <= 6000

    run(main())


def test_dropped_lane_leaves_nothing_of_what_it_learned(workspace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would keep what was learned from another loop about each workspace, until that loop ends."""
    monkeypatch.setattr(store_module, "MAX_RESTING", 4)

    async def visit(first: int, wanted: int) -> int:
        return sum([await take(f"{workspace} {number}", wanted) for number in range(first, first + 4)])

    async def learned() -> int:
        lanes = store_module._registry.get().open.values()
        return sum(len(lane.exchange._learned) + len(lane.exchange._borrowed) for lane in lanes)

    one, another = VirtualTimeLoop(), VirtualTimeLoop()
    assert one.run_until_complete(visit(0, 3)) == 12
    assert another.run_until_complete(visit(0, 2)) == 8
    assert another.run_until_complete(learned()) >= 4
    assert another.run_until_complete(visit(4, 1)) == 4
    assert another.run_until_complete(learned()) == 0
    # What was forgotten is learned again, and each request counts once.
    assert another.run_until_complete(visit(0, 1)) == one.run_until_complete(visit(0, 1)) == 0
    for loop in one, another:
        loop.close()


def test_unused_lanes_are_freed_without_the_garbage_collector(workspace: str) -> None:
    """Would hold the event loop for a tenth of a second now and then, to collect the lanes that were dropped."""

    async def main() -> int:
        opened(workspace).leave(None)  # which drops what earlier loops left
        gc.collect()
        for number in range(3 * MAX_RESTING):
            lane = opened(f"{workspace} {number}")
            (await lane.admit()).answered()
            lane.leave(None)
            del lane
        return gc.collect()

    gc.disable()
    try:
        assert run(main()) < MAX_RESTING
    finally:
        gc.enable()


def test_loop_that_told_another_time_is_no_help(workspace: str) -> None:
    """Would take times of a clock that is ahead for ours, and hold a slot until that time comes."""
    assert run(take(workspace, 5), start=5000.0) == 5
    assert run(take(workspace, 5), start=1000.0) == 5


def test_requests_in_flight_of_other_loops_count_once(workspace: str) -> None:
    """Would count what is on its way in another loop anew at each look, or with each loop that has heard of it."""
    quota, slots = Quota(100, 60.0, burst=100), list[Slot]()
    loops = [VirtualTimeLoop() for _ in range(3)]

    async def taken(wanted: int) -> int:
        lane = opened(workspace, quota)
        slots.extend([await lane.admit() for _ in range(wanted)])
        return lane.statistics().taken

    async def answer(number: int) -> None:
        for _ in range(number):
            slots.pop().answered()

    clock = 1000.0

    def run_in(loop: VirtualTimeLoop, what: Coroutine[None, None, T]) -> T:
        """All loops show one time."""
        nonlocal clock
        loop._now = clock = clock + 0.01
        return loop.run_until_complete(what)

    one, two, three = (partial(run_in, loop) for loop in loops)
    assert one(taken(3)) == 3
    assert [two(taken(0)) for _ in range(3)] == [3, 3, 3]
    assert one(taken(2)) == 5
    assert (two(taken(0)), three(taken(0)), three(taken(0)), two(taken(0))) == (5, 5, 5, 5)
    assert one(taken(0)) == 5  # its own
    one(answer(2))
    # The response is a slot of its own, for nobody knows which of the five it was of.
    assert (one(taken(0)), two(taken(0)), three(taken(0))) == (5, 7, 7)
    assert (two(taken(0)), three(taken(0))) == (7, 7)
    assert three(taken(1)) == 8
    assert (one(taken(0)), two(taken(0))) == (6, 8)
    clock += GRACE + 61.0
    assert (one(taken(0)), two(taken(0)), three(taken(0))) == (3, 0, 1)
    for loop in loops:
        loop.close()


def test_forgotten_are_the_lanes_that_nobody_uses(workspace: str) -> None:
    """Would let one test of a suite use up the quota of the next, or take the lane of an open session away."""

    async def ended() -> None:
        assert await take(f"{workspace} closed", 5) == 5

    async def main() -> None:
        assert await take(f"{workspace} resting", 5) == 5
        lane = opened(f"{workspace} open", FEW)
        (await lane.admit()).answered()
        store_module.forget_unused()
        assert await take(f"{workspace} resting", 5) == 5
        assert await take(f"{workspace} closed", 5) == 5
        assert lane.statistics().taken == 1
        assert opened(f"{workspace} open") is lane

    run(ended())
    run(main())


def test_resumed_are_the_lanes_of_one_workspace(workspace: str) -> None:
    """Would end the pauses of all customers, name operations without a pause, or tell the wrong rest."""

    async def main() -> None:
        store = LocalQuotaStore()
        names = [(workspace, SCHEDULE, 30.0), (workspace, REMOVE, 40.0), (f"{workspace} other", SCHEDULE, 50.0)]
        lanes = [store.open(name, operation, None) for name, operation, _ in names]
        for lane, (_, _, seconds) in zip(lanes, names, strict=True):
            (await lane.admit()).rejected(seconds)
        await asyncio.sleep(10)
        assert await store.resume(workspace, SCHEDULE) == {SCHEDULE: pytest.approx(20.0, abs=1e-3)}
        assert [lane.statistics().paused > 0 for lane in lanes] == [False, True, True]
        assert await store.resume(workspace) == {REMOVE: pytest.approx(30.0, abs=1e-3)}
        assert [lane.statistics().paused > 0 for lane in lanes] == [False, False, True]
        assert await store.resume(workspace) == {}

    run(main())


def test_lanes_that_rest_are_dropped_from_the_oldest_on(workspace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would drop the lane that was used last, one that is open again, or forget what a dropped one has sent."""
    monkeypatch.setattr(store_module, "MAX_RESTING", 2)

    async def main() -> None:
        lanes = store_module._registry.get()
        for number in (0, 1, 0, 2):
            await take(f"{workspace} {number}", 1)
        assert [key[0][-1] for key in lanes.resting] == ["0", "2"]
        again = opened(f"{workspace} 0", FEW)
        assert [key[0][-1] for key in lanes.resting] == ["2"]
        await take(f"{workspace} 3", 1)
        await take(f"{workspace} 4", 1)
        assert [key[0][-1] for key in lanes.open] == ["0", "3", "4"]
        assert again.statistics().taken == 2
        assert opened(f"{workspace} 1", FEW).statistics().taken == 1

    run(main())


def test_closed_loops_are_forgotten_too(workspace: str) -> None:
    """Would let a test that ran in a loop of its own use up the quota of the next."""
    assert run(take(workspace, 5)) == 5
    store_module.forget_unused()
    assert run(take(workspace, 5)) == 5


def test_two_loops_with_a_workspace_each_are_no_matter(workspace: str, caplog: pytest.LogCaptureFixture) -> None:
    """Would warn of loops that share nothing."""

    async def here() -> None:
        opened(f"{workspace} here")
        other = threading.Thread(target=run, args=(there(),))
        other.start()
        other.join()

    async def there() -> None:
        opened(f"{workspace} there")

    run(here())
    assert caplog.records == []
