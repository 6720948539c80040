"""The whole lane in virtual time: arbitrary calls, networks, refusals and cancellations against what it promises."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async.errors import DeadlineExceededError
from recall_async.limits.contract import Slot
from recall_async.limits.local import lane as lane_module
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.queue import Ticket, WaitQueue
from recall_async.limits.quota import Priority, Quota
from recall_async.limits.waiting import WaitingCalls
from tests.virtual_time import VirtualTimeLoop, run

PER = 4.0
GRACE = 2.0
GRID = 1 / 8
BEGIN = 1000.0
HORIZON = 1000.0


@dataclass(frozen=True)
class Call:
    at: float
    priority: Priority
    start: float
    deadline: float
    outward: float
    back: float
    fate: str
    retry_after: int
    cancelled: float
    """Seconds after its arrival at which it is cancelled."""


def seconds(most: float) -> st.SearchStrategy[float]:
    return st.integers(0, int(most / GRID)).map(lambda steps: steps * GRID)


def calls(*, settled: bool = False) -> st.SearchStrategy[list[Call]]:
    """Scripts; in settled ones nobody gives up waiting, and no request goes that never leaves."""
    fates = ["answered"] * 3 + ["refused", "lost"] + ["unused"] * (not settled)
    never = st.just(math.inf)
    call = st.builds(
        Call,
        at=seconds(3 * PER),
        priority=st.sampled_from(Priority),
        start=st.sampled_from([math.inf, 1.0, 2.0]),
        deadline=never if settled else never | seconds(3 * PER),
        outward=seconds(PER),
        back=seconds(PER),
        fate=st.sampled_from(fates),
        retry_after=st.integers(0, 3),
        cancelled=never if settled else never | seconds(2 * PER),
    )
    return st.lists(call, max_size=25)


@st.composite
def quotas(draw: st.DrawFn) -> Quota:
    limit = draw(st.integers(1, 6))
    return Quota(limit, PER, draw(st.none() | st.integers(1, limit)), draw(st.none() | st.integers(0, limit - 1)))


Turn = asyncio.Future[Slot]


class WatchedQueue(WaitQueue[Turn]):
    """Knows the rank of everybody who waits, and of the one who left last."""

    def __init__(self) -> None:
        super().__init__()
        self.ranks: dict[Ticket[Turn], tuple[int, float, int]] = {}
        self.left = (len(Priority), 0.0, 0)
        self.arrivals = 0

    def push(
        self, priority: Priority, start: float, holder: Turn, arrived: float = 0.0, until: float = math.inf
    ) -> Ticket[Turn]:
        ticket = super().push(priority, start, holder, arrived, until)
        self.arrivals += 1
        self.ranks[ticket] = (priority, start, self.arrivals)
        return ticket

    def leave(self, ticket: Ticket[Turn]) -> None:
        super().leave(ticket)
        self.left = self.ranks.pop(ticket, self.left)


class WatchedCalls(WaitingCalls):
    """Checks that whoever gets a slot is the first of those who still want one."""

    def __init__(self, lane: WatchedLane) -> None:
        super().__init__(lane._deadline_error)
        self.queue = self._queue = WatchedQueue()

    def give(self, ticket: Ticket[Turn], slot: Slot) -> None:
        super().give(ticket, slot)
        alive = [rank for other, rank in self.queue.ranks.items() if not other.holder.done()]
        assert not alive or self.queue.left < min(alive)


class WatchedLane(LocalLane):
    """Checks every turn when it is given, and may cancel those who wait at that very moment."""

    def __init__(self, quota: Quota, cancel_at_turn: dict[int, int] | None = None) -> None:
        self.turns = 0
        self.waiting: list[asyncio.Task[None]] = []
        self._cancel_at_turn = cancel_at_turn or {}
        super().__init__("test", quota, jitter=lambda: 0.5)
        self._calls: WatchedCalls = WatchedCalls(self)
        loop = self._loop
        assert isinstance(loop, VirtualTimeLoop)
        loop.at_rest = self.check_nobody_is_forgotten

    def _take(self, now: float, priority: Priority) -> float:
        self._promise._roll(now)
        could = self.could_go(now, priority)
        opens = super()._take(now, priority)
        if opens <= now:
            assert could
            # The one whose turn it is comes first here, and has not run on yet when this is called.
            victim = self._cancel_at_turn.get(self.turns)
            self.turns += 1
            if victim is not None and victim < len(self.waiting):
                self._loop.call_soon(self.waiting[victim].cancel)
        return opens

    def could_go(self, now: float, priority: Priority) -> bool:
        """Whether there is a slot for a call of this priority, token aside, by the sentences of the documentation."""
        quota, per = self._quota, self._window.per
        places = lane_module.MAX_IN_FLIGHT
        if priority is Priority.BULK:
            places = lane_module.MAX_BULK_IN_FLIGHT
        if now < max(self._paused_until, self._pace.next) or self._window.in_flight >= places:
            return False
        answers = [answer for answer in self._window._answered if answer + per > now]
        held = self._window.in_flight + sum(lost + per > now for lost in self._window._lost)
        free = quota.limit - held - len(answers)
        if priority is Priority.INTERACTIVE:
            return free >= 1
        rho, kept = self._promise.rho, quota.reserved - 1e-6
        return (
            free - 1 >= quota.reserved
            and all(free - 1 + back >= kept + rho * (answer + per - now) for back, answer in enumerate(answers))
            and free - 1 + len(answers) >= kept + rho * quota.per
        )

    def check_nobody_is_forgotten(self) -> None:
        """At rest, whoever waits waits for something that will come, and could not go now, nor before it is looked at."""
        now = self._now()
        ticket = self._calls.next(now)
        if ticket is None:
            assert self._timer is None
            return
        priority = ticket.priority
        looks = math.inf if self._timer is None else self._timer.when()
        if looks == math.inf:
            assert self._window.in_flight
            return
        assert looks > now
        tokens = self._tokens.get(priority)
        token = now if tokens is None or tokens._kept else tokens.earliest(now, 1) + 1e-5
        for step in range(16):
            moment = now + (looks - now) * step / 16
            assert moment < token or not self.could_go(moment, priority)

    def check_nothing_is_left(self) -> None:
        loop = self._loop
        assert isinstance(loop, VirtualTimeLoop)
        statistics = self.statistics()
        assert (statistics.taken, statistics.in_flight, statistics.free) == (0, 0, self._quota.limit)
        assert sum(statistics.waiting.values()) == self._calls.queue.size == loop.timers() == 0
        assert statistics.admitted <= self.turns


@dataclass
class Record:
    """What became of one call."""

    admitted: float = math.inf
    failed: float = math.inf


async def make(lane: WatchedLane, spec: Call, begin: float, counted: list[float], record: Record) -> None:
    loop = asyncio.get_running_loop()
    await asyncio.sleep(begin + spec.at - loop.time())
    task = asyncio.current_task()
    assert task is not None
    if spec.cancelled != math.inf:
        loop.call_at(begin + spec.at + spec.cancelled, task.cancel)
    lane.waiting.append(task)
    deadline = begin + spec.at + spec.deadline
    try:
        slot = await lane.admit(spec.priority, start=spec.start, until=deadline)
    except DeadlineExceededError:
        record.failed = loop.time()
        assert record.failed <= deadline + 1e-5
        return
    finally:
        lane.waiting.remove(task)
    sent = record.admitted = loop.time()
    assert sent <= deadline + 1e-5
    try:
        await asyncio.sleep(spec.back if spec.fate in ("lost", "unused") else spec.outward + spec.back)
    except asyncio.CancelledError:
        counted.append(min(sent + spec.outward, loop.time() + GRACE))
        slot.lost(GRACE)
        raise
    if spec.fate == "unused":
        slot.unused()
    elif spec.fate == "lost":
        counted.append(min(sent + spec.outward, loop.time() + GRACE))
        slot.lost(GRACE)
    else:
        counted.append(sent + spec.outward)
        if spec.fate == "refused":
            slot.rejected(spec.retry_after)
        slot.answered()
    slot.unused()  # does nothing any more


def drive(script: list[Call], quota: Quota, cancel_at_turn: dict[int, int] | None = None) -> list[Record]:
    """What becomes of every call; what the lane promises is checked on the way."""
    records = [Record() for _ in script]

    async def main() -> None:
        lane, counted = WatchedLane(quota, cancel_at_turn), list[float]()
        begin = asyncio.get_running_loop().time()
        tasks = [
            asyncio.create_task(make(lane, spec, begin, counted, record))
            for spec, record in zip(script, records, strict=True)
        ]
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError), outcome
        counted.sort()
        for first, beyond in zip(counted, counted[quota.limit :], strict=False):
            assert beyond - first > PER
        await asyncio.sleep(HORIZON)
        lane.check_nothing_is_left()

    run(main(), start=BEGIN)
    return records


@settings(max_examples=200, deadline=None)
@given(calls(), quotas(), st.dictionaries(st.integers(0, 20), st.integers(0, 2)), st.sampled_from([2, 256]))
def test_lane_keeps_its_promises(
    script: list[Call], quota: Quota, cancel_at_turn: dict[int, int], most_in_flight: int
) -> None:
    """Would overrun the server, forget a waiter, break the order, go in a pause, or leak a slot, token or timer."""
    with (
        patch.object(lane_module, "MAX_IN_FLIGHT", most_in_flight),
        patch.object(lane_module, "MAX_BULK_IN_FLIGHT", most_in_flight - most_in_flight // 2),
    ):
        drive(script, quota, cancel_at_turn)


@settings(max_examples=200, deadline=None)
@given(calls(settled=True).filter(bool), quotas(), st.integers(0, 24), seconds(3 * PER))
def test_who_fails_at_once_would_have_been_too_late(
    script: list[Call], quota: Quota, number: int, deadline: float
) -> None:
    """Would give up on a call whose deadline could have been kept."""
    number %= len(script)
    hurried = [*script]
    hurried[number] = replace(script[number], deadline=deadline)
    asked = BEGIN + script[number].at
    if drive(hurried, quota)[number].failed < asked + 1e-3:
        assert drive(script, quota)[number].admitted > asked + deadline
