"""What every quota store promises, held against the one in this process and the one in Redis, in real time: Redis has a
clock of its own, which no test can move.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random

import pytest

from recall_async import ConfigurationError, DeadlineExceededError, Priority, Quota
from recall_async.limits.contract import QuotaLane, QuotaStore, Slot
from recall_async.limits.local.store import LocalQuotaStore
from recall_async.limits.pace import DOUBT
from recall_async.limits.redis import RedisQuotaStore
from tests.redis.server import RedisProcess
from tests.simulation import Server, call

SCHEDULE = "calendar_events.schedule_bot"
REMOVE = "calendar_events.remove_bot"
_names = itertools.count()

OpenLane = Callable[[Quota], QuotaLane]


@pytest.fixture(params=["local", "redis"])
async def store(request: pytest.FixtureRequest, shared_redis: RedisProcess, prefix: str) -> AsyncIterator[QuotaStore]:
    store: QuotaStore = LocalQuotaStore()
    if request.param == "redis":
        store = RedisQuotaStore.from_url(shared_redis.url, prefix=prefix)
    yield store
    await store.aclose()


@pytest.fixture
async def open_lane(store: QuotaStore) -> AsyncIterator[OpenLane]:
    """Opens lanes as sessions do, and closes them; nothing may be left then."""
    lanes: list[QuotaLane] = []

    def open_one(quota: Quota) -> QuotaLane:
        lane = store.open(f"workspace{next(_names)}", SCHEDULE, quota)
        lanes.append(lane)
        return lane

    before = asyncio.all_tasks()
    yield open_one
    for lane in lanes:
        lane.leave(lane.quota)
    await asyncio.gather(*(lane.flush() for lane in lanes))
    for lane in lanes:
        assert sum(lane.statistics().waiting.values()) == 0
    assert asyncio.all_tasks() <= before | {asyncio.current_task()}


async def answered(lane: QuotaLane, priority: Priority = Priority.INTERACTIVE) -> None:
    (await lane.admit(priority)).answered()


async def cancel(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def at_rest(waiting: Awaitable[object]) -> bool:
    """Whether something still waits after a while."""
    task = asyncio.ensure_future(waiting)
    done, _ = await asyncio.wait({task}, timeout=0.15)
    await cancel(task)
    return not done


async def test_no_window_of_the_server_is_overrun(open_lane: OpenLane) -> None:
    """Would earn a 429 without anybody else's doing."""
    lane, server = open_lane(Quota(20, 0.5, burst=20)), Server(20, 0.5, Random(1), delay=0.05)
    async with asyncio.TaskGroup() as calls:
        for number in range(60):
            calls.create_task(call(lane, server, Priority(number % 2)))
    assert (len(server.accepted), len(server.rejected)) == (60, 0)


async def test_slot_comes_back_a_window_after_the_answer(open_lane: OpenLane) -> None:
    """Would let it go when it was taken, which a slow answer makes too early."""
    loop, lane = asyncio.get_running_loop(), open_lane(Quota(1, 0.4))
    slot = await lane.admit()
    assert await at_rest(lane.admit())
    await asyncio.sleep(0.4)
    assert await at_rest(lane.admit())
    now = loop.time()
    slot.answered()
    await answered(lane)
    assert loop.time() - now >= 0.4


async def test_unused_slot_comes_back_at_once(open_lane: OpenLane) -> None:
    """Would waste quota on requests that never left."""
    lane = open_lane(Quota(2, 60.0, burst=2))
    first, second = await lane.admit(), await lane.admit()
    waiter = asyncio.create_task(lane.admit(until=asyncio.get_running_loop().time() + 59))
    await asyncio.sleep(0)
    second.unused()
    # The token is spent all the same, in both stores: what comes back is the slot.
    assert lane.statistics().in_flight == 1
    first.unused()
    assert lane.statistics().in_flight == 0
    await cancel(waiter)


async def test_lost_slot_stays_taken(open_lane: OpenLane) -> None:
    """Would send another request in place of one that the server may count yet."""
    lane = open_lane(Quota(2, 0.3, burst=2))
    slot = await lane.admit()
    slot.lost(60.0)
    await answered(lane)
    await asyncio.sleep(0.4)
    await answered(lane)
    assert await at_rest(lane.admit())
    assert lane.statistics().taken == 2
    assert lane.statistics().in_flight == 0


async def test_only_the_first_end_of_a_slot_counts(open_lane: OpenLane) -> None:
    """Would give a slot back twice, and so hand out one too many."""
    lane = open_lane(Quota(2, 60.0, burst=2))
    slot = await lane.admit()
    slot.answered()
    slot.unused()
    slot.lost(1.0)
    slot.answered()
    (await lane.admit()).answered()
    assert await at_rest(lane.admit())


async def test_burst_goes_at_once_and_the_rest_at_the_pace(open_lane: OpenLane) -> None:
    """Would spend a minute's quota in a second, or be slower than it may."""
    lane, loop = open_lane(Quota(20, 20.0, burst=4)), asyncio.get_running_loop()
    now = loop.time()
    for _ in range(4):
        await answered(lane)
    at_once = loop.time() - now
    for _ in range(2):
        await answered(lane)
    assert at_once < 1.0 < 1.9 < loop.time() - now < 4.0


async def test_bulk_leaves_the_reserve(open_lane: OpenLane) -> None:
    """Would leave nothing to people while a job runs."""
    lane = open_lane(Quota(10, 60.0, burst=10, reserve=3))
    for _ in range(7):
        await answered(lane, Priority.BULK)
    assert await at_rest(lane.admit(Priority.BULK))
    for _ in range(3):
        await answered(lane)
    assert await at_rest(lane.admit())


async def test_order_is_priority_then_start_then_arrival(open_lane: OpenLane) -> None:
    """Would serve a bulk job before people, or a meeting next week before one in ten minutes."""
    lane, order = open_lane(Quota(30, 0.6, burst=1, reserve=0)), list[str]()
    await answered(lane)

    async def one(name: str, priority: Priority, start: float) -> None:
        slot = await lane.admit(priority, start=start)
        order.append(name)
        slot.answered()

    async with asyncio.TaskGroup() as calls:
        for name, priority, start in (
            ("bulk, late", Priority.BULK, 9.0),
            ("bulk, soon", Priority.BULK, 1.0),
            ("first", Priority.INTERACTIVE, 5.0),
            ("second", Priority.INTERACTIVE, 5.0),
            ("soon", Priority.INTERACTIVE, 2.0),
        ):
            calls.create_task(one(name, priority, start))
            await asyncio.sleep(0)
    assert order == ["soon", "first", "second", "bulk, soon", "bulk, late"]


async def test_cancelled_waiter_costs_nothing(open_lane: OpenLane) -> None:
    """Would leak a slot, or leave those behind a cancelled call stuck."""
    lane = open_lane(Quota(4, 0.4, burst=4))
    for _ in range(4):
        await answered(lane)
    waiters = [asyncio.create_task(answered(lane)) for _ in range(6)]
    await asyncio.sleep(0.05)
    for waiter in waiters[:3]:
        waiter.cancel()
    done, _ = await asyncio.wait(waiters, timeout=5)
    assert [waiter.cancelled() for waiter in waiters] == [True] * 3 + [False] * 3
    assert len(done) == 6
    assert lane.statistics().admitted == 7


async def test_cancelled_at_its_turn_gives_the_slot_back(open_lane: OpenLane) -> None:
    """Would lose the slot of a call that was cancelled when it had just got it."""
    lane = open_lane(Quota(1, 60.0))
    slot: asyncio.Task[Slot] = asyncio.create_task(lane.admit())
    while lane.statistics().in_flight == 0:  # noqa: ASYNC110 - the very iteration counts
        await asyncio.sleep(0)
    await cancel(slot)
    if slot.cancelled():
        assert lane.statistics().in_flight == 0
    else:
        slot.result().unused()


async def test_hopeless_deadline_fails_at_once(open_lane: OpenLane) -> None:
    """Would keep a caller waiting for what cannot come."""
    lane, loop = open_lane(Quota(2, 30.0, burst=2)), asyncio.get_running_loop()
    await answered(lane)
    await answered(lane)
    patient = None
    for _ in range(2):  # with nobody waiting, and behind somebody
        now = loop.time()
        with pytest.raises(DeadlineExceededError) as caught:
            await lane.admit(until=now + 20)
        assert loop.time() - now < 5
        assert caught.value.retry_after == pytest.approx(30, abs=5)
        if patient is None:
            patient = asyncio.create_task(lane.admit())
            await asyncio.sleep(0.05)
    assert patient is not None
    await cancel(patient)


@pytest.mark.parametrize("lost", [1, 2])
async def test_lost_requests_make_a_deadline_hopeless(open_lane: OpenLane, lost: int) -> None:
    """Would keep a caller waiting for its whole deadline, though no slot of an outage is freed before."""
    lane, loop = open_lane(Quota(2, 30.0, burst=2)), asyncio.get_running_loop()
    slots = [await lane.admit() for _ in range(2)]
    for slot in slots[:lost]:
        slot.lost(0.5)
    for slot in slots[lost:]:
        slot.answered()
    now = loop.time()
    with pytest.raises(DeadlineExceededError) as caught:
        await lane.admit(until=now + 20)
    assert loop.time() - now < 5
    assert (caught.value.retry_after or 0) > 20


async def test_deadline_is_kept(open_lane: OpenLane) -> None:
    """Would make a call wait on when others were faster."""
    lane, loop = open_lane(Quota(10, 10.0, burst=1)), asyncio.get_running_loop()
    await answered(lane)
    ahead = [asyncio.create_task(answered(lane)) for _ in range(3)]
    await asyncio.sleep(0.05)
    now = loop.time()
    with pytest.raises(DeadlineExceededError):
        await lane.admit(Priority.BULK, start=1.0, until=now + 0.3)
    assert loop.time() - now < 2
    await cancel(*ahead)


async def test_pause_holds_everybody_and_only_moves_forward(open_lane: OpenLane) -> None:
    """Would go on while the server asks for silence, or let a shorter pause end a longer one."""
    lane, loop = open_lane(Quota(10, 0.5, burst=10)), asyncio.get_running_loop()
    slots = [await lane.admit() for _ in range(3)]
    now = loop.time()
    slots[0].rejected(2.0)
    slots[1].rejected(0.1)
    slots[2].answered()
    assert lane.statistics().paused >= now + 2.0 - loop.time()
    with pytest.raises(DeadlineExceededError):
        await lane.admit(until=now + 1.9)
    assert loop.time() - now < 1.7
    await answered(lane)
    assert loop.time() - now >= 2.0
    assert lane.statistics().throttled == 2


async def test_pause_fails_those_it_makes_too_late(open_lane: OpenLane) -> None:
    """Would let a call wait out a pause that ends after its deadline."""
    lane, loop = open_lane(Quota(2, 1.0, burst=2)), asyncio.get_running_loop()
    slot = await lane.admit()
    await answered(lane)
    waiter = asyncio.create_task(lane.admit(until=loop.time() + 5))
    await asyncio.sleep(0.05)
    slot.rejected(30)
    with pytest.raises(DeadlineExceededError):
        await asyncio.wait_for(waiter, 2)


async def test_pace_is_reduced_after_a_429_and_grows_back(open_lane: OpenLane) -> None:
    """Would run into the next 429 as soon as the pause is over, or crawl for ever."""
    lane, loop = open_lane(Quota(40, 0.4, burst=40)), asyncio.get_running_loop()
    answers = []
    for _ in range(12):
        await answered(lane)
        answers.append(loop.time())
        await asyncio.sleep(0.04)
    slot = await lane.admit()
    slot.rejected(0.05)
    begin = loop.time()
    granted = sum(at > begin - 0.4 for at in answers)  # some ten, fewer on a busy machine
    paces = []
    while loop.time() < begin + 5:
        await answered(lane)
        if (pace := lane.statistics().pace) is None:
            break
        paces.append(pace)
    assert paces[0] == pytest.approx((granted - DOUBT * granted**0.5) / 0.4, rel=0.25)
    assert paces == sorted(paces)
    assert lane.statistics().pace is None


async def test_statistics_count(open_lane: OpenLane) -> None:
    """Would mislead whoever watches the quota."""
    lane = open_lane(Quota(3, 0.5, burst=3))
    slots = [await lane.admit(), await lane.admit()]
    (await lane.admit(retry=True)).answered()
    waiter = asyncio.create_task(lane.admit(Priority.BULK))
    await asyncio.sleep(0.05)
    now = lane.statistics()
    assert (now.quota, now.taken, now.free, now.in_flight) == (Quota(3, 0.5, burst=3), 3, 0, 2)
    assert (now.admitted, now.throttled, now.retries) == (3, 0, 1)
    assert now.waiting == {Priority.INTERACTIVE: 0, Priority.BULK: 1}
    await cancel(waiter)
    for slot in slots:
        slot.answered()
    await asyncio.sleep(0.6)
    now = lane.statistics()
    assert (now.taken, now.free, now.in_flight, now.waiting_bulk) == (0, 3, 0, 0)


async def test_sessions_agree_on_a_quota(store: QuotaStore) -> None:
    """Would let two sessions of one workspace go by different limits."""
    workspace = f"workspace{next(_names)}"
    lane = store.open(workspace, SCHEDULE, None)
    assert lane.quota == Quota(600, 60.0)
    assert store.open(workspace, SCHEDULE, Quota(5, 1.0)) is lane
    assert lane.quota == Quota(5, 1.0)
    assert store.open(workspace, SCHEDULE, None).quota == Quota(5, 1.0)
    assert store.open(workspace, REMOVE, None) is not lane
    with pytest.raises(ConfigurationError, match="another open session"):
        store.open(workspace, SCHEDULE, Quota(6, 1.0))
    lane.leave(Quota(5, 1.0))
    assert lane.quota == Quota(600, 60.0)
    assert store.open(workspace, SCHEDULE, Quota(6, 1.0)).quota == Quota(6, 1.0)


async def test_interactive_calls_hardly_wait_for_a_bulk_job(open_lane: OpenLane) -> None:
    """Would put a person behind the thousands of a job."""
    lane, loop = open_lane(Quota(60, 3.0)), asyncio.get_running_loop()

    async def bulk() -> None:
        while True:
            await answered(lane, Priority.BULK)

    jobs = [asyncio.create_task(bulk()) for _ in range(32)]
    waits = []
    for _ in range(12):
        await asyncio.sleep(0.1)
        now = loop.time()
        await answered(lane)
        waits.append(loop.time() - now)
    await cancel(*jobs)
    # A token every 0.05 s; a lottery among 32 waiters would take a second and more.
    assert sorted(waits)[-3] < 0.2
