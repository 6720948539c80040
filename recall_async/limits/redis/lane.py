"""A lane whose quota is stored in Redis, for one event loop.

The lane has the queue: when a slot arrives, it selects the next call by (priority, start, arrival). Redis decides how
many slots there are. The lane asks for as many slots as calls wait (outbox.py). If it gets fewer, it asks again when the
next slot can be free (asking.py). While Redis is away, it may serve a few calls from a local reserve (lending.py).
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from ...errors import DeadlineExceededError, QuotaStoreUnavailableError, RecallError
from ..agreement import Agreement
from ..contract import Ending, LaneStatistics, Slot
from ..loops import clock_of, lease_time
from ..pace import report_pause
from ..quota import Priority, Quota
from ..sockets import MAX_BULK_IN_FLIGHT, MAX_IN_FLIGHT
from ..waiting import WaitingCalls
from ..weakly import weakly
from ..window import Window
from .asking import ASK_EVERY, AskTimes
from .failures import advice
from .lending import Lender
from .outbox import Outbox
from .reserve import LocalReserve
from .scripts import GRANT_MAX_AGE, Ask, Command, Grant, Keys, Pause, Terms
from .speaker import LaneLink

logger: logging.Logger = logging.getLogger("recall_async")

LOOK_EVERY = 5.0
"""The most seconds between two asks during a pause, which another process may end (`RedisQuotaStore.resume`)."""
LOOK_HELD_EVERY = 1.0
"""The same while the quota is held: if its keys move to another server again, the lease begins when that is noticed."""
GATHER = 0.2
"""The most seconds for which free slots gather until waiting bulk calls ask for them, in one script instead of several."""
BATCH_DELAY = 0.25
"""The most seconds until a slot's end is reported, if the lane asks for no slot earlier: both are one script."""
RETELL_PAUSE = 1.0
"""Seconds until a pause that Redis refused is sent again, at the latest."""
SILENCE = 1.0
"""After this number of seconds without a reply, a call counts as waiting for Redis, not for the quota."""
GIVE_BACK_TIMEOUT = 1.0
"""The most seconds that closing a session takes to report how its slots ended."""


class RedisLane:
    """The lane of one operation and workspace."""

    def __init__(
        self,
        name: str,
        quota: Quota,
        keys: Keys,
        link: LaneLink,
        outbox: Outbox,
        terms: Callable[[Quota], Terms],
        reserve: LocalReserve,
        patience: float = math.inf,
    ) -> None:
        self._name = name
        self._link = link
        self._outbox = outbox
        self._terms_of = terms
        self._loop = asyncio.get_running_loop()
        self._now = clock_of(self._loop)
        self._calls = WaitingCalls(weakly(self._late))
        self._window = Window(quota.per)  # this process's slots of the shared window
        self._lender = Lender(reserve, keys.stem, self._now)
        self._patience = patience
        self._asked_at: float  # when the last ask was sent first, by the clock of leases
        self._last_grant: Grant | None = None
        self._last_reply_at = -math.inf
        self._taken_by_others: int  # slots that other processes held then
        self._paused_until = outbox.unknown_pause(self._now())
        self._held_until = -math.inf
        self._report_by = math.inf  # when to report the ends of slots
        self._timer: asyncio.TimerHandle | None = None
        self._report_timer: asyncio.TimerHandle | None = None
        self._flushed: asyncio.Future[None] | None = None
        self._admitted = self._throttled = self._retries = 0
        self._warned = False
        self._agreement = Agreement(name, quota, weakly(self._configure))
        self._configure(quota)

    @property
    def quota(self) -> Quota:
        return self._agreement.quota

    @property
    def in_use(self) -> bool:
        """True if there is an open session."""
        return self._agreement.sessions > 0

    @property
    def settled(self) -> bool:
        """True if no call waits, no request is in flight, and Redis has received everything."""
        return not (self._outbox.pending or self._calls.queue.size or self._window.in_flight or self._flushed)

    def join(self, quota: Quota | None) -> None:
        """Add a session. Raises `ConfigurationError` if an open session named another quota."""
        begins = not self.in_use
        self._agreement.join(quota)
        if begins:
            self._link.join()
            if self._outbox.pending:
                self._link.wake(self)

    def leave(self, quota: Quota | None) -> None:
        self._agreement.leave(quota)
        if not self.in_use:
            self._link.leave()

    def _configure(self, quota: Quota) -> None:
        """Use this quota from now on."""
        self._terms = self._terms_of(quota)
        self._quota = quota
        # Less for a short window, in which idle slots are soon a loss, and for a token bucket that would be full.
        self._gather = min(GATHER, quota.per / 300, (self._terms.burst_bulk - 1) / quota.rate / 2)
        self._calls.queue.patience = quota.per
        self._per = Window(quota.per).per
        self._window.per = max(self._window.per, self._per)
        self._asks = AskTimes()
        self._arrange()

    async def admit(
        self,
        priority: Priority = Priority.INTERACTIVE,
        start: float = math.inf,
        until: float = math.inf,
        *,
        retry: bool = False,
    ) -> Slot:
        self._retries += retry
        if until != math.inf and not self._lends:
            wait = self._at_least(priority, start)
            if self._now() + wait > until:
                raise self._late(priority, wait)
        if priority is Priority.INTERACTIVE:
            self._outbox.wanted()
        while True:
            slot = await self._calls.wait(priority, start, until, self._arrange)
            if self._now() <= slot.usable_until:
                self._admitted += 1
                return slot
            slot.unused()  # this process was delayed so long that the lease no longer covers the request

    def _at_least(self, priority: Priority, start: float) -> float:
        """Return the least seconds that a new call waits, if no other process takes slots."""
        ahead, limit = self._calls.queue.ahead(priority, start), self._terms.limit
        first = self._earliest(priority) - self._now()
        alike = self._calls.queue.count(priority) if start == math.inf else 0
        burst = self._terms.burst if priority is Priority.INTERACTIVE else self._terms.burst_bulk
        return max(first + ahead // limit * self._quota.per, (alike + 1 - burst) / self._quota.rate)

    @property
    def _closed_until(self) -> float:
        return max(self._paused_until, self._held_until)

    def _earliest(self, priority: Priority) -> float:
        """Return a time before which no call of this priority can be admitted."""
        now = self._now()
        stale = now - self._last_reply_at >= LOOK_EVERY  # another process may have ended the pause
        closed = self._outbox.unknown_pause(now) if stale else self._closed_until
        if self._lends:
            return closed
        return max(
            closed, self._until_ours_return(priority, now), -math.inf if stale else self._asks.not_before[priority]
        )

    def _until_ours_return(self, priority: Priority, now: float) -> float:
        """Return a time before which this process's own slots leave no other.

        Redis does not tell the slots of lost requests from those in flight, which can be freed at once.
        """
        limit = self._terms.limit
        if self._window.per > self._per:
            return now  # these are slots of a longer window than that of the quota
        ceiling = limit if priority is Priority.INTERACTIVE else limit - self._terms.reserve
        return self._window.earliest(now, ceiling, 0, limit)

    @property
    def _lends(self) -> bool:
        """True if calls are served from the local reserve."""
        return self._lender.has_slots and bool(self._link.trouble)

    @property
    def _redis_away(self) -> bool:
        """True if calls wait for Redis, not for the quota."""
        return bool(self._link.trouble) or self._link.silence() > SILENCE

    def _late(self, priority: Priority, wait: float = 0.0) -> RecallError:
        if self._redis_away:
            return self._unanswered("and the call's deadline came first.")
        now = self._now()
        wait = max(wait, self._earliest(priority) - now, self._asks.next_free[priority] - now, ASK_EVERY)
        what = f"the quota of {self._name} ({self._quota.limit} requests in {self._quota.per:g} s)"
        if self._held_until > max(now, self._paused_until):
            what += ", held because Redis lost track of what was sent,"
        return DeadlineExceededError(
            f"{what} has no slot before the deadline: the next one is at least {wait:.1f} s away. "
            "Allow a longer deadline, or send less.",
            retry_after=wait,
        )

    def _unanswered(self, and_so: str) -> QuotaStoreUnavailableError:
        return QuotaStoreUnavailableError(
            f"the quota of {self._name} is kept in Redis, which has not answered for {self._link.silence():.1f} s "
            f"({self._link.trouble or 'it is connected'}), {and_so}"
        )

    def _arrange(self) -> None:
        """Serve the waiting calls, or plan when to ask Redis for their slots."""
        wake = math.inf
        if self._lends:
            wake = self._lender.serve(self._calls, self._terms, self._closed_until, self._lent_ended)
        if self.speaks:
            self._link.wake(self)
        elif any(self._wanted()):
            wake = min(wake, self._due())
        if self._timer is not None:
            self._timer.cancel()
        if wake != math.inf:
            self._timer = self._loop.call_at(wake, self._arrange)

    def _wanted(self) -> tuple[int, int]:
        """Return how many slots to ask for: one per waiting call, up to the limit of requests in flight."""
        queue, in_flight = self._calls.queue, self._window.in_flight
        interactive = min(queue.count(Priority.INTERACTIVE), MAX_IN_FLIGHT - in_flight)
        return interactive, max(0, min(queue.count(Priority.BULK), MAX_BULK_IN_FLIGHT - in_flight - interactive))

    def _due(self) -> float:
        """Return when to ask for the waiting calls' slots."""
        queue = self._calls.queue
        asks = min((self._asks.ask_at[priority] for priority in Priority if queue.count(priority)), default=math.inf)
        look = LOOK_HELD_EVERY if self._held_until > self._now() else LOOK_EVERY
        return max(asks, min(self._closed_until, self._last_reply_at + look))

    def _wanted_now(self, now: float) -> tuple[int, int]:
        """Return how many slots to ask for at `now`."""
        return self._wanted() if self._due() <= now else (0, 0)

    @property
    def speaks(self) -> bool:
        """True if the lane has something to send now."""
        if self._outbox.asked is not None or self._outbox.urgent:
            return True
        now = self._now()
        return self._report_by <= now or any(self._wanted_now(now))

    def compose(self, run: str) -> list[Command]:
        """Return the commands to send now, to the server process with this run id."""
        self._report_by = math.inf
        if self._report_timer is not None:
            self._report_timer.cancel()
            self._report_timer = None
        now, repeated = self._now(), self._outbox.asked is not None
        commands = self._outbox.compose(now, run, *self._wanted_now(now), self._terms)
        if not repeated:
            self._asked_at = lease_time()
        return commands

    def on_reply(self, replies: Sequence[Any]) -> None:
        """Handle the replies; a refused command has an error as its reply."""
        outcome = self._outbox.on_reply(replies, self._now())
        if outcome is not None:
            self._receive(*outcome)
        if (error := next((reply for reply in replies if isinstance(reply, Exception)), None)) is not None:
            self._refuse(error)
        self._report_flushed()
        self._arrange()

    def on_no_reply(self) -> None:
        """Handle a message without a reply: it may have taken effect, and will be repeated."""
        self._outbox.on_no_reply()
        if self._outbox.pending:
            self._report_by = -math.inf
        if self._link.silence() > self._patience and not self._lends:
            advised = "See whether Redis is up and its URL is right, then repeat the call."
            self.fail(self._unanswered(f"longer than calls wait for it. {advised}"))
        self._arrange()

    def refused(self, error: Exception) -> None:
        """Handle a refused connection: fail all waiting calls."""
        self._outbox.clear()
        self._report_by = math.inf
        self._refuse(error)
        self._report_flushed()

    def _refuse(self, error: Exception) -> None:
        self.fail(
            QuotaStoreUnavailableError(f"the quota of {self._name} is kept in Redis, which refuses: {advice(error)}")
        )
        if self._outbox.unknown_pause(now := self._now()) > now:
            self._report(now, RETELL_PAUSE)

    def fail(self, error: Exception) -> None:
        """Fail all waiting calls."""
        self._calls.fail(error)

    def _receive(self, ask: Ask, grant: Grant) -> None:
        now = self._now()
        self._paused_until = max(now + (grant.paused - grant.now) / 1e6, self._outbox.unknown_pause(now))
        self._held_until = now + (grant.held - grant.now) / 1e6
        expired = lease_time() - self._asked_at > GRANT_MAX_AGE  # the loop's clock stops while the machine sleeps
        self._last_grant, self._last_reply_at = grant, now
        if ask.interactive > grant.interactive:
            soon, certain = grant.soon_interactive / 1e6, grant.certain_interactive / 1e6
            self._asks.unmet(Priority.INTERACTIVE, now, soon=soon, certain=certain)
        else:
            self._asks.met(Priority.INTERACTIVE)
        if ask.bulk > grant.bulk:
            soon, certain = grant.soon_bulk / 1e6, grant.certain_bulk / 1e6
            gather = self._gather if soon and grant.pace is None else 0.0
            self._asks.unmet(Priority.BULK, now, soon=soon, certain=certain, gather=gather)
        else:
            self._asks.met(Priority.BULK)
        for count, first, priority in (
            (grant.interactive, ask.first, Priority.INTERACTIVE),
            (grant.bulk, ask.first + ask.interactive, Priority.BULK),
        ):
            for number in range(first, first + count):
                self._window.take()
                slot = Slot(self._end, grant.now, usable_until=ask.at + GRANT_MAX_AGE, number=number)
                usable = self._closed_until <= now and now <= slot.usable_until and not expired
                # A bulk call must not use a slot of the reserve, even if no other call waits.
                if not usable or not self._calls.serve(slot, priority):
                    slot.unused()
        self._taken_by_others = max(0, grant.taken - self._window.taken(now))  # fewer if Redis has forgotten ours
        self._calls.fail_hopeless(self._earliest)
        self._compare(grant)

    def _compare(self, grant: Grant) -> None:
        if not self._warned and grant.quota != self._terms.text:
            self._warned = True
            logger.warning(
                "%s: another process shares %s requests/microseconds, this one %s: give all of them the same quotas and "
                "local reserves, or the largest of them counts",
                *(self._name, grant.quota, self._terms.text),
            )

    def _end(self, slot: Slot, ending: Ending, seconds: float) -> None:
        now = self._now()
        if ending is Ending.LOST:
            # Not reported: the lease lasts as long as the longest request, and expires without a report.
            asked_at = slot.usable_until - GRANT_MAX_AGE
            self._window.lost(now, asked_at + self._terms.lease / 1e6 - self._window.per - now)
        else:
            if ending is Ending.REJECTED:
                self._pause(now, seconds, slot.granted_at)  # sent before the slot's end, which admits other calls
            self._outbox.ended(slot.number, ending, now)
            if ending is Ending.UNUSED:
                self._window.unused()
                self._report(now, 0.0)
            else:
                self._window.answered(now)
                self._report(now, min(BATCH_DELAY, self._quota.per / 20))
        if self._calls.queue.size:
            self._arrange()

    def _report(self, now: float, delay: float) -> None:
        """Report how slots ended, within `delay` seconds."""
        self._report_by = min(self._report_by, now + delay)
        if not delay:
            self._link.wake(self)
        elif self._report_timer is None:
            self._report_timer = self._loop.call_later(delay, self._link.wake, self)

    def _pause(self, now: float, seconds: float, granted_at: float) -> None:
        self._throttled += 1
        report_pause(self._name, seconds, self._paused_until - now)
        self._paused_until = max(self._paused_until, now + seconds)
        self._outbox.pause(Pause(seconds, now, int(granted_at), random.random()))
        self._link.wake(self)
        self._calls.fail_hopeless(self._earliest)

    def _lent_ended(self, slot: Slot, ending: Ending, seconds: float) -> None:
        if ending is Ending.REJECTED:
            self._pause(self._now(), seconds, slot.granted_at)
        self._arrange()

    async def flush(self) -> None:
        """Report to Redis how this lane's slots ended; if no session is left, close the connection.

        A cancellation ends the wait and closes the connection at once.
        """
        try:
            await self.give_back()
        finally:
            await self._link.aclose_unused()

    async def give_back(self) -> None:
        """Report how slots ended, unless Redis is unavailable."""
        if not self._outbox.pending or self._link.trouble:
            return
        self._flushed = flushed = self._flushed or self._loop.create_future()
        self._link.join()
        self._report(self._now(), 0.0)
        try:
            await asyncio.wait({flushed}, timeout=GIVE_BACK_TIMEOUT)
        finally:
            self._link.leave()
            self._flushed = None

    def _report_flushed(self) -> None:
        if self._flushed is None:
            return
        if self._outbox.pending:
            self._report_by = -math.inf
        elif not self._flushed.done():
            self._flushed.set_result(None)

    def statistics(self) -> LaneStatistics:
        now = self._now()
        others = self._taken_by_others if now - self._last_reply_at < self._window.per else 0
        taken = self._window.taken(now) + others
        return LaneStatistics(
            quota=self._quota,
            taken=taken,
            free=max(0, self._terms.limit - taken),
            waiting_interactive=self._calls.queue.count(Priority.INTERACTIVE),
            waiting_bulk=self._calls.queue.count(Priority.BULK),
            in_flight=self._window.in_flight + self._lender.in_flight,
            admitted=self._admitted,
            throttled=self._throttled,
            retries=self._retries,
            paused=max(0.0, self._closed_until - now),
            pace=self._last_grant.pace if self._last_grant is not None else None,
            store_silent=self._link.silence() if self._redis_away and self._calls.queue.size else 0.0,
        )
