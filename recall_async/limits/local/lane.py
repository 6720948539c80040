"""A lane whose quota is kept in this process.

Three parts make it. The *window* guarantees the quota. The *token bucket* only smooths: it keeps a bulk job from
spending a minute's slots in a second. Of both, bulk calls leave a reserve to interactive ones. The *queue* says who goes
next, chosen at the moment a slot is there. On top lies the pause that a `429` asks for: a time that only moves forward,
so that nobody who finishes can lift it, and the `Pace` after it.

A lane has no task of its own. Whatever may let somebody go (a call that arrives, an answer, the timer set for the next
release) runs `_dispatch`, which never waits; so a cancelled caller leaves nothing half done.
"""

from __future__ import annotations

import asyncio
import math
import random
from bisect import bisect_left
from collections.abc import Callable

from aiolimiter import AsyncLimiter

from ...errors import DeadlineExceededError
from ..agreement import Agreement
from ..contract import Ending, LaneStatistics, Slot
from ..loops import clock_of
from ..pace import Pace
from ..queue import Ticket, WaitQueue
from ..quota import Priority, Quota
from ..sockets import MAX_IN_FLIGHT
from ..window import Window


class _Waiter:
    __slots__ = ("turn", "until")

    def __init__(self, turn: asyncio.Future[None], until: float) -> None:
        self.turn = turn
        self.until = until


class LocalLane:
    """The lane of one operation and workspace, for the callers of one event loop."""

    def __init__(self, operation: str, quota: Quota, *, jitter: Callable[[], float] = random.random) -> None:
        self._name = operation
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._now = clock_of(self._loop)
        self._queue: WaitQueue[_Waiter] = WaitQueue()
        self._deadlines: WaitQueue[Ticket[_Waiter]] = WaitQueue()  # of those who wait and have one, soonest first
        self._agreement = Agreement(operation, quota, self._configure)
        self._window = Window(quota.per)
        self._paused_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._admitted = self._throttled = self._retries = 0
        self._promised = 0  # tokens of calls whose turn has come and that have not run on yet
        self._configure(quota)

    @property
    def quota(self) -> Quota:
        return self._agreement.quota

    def join(self, quota: Quota | None) -> None:
        """A session uses the lane. Raises `ConfigurationError` when an open one named another quota."""
        self._agreement.join(quota)

    def leave(self, quota: Quota | None) -> None:
        self._agreement.leave(quota)

    def _configure(self, quota: Quota) -> None:
        """Keep to this quota from now on. What was sent is not forgotten."""
        self._quota = quota
        self._ceilings = {priority: quota.ceiling(priority) for priority in Priority}
        self._left = {priority: quota.spared(priority) for priority in Priority}
        self._window.per = Window(quota.per).per
        self._pace = Pace(quota.limit, quota.per)
        self._bucket = AsyncLimiter(quota.depth, quota.depth / quota.rate)
        self._dispatch()

    def inherit(self, earlier: LocalLane) -> None:
        """Remember what a lane sent whose event loop was closed, if both loops tell the same time."""
        now = self._now()
        if self._window.inherit(earlier._window, now):
            self._paused_until = max(self._paused_until, earlier._paused_until)

    async def admit(
        self,
        priority: Priority = Priority.INTERACTIVE,
        start: float = math.inf,
        until: float = math.inf,
        *,
        retry: bool = False,
    ) -> Slot:
        now = self._now()
        self._retries += retry
        if until != math.inf and (earliest := self._earliest(now, priority, start)) > until:
            raise self._too_late(earliest - now)
        if not self._queue and self._opens(now, priority) <= now:
            self._turn(now)
        else:
            await self._wait(priority, start, until)
            now = self._now()
        self._promised -= 1
        try:
            await self._bucket.acquire()  # its token was promised, so this does not wait
        except BaseException:
            self._unused()
            raise
        self._admitted += 1
        return Slot(self._end, now)

    async def _wait(self, priority: Priority, start: float, until: float) -> None:
        waiter = _Waiter(self._loop.create_future(), until)
        ticket = self._queue.push(priority, start, waiter)
        if self._queue.head() is ticket:  # else it is somebody else's turn first, and known when
            self._dispatch()
        timer = last_moment = None
        if until != math.inf:
            timer = self._loop.call_at(until, self._expire, ticket)
            last_moment = self._deadlines.push(Priority.INTERACTIVE, until, ticket)
        try:
            await waiter.turn
        except BaseException:
            if ticket.waits:
                self._leave(ticket)
            elif waiter.turn.done() and not waiter.turn.cancelled() and waiter.turn.exception() is None:
                self._promised -= 1  # cancelled between its turn and its running on
                self._unused()
            raise
        finally:
            if timer is not None and last_moment is not None:
                timer.cancel()
                self._deadlines.leave(last_moment)

    def _expire(self, ticket: Ticket[_Waiter]) -> None:
        if ticket.waits:
            self._leave(ticket)
            if not ticket.holder.turn.done():
                now = self._now()
                left = self._earliest(now, ticket.priority, math.inf) - now
                ticket.holder.turn.set_exception(self._too_late(left))

    def _leave(self, ticket: Ticket[_Waiter]) -> None:
        self._queue.leave(ticket)
        if not self._queue:
            self._wake_at(math.inf)

    def _too_late(self, wait: float) -> DeadlineExceededError:
        return DeadlineExceededError(
            f"the quota of {self._name} ({self._quota.limit} requests in {self._quota.per:g} s) has no slot before the "
            f"deadline: the next one is at least {max(wait, 0.0):.1f} s away. Allow a longer deadline, or send less.",
            retry_after=max(wait, 0.0),
        )

    def _earliest(self, now: float, priority: Priority, start: float) -> float:
        """A time before which a newcomer's turn cannot come."""
        ahead = self._queue.ahead(priority, start)
        tokens = ahead + 1 + self._promised + self._left[priority]
        smooth = now + (tokens - self._tokens()) / self._quota.rate
        window = self._window.earliest(now, self._ceilings[priority], ahead, self._quota.limit)
        return max(self._paused_until, self._pace.next, window, smooth)

    def _tokens(self) -> float:
        """What is in the bucket, rounded up by a 64th of a token."""
        parts = range(1, 64 * self._quota.depth + 1)
        return bisect_left(parts, True, key=lambda part: not self._bucket.has_capacity(part / 64)) / 64 + 1 / 64

    def _opens(self, now: float, priority: Priority) -> float:
        """When a call of this priority may go: `now`, or a time to look again, or `inf` to look at the next answer."""
        window = self._window
        if window.in_flight >= MAX_IN_FLIGHT:
            return math.inf
        opens = max(self._paused_until, self._pace.next, window.opens(now, self._ceilings[priority]))
        if opens > now:
            return opens
        bucket, spoken_for = self._bucket, self._promised + self._left[priority]
        if bucket.has_capacity(spoken_for + 1):
            return now
        there = bisect_left(range(64), True, key=lambda part: not bucket.has_capacity(spoken_for + part / 64))
        return now + (65 - there) / 64 / self._quota.rate

    def _turn(self, now: float) -> None:
        self._window.take()
        self._pace.admitted(now)
        self._promised += 1

    def _dispatch(self) -> None:
        """Let everybody go whose turn it is, and set the timer for the next."""
        while (ticket := self._queue.head()) is not None:
            now = self._now()
            opens = self._opens(now, ticket.priority)
            if opens > now:
                return self._wake_at(opens)
            self._queue.leave(ticket)
            if not ticket.holder.turn.done():
                self._turn(now)
                ticket.holder.turn.set_result(None)
        return self._wake_at(math.inf)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer_at <= when != math.inf:
                return  # it looks again in time
            self._timer.cancel()
            self._timer = None
        self._timer_at = when
        if when != math.inf:
            self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._dispatch()

    def _end(self, slot: Slot, ending: Ending, seconds: float) -> None:
        now = self._now()
        if ending is Ending.UNUSED:
            self._unused()
        elif ending is Ending.LOST:
            self._window.lost(now, seconds)
            self._comes_back(now + seconds)
        else:
            if ending is Ending.REJECTED:
                self._pause(slot, now, seconds)  # before the slot is released, which lets others go
            else:
                self._pace.accepted(now)
            self._window.answered(now)
            self._comes_back(now)

    def _comes_back(self, ended: float) -> None:
        """A slot does, `per` seconds after `ended`: news unless the timer looks before that."""
        if self._queue and ended + self._window.per < self._timer_at:
            self._dispatch()

    def _unused(self) -> None:
        self._window.unused()
        if self._queue:
            self._dispatch()

    def _pause(self, slot: Slot, now: float, seconds: float) -> None:
        self._throttled += 1
        self._paused_until = max(self._paused_until, now + seconds)
        self._pace.rejected(now, slot.granted_at, self._paused_until, self._jitter())
        while (soonest := self._deadlines.head()) is not None and soonest.holder.holder.until < self._paused_until:
            self._deadlines.leave(soonest)
            self._expire(soonest.holder)

    async def flush(self) -> None:
        """There is nobody to tell."""

    def statistics(self) -> LaneStatistics:
        now = self._now()
        taken = self._window.taken(now)
        rate = self._pace.rate(now)
        return LaneStatistics(
            quota=self._quota,
            taken=taken,
            free=max(0, self._quota.limit - taken),
            waiting_interactive=self._queue.waiting[Priority.INTERACTIVE],
            waiting_bulk=self._queue.waiting[Priority.BULK],
            in_flight=self._window.in_flight,
            admitted=self._admitted,
            throttled=self._throttled,
            retries=self._retries,
            paused=max(0.0, self._paused_until - now),
            pace=rate if rate != math.inf else None,
        )
