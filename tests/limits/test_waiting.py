"""The calls that wait in one event loop: who gets a slot, who fails, and when the lane is told to look again."""

from __future__ import annotations

import asyncio
import math

import pytest

from recall_async.errors import DeadlineExceededError, QuotaStoreUnavailableError
from recall_async.limits.contract import Ending, Slot
from recall_async.limits.quota import Priority
from recall_async.limits.waiting import WaitingCalls
from tests.virtual_time import run

BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE


class Lane:
    """Counts how often it is told to look, and how slots end."""

    def __init__(self) -> None:
        self.calls = WaitingCalls(lambda priority: DeadlineExceededError(priority.name))
        self.looks = 0
        self.ended: list[Ending] = []

    def look(self) -> None:
        self.looks += 1

    def slot(self) -> Slot:
        return Slot(lambda slot, ending, seconds: self.ended.append(ending), 0.0)

    def wait(self, priority: Priority, start: float = math.inf, until: float = math.inf) -> asyncio.Task[Slot]:
        return asyncio.create_task(self.calls.wait(priority, start, until, self.look))


def test_slots_go_to_calls_of_their_priority() -> None:
    """Would give a slot of the reserve to a bulk call, keep one that somebody waits for, or give one twice."""

    async def main() -> None:
        lane = Lane()
        assert lane.calls.serve(lane.slot()) is False
        bulk = lane.wait(BULK)
        await asyncio.sleep(0)
        assert lane.calls.serve(lane.slot(), INTERACTIVE) is False
        interactive = lane.wait(INTERACTIVE)
        await asyncio.sleep(0)
        first, second = lane.slot(), lane.slot()
        assert lane.calls.serve(first, INTERACTIVE) is True
        assert lane.calls.queue.size == 1
        assert lane.calls.serve(second) is True
        assert (await interactive, await bulk) == (first, second)
        assert lane.calls.queue.size == 0
        assert lane.ended == []

    run(main())


def test_all_waiting_calls_fail_with_errors_of_their_own() -> None:
    """Would leave calls waiting for a store that refuses, or let one call's details appear in another's error."""

    async def main() -> None:
        lane = Lane()
        waiting = [lane.wait(priority) for priority in (BULK, INTERACTIVE, BULK)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        lane.calls.fail(QuotaStoreUnavailableError("refused"))
        assert lane.calls.queue.size == 0
        cancelled, *failed = await asyncio.gather(*waiting, return_exceptions=True)
        assert isinstance(cancelled, asyncio.CancelledError)
        assert [(type(error), str(error)) for error in failed] == [(QuotaStoreUnavailableError, "refused")] * 2
        assert failed[0] is not failed[1]

    run(main())


def test_the_lane_looks_when_the_next_call_changes() -> None:
    """Would let a timer for a call that has left keep the others waiting, or look at every call that queues."""

    async def main() -> None:
        lane = Lane()
        first, second, third = (lane.wait(INTERACTIVE, start) for start in (5.0, 9.0, math.inf))
        await asyncio.sleep(0)
        assert lane.looks == 1
        soon = lane.wait(INTERACTIVE, 1.0)
        await asyncio.sleep(0)
        assert lane.looks == 2
        assert lane.calls.next(0.0) is not None
        for call, looks in ((third, 2), (soon, 3), (second, 3), (first, 4)):
            call.cancel()
            await asyncio.wait({call})
            assert lane.looks == looks, call
        assert lane.calls.next(0.0) is None

    run(main())


def test_deadline_is_kept_to_the_moment() -> None:
    """Would fail a call whose slot comes at its deadline, or use a slot that came too late."""

    async def main() -> None:
        lane, now = Lane(), asyncio.get_running_loop().time()
        waiting = lane.wait(INTERACTIVE, until=now + 5.0)
        await asyncio.sleep(0)
        assert lane.calls.next(now + 5.0) is not None
        assert lane.calls.next(now + 5.1) is None
        with pytest.raises(DeadlineExceededError, match="INTERACTIVE"):
            await waiting
        assert asyncio.get_running_loop().time() < now + 1.0

    run(main())
