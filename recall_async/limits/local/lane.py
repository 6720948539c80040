"""A lane whose quota is stored in this process.

The *window* guarantees the quota. The *promise* keeps slots free for interactive calls while bulk calls run, and the
*token bucket* limits how many calls are sent at once. The *waiting calls* determine which call gets the next free
slot. A `429` adds a pause, a time that only moves forward, so that no finished request can end it early, and then the
slower `Pace`.

A lane has no task of its own. Each event that may admit a call (a new call, a response, the timer for the next slot
or token) runs `_dispatch`, which never waits. So a cancelled call leaves no partial state.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable

from ...errors import DeadlineExceededError
from ...operations import QUOTA_PERIOD
from ..agreement import Agreement
from ..contract import Ending, LaneStatistics, Slot
from ..loops import Turns, clock_of
from ..pace import Pace, report_pause
from ..promise import Promise
from ..quota import Priority, Quota
from ..sockets import MAX_BULK_IN_FLIGHT, MAX_IN_FLIGHT
from ..waiting import WaitingCalls
from ..weakly import weakly
from ..window import Window
from .memory import Exchange, Memory
from .tokens import Tokens

GRACE = 60.0
"""Seconds for which the server may still count requests of a loop that ended: by default, the longest request."""


class LocalLane:
    """The lane of one operation and workspace, for one event loop."""

    def __init__(
        self,
        operation: str,
        quota: Quota,
        *,
        jitter: Callable[[], float] = random.random,
        on_rest: Callable[[], None] = lambda: None,
        owner: object = None,
        turns: Turns | None = None,
        on_turn: Callable[[LocalLane], None] = lambda lane: None,
    ) -> None:
        self._name = operation
        self._on_rest = on_rest
        # Other loops of this process may have sent requests since this one last did.
        self._owner, self._turns, self._on_turn = owner, turns or Turns(), on_turn
        self._turn = 0
        self._jitter = jitter
        self._loop = asyncio.get_running_loop()
        self._now = clock_of(self._loop)
        self._agreement = Agreement(operation, quota, weakly(self._configure))
        self._calls = WaitingCalls(weakly(self._deadline_error))
        # A quota with a shorter window than the API's own may be followed by the API's own.
        self._window = Window(quota.per, remember=QUOTA_PERIOD)
        self._pace = Pace(quota.limit, quota.per)
        self._promise = Promise(self._window, quota)
        self._tokens: dict[Priority, Tokens] = {}
        self._paused_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._no_token_until = -math.inf  # for calls of any priority
        self._admitted = self._throttled = self._retries = 0
        self.exchange: Exchange = Exchange()
        self._grace = GRACE
        self._configure(quota)

    @property
    def quota(self) -> Quota:
        return self._agreement.quota

    def join(self, quota: Quota | None) -> None:
        """Add a session. Raises `ConfigurationError` if an open session named another quota."""
        self._agreement.join(quota)

    def leave(self, quota: Quota | None) -> None:
        self._agreement.leave(quota)
        self._rest()

    def _configure(self, quota: Quota) -> None:
        """Use this quota from now on. Earlier requests still count."""
        self._quota = quota
        self._calls.queue.patience = quota.per
        self._window.configure(quota.per)
        self._pace.configure(quota.limit, quota.per)
        self._promise.configure(quota)
        if quota.burst is None:
            # For interactive calls, the window is always the tighter bound.
            self._tokens = {Priority.BULK: Tokens(quota.at_once(Priority.BULK), quota.rate)}
        else:
            self._tokens = dict.fromkeys(Priority, Tokens(quota.burst, quota.rate))
        self._no_token_until = -math.inf
        self._dispatch()

    def now(self) -> float:
        """Return the time of the lane's clock."""
        return self._now()

    def memory(self) -> Memory:
        """Return the state to keep while no session uses the lane."""
        now = self._now()
        self._window.taken(now)
        slowed = self._pace.rate(now) != math.inf
        return Memory(self._window.record(), self._paused_until, self._pace if slowed else None, self._grace)

    def learn(self, other: LocalLane) -> None:
        """Count what the lane of a loop that does not run has sent since the last time."""
        now, memory = self._now(), other.memory()
        other.exchange.tell(memory.window.in_flight, other.now())
        memory = memory._replace(grace=max(self._grace, memory.grace))
        if memory.foreign(now):
            return
        news = self.exchange.learn(other.exchange, memory, now)
        if news is not None:
            self.recall(news, now)

    def recall(self, memory: Memory, now: float) -> None:
        """Count what another lane of this operation and workspace sent, in a loop that does not run."""
        if memory.foreign(now):
            return
        self._grace = max(self._grace, memory.grace)
        self._window.restore(memory.window, now, self._grace)
        self._paused_until = max(self._paused_until, memory.paused_until)
        if memory.pace is not None:
            self._pace = memory.pace
            self._pace.configure(self._quota.limit, self._quota.per)
        self._promise.configure(self._quota)

    @property
    def in_use(self) -> bool:
        """True if there is an open session or a request in flight."""
        return self._agreement.sessions > 0 or self._window.in_flight > 0 or self._calls.queue.size > 0

    def resume(self) -> float:
        """End the pause and the slower pace after a 429. Return the remaining seconds of the pause."""
        now = self._now()
        left = max(0.0, self._paused_until - now)
        self._paused_until = -math.inf
        self._pace = Pace(self._quota.limit, self._quota.per)
        self._dispatch()
        return left

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
        if until != math.inf and self._earliest(now, priority, start) > until:
            raise self._deadline_error(priority, start)
        if priority is Priority.INTERACTIVE:
            self._promise.wanted(now)
        if self._calls.queue.size:
            slot = await self._calls.wait(priority, start, until, self._dispatch)
        elif (opens := self._take(now, priority)) > now:
            self._wake_at(opens)
            slot = await self._calls.wait(priority, start, until, self._dispatch, looked=True)
        else:
            slot = Slot(self._end, now, number=priority)
        self._admitted += 1
        return slot

    def _deadline_error(self, priority: Priority, start: float = math.inf) -> DeadlineExceededError:
        now = self._now()
        wait = max(self._earliest(now, priority, start) - now, 0.0)
        away = f": the next one is at least {wait:.1f} s away" if wait else ""
        return DeadlineExceededError(
            f"the quota of {self._name} ({self._quota.limit} requests in {self._quota.per:g} s) has no slot before the "
            f"deadline{away}. Allow a longer deadline, or send less.",
            retry_after=wait or 1 / self._quota.rate,
        )

    def _earliest(self, now: float, priority: Priority, start: float) -> float:
        """Return a time before which a new call cannot be admitted."""
        quota, ahead = self._quota, self._calls.queue.ahead(priority, start)
        earliest = max(now, self._paused_until, self._pace.next)
        if priority is Priority.INTERACTIVE:
            earliest = max(earliest, self._window.earliest(now, quota.limit, ahead, quota.limit))
        else:
            ceiling = quota.limit - quota.reserved
            earliest = max(earliest, self._window.earliest(now, ceiling, ahead, quota.limit))
            earliest = max(earliest, self._promise.earliest(now, ahead))
        if quota.burst is not None:
            earliest = max(earliest, self._tokens[priority].earliest(now, ahead + 1))
        return earliest

    def _take(self, now: float, priority: Priority) -> float:
        """Take a slot and a token for a call of this priority, and return `now`.

        If there is none, return a time to try again, or `inf` to wait for a response.
        """
        turns = self._turns
        if turns.last is not self._owner or turns.count != self._turn:
            self._turn = turns.take(self._owner)
            self._on_turn(self)
        window = self._window
        if priority is Priority.INTERACTIVE:
            if window.in_flight >= MAX_IN_FLIGHT:
                return math.inf
            opens = window.opens(now, self._quota.limit)
        else:
            if window.in_flight >= min(MAX_BULK_IN_FLIGHT, self._promise.places(now)):
                return math.inf
            opens = self._promise.opens(now)
        opens = max(opens, self._paused_until, self._pace.next)
        if opens > now:
            return opens
        tokens = self._tokens.get(priority)
        if tokens is not None and (opens := tokens.take(now)) > now:
            if self._quota.burst is not None:
                self._no_token_until = opens
            return opens
        window.take()
        self._pace.admitted(now)
        return now

    def _dispatch(self) -> None:
        """Admit every call that can be admitted now, and set the timer for the next one."""
        calls, now = self._calls, self._now()
        while (ticket := calls.next(now)) is not None:
            opens = self._take(now, ticket.priority)
            if opens > now:
                return self._wake_at(opens)
            calls.give(ticket, Slot(self._end, now, number=ticket.priority))
            now = self._now()
        return self._wake_at(math.inf)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer_at <= when != math.inf:
                return  # the timer that is set fires early enough
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
        if slot.granted_at <= self.exchange.told_at:
            self.exchange.ended(slot.granted_at)
        if ending is Ending.UNUSED:
            self._window.unused()
            if (tokens := self._tokens.get(Priority(slot.number))) is not None:
                tokens.give_back()
                self._no_token_until = -math.inf
        elif ending is Ending.LOST:
            self._grace = max(self._grace, seconds)
            self._window.lost(now, seconds)
        else:
            if ending is Ending.REJECTED:
                self._pause(slot, now, seconds)  # before the slot is released, which admits other calls
            else:
                self._pace.accepted(now)
            self._window.answered(now)
            self._promise.answered(now)
        if self._calls.queue.size:
            # A response brings no token: until there is one, the timer is early enough.
            if not now < self._timer_at <= self._no_token_until:
                self._dispatch()
        elif not self._agreement.sessions:
            self._rest()

    def _rest(self) -> None:
        if not self.in_use:
            self._on_rest()

    def _pause(self, slot: Slot, now: float, seconds: float) -> None:
        self._throttled += 1
        report_pause(self._name, seconds, self._paused_until - now)
        self._paused_until = max(self._paused_until, now + seconds)
        bulk = slot.number == Priority.BULK or self._calls.queue.count(Priority.BULK) > 0
        self._pace.rejected(now, slot.granted_at, self._paused_until, self._jitter(), bulk=bulk)
        self._calls.fail_hopeless(lambda priority: self._paused_until)

    async def flush(self) -> None:
        """Do nothing: a local lane reports to no server."""

    def statistics(self) -> LaneStatistics:
        now = self._now()
        taken = self._window.taken(now)
        rate = self._pace.rate(now)
        queue = self._calls.queue
        return LaneStatistics(
            quota=self._quota,
            taken=taken,
            free=max(0, self._quota.limit - taken),
            waiting_interactive=queue.count(Priority.INTERACTIVE),
            waiting_bulk=queue.count(Priority.BULK),
            in_flight=self._window.in_flight,
            admitted=self._admitted,
            throttled=self._throttled,
            retries=self._retries,
            paused=max(0.0, self._paused_until - now),
            pace=rate if rate != math.inf else None,
        )
