"""A lane whose quota is kept in Redis, for the callers of one event loop.

Here is the queue: who goes next is chosen by (priority, start, arrival) when a slot arrives. How many slots there are is
Redis' to say. The lane asks for as many as it has calls waiting, and where it gets fewer, asks again when the next can
be there. That moment is drawn by lot: processes that ask in step would always be served in the same order.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import RedisError

from ...errors import DeadlineExceededError, QuotaStoreUnavailableError, RecallError
from ..agreement import Agreement
from ..contract import Ending, LaneStatistics, Slot
from ..loops import clock_of
from ..quota import Priority, Quota
from ..sockets import MAX_IN_FLIGHT
from ..waiting import WaitingCalls
from ..window import Window
from .dialogue import Dialogue
from .link import Link
from .reserve import LocalReserve
from .scripts import HANDOVER, Answer, Ask, Command, Pause, Terms

logger = logging.getLogger("recall_async")

FLOOR = 0.05
"""Seconds between two asks of a lane that got less than it wanted, on average and at the least."""
ASK_AT_MOST = 1.0
"""Seconds between two asks at the most: a slot may come back before its time."""
SETTLE_WITHIN = 0.05
"""Seconds until a slot's end is reported, if nothing else is said before."""
SILENCE = 1.0
"""Seconds of silence after which it is Redis, and not the quota, that a call waits for."""
FLUSH_WITHIN = 1.0
"""Seconds that closing a session may take to report how its slots ended."""


class RedisLane:
    """The lane of one operation and workspace."""

    def __init__(
        self, name: str, quota: Quota, link: Link, dialogue: Dialogue, terms: Callable[[Quota], Terms], reserve: int
    ) -> None:
        self._name = name
        self._link = link
        self._dialogue = dialogue
        self._terms_of = terms
        self._loop = asyncio.get_running_loop()
        self._now = clock_of(self._loop)
        self._calls = WaitingCalls(self._late)
        self._window = Window(quota.per)  # what this process holds of the shared one
        self._reserve = LocalReserve(reserve, quota.per, self._now)
        self._told: Answer | None = None
        self._told_at = -math.inf
        self._others = 0  # slots that others held then
        self._paused_until = self._held_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._flushed: asyncio.Future[None] | None = None
        self._admitted = self._throttled = self._retries = 0
        self._warned = False
        self._agreement = Agreement(name, quota, self._configure)
        self._configure(quota)

    @property
    def quota(self) -> Quota:
        return self._agreement.quota

    @property
    def in_use(self) -> bool:
        """Is there an open session?"""
        return self._agreement.in_use

    def join(self, quota: Quota | None) -> None:
        """A session uses the lane. Raises `ConfigurationError` when an open one named another quota."""
        self._agreement.join(quota)

    def leave(self, quota: Quota | None) -> None:
        self._agreement.leave(quota)

    def _configure(self, quota: Quota) -> None:
        """Keep to this quota from now on."""
        self._terms = self._terms_of(quota)
        self._quota = quota
        self._window.per = self._reserve.window.per = Window(quota.per).per
        self._opens = dict.fromkeys(Priority, -math.inf)  # before which no call of a priority can go, as told
        self._ask_at = dict.fromkeys(Priority, -math.inf)
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
            # When the tokens can be there for everybody ahead, if no other process takes any.
            missing = self._calls.ahead(priority, start) + 1 - self._terms.depth
            if max(self._earliest(priority), self._now() + missing / self._quota.rate) > until:
                raise self._late(priority, missing / self._quota.rate)
        while True:
            slot = await self._calls.wait(priority, start, until, self._arrange)
            if self._now() <= slot.usable_until:
                self._admitted += 1
                return slot
            slot.unused()  # this process was held up so long that the lease no longer covers the request

    @property
    def _closed_until(self) -> float:
        return max(self._paused_until, self._held_until)

    def _earliest(self, priority: Priority) -> float:
        """A time before which no call of this priority can go."""
        return self._closed_until if self._lends else max(self._opens[priority], self._closed_until)

    @property
    def _lends(self) -> bool:
        """Whether calls are served from the local reserve."""
        return self._reserve.size > 0 and bool(self._link.trouble)

    def _late(self, priority: Priority, wait: float = 0.0) -> RecallError:
        silence = self._link.silence()
        if silence > SILENCE or self._link.trouble:
            return QuotaStoreUnavailableError(
                f"the quota of {self._name} is kept in Redis, which has not answered for {silence:.1f} s "
                f"({self._link.trouble or 'it is connected'}), and the call's deadline came first. Nothing was sent."
            )
        now = self._now()
        wait = max(wait, self._earliest(priority) - now, 0.0)
        what = f"the quota of {self._name} ({self._quota.limit} requests in {self._quota.per:g} s)"
        if self._held_until > max(now, self._paused_until):
            what += ", held because Redis lost track of what was sent,"
        return DeadlineExceededError(
            f"{what} has no slot before the deadline: the next one is at least {wait:.1f} s away. "
            "Allow a longer deadline, or send less.",
            retry_after=wait,
        )

    def _arrange(self) -> None:
        """See to it that whoever waits is served, or asked for in time."""
        wake = self._reserve.serve(self._calls, self._closed_until, self._reserve_end) if self._lends else math.inf
        if self._calls and self._dialogue.asked is None and self._window.in_flight < MAX_IN_FLIGHT:
            when = self._due()
            if when <= self._now():
                self._link.ask(self)
            else:
                wake = min(wake, when)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wake != math.inf:
            self._timer = self._loop.call_at(wake, self._arrange)

    def _due(self) -> float:
        """When to ask for those who wait."""
        waiting = self._calls.waiting
        return max(self._closed_until, min((self._ask_at[p] for p in Priority if waiting[p]), default=math.inf))

    def compose(self, run: str) -> list[Command]:
        """What is to be said now, to the server with this run id."""
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None
        now = self._now()
        interactive = bulk = 0
        if self._due() <= now:
            room = MAX_IN_FLIGHT - self._window.in_flight
            interactive = min(self._calls.waiting[Priority.INTERACTIVE], room)
            bulk = min(self._calls.waiting[Priority.BULK], room - interactive)
        return self._dialogue.compose(now, run, interactive, bulk, self._terms)

    def heard(self, replies: Sequence[Any]) -> None:
        """What was said was answered."""
        outcome = self._dialogue.heard(replies, self._now())
        if outcome is not None:
            self._receive(*outcome)
        if self._dialogue.asked is not None or (self._flushed is not None and self._dialogue.unsaid):
            self._link.ask(self)
        elif self._flushed is not None:
            self._flushed.set_result(None)
            self._flushed = None
        self._arrange()

    def _receive(self, ask: Ask, answer: Answer) -> None:
        now = self._now()
        closed = self._closed_until
        self._paused_until = max(self._paused_until, now + (answer.paused - answer.now) / 1e6)
        self._held_until = max(self._held_until, now + (answer.held - answer.now) / 1e6)
        for priority, unmet, wait in (
            (Priority.INTERACTIVE, ask.interactive - answer.interactive, answer.wait_interactive / 1e6),
            (Priority.BULK, ask.bulk - answer.bulk, answer.wait_bulk / 1e6),
        ):
            self._opens[priority] = now + wait if unmet else -math.inf
            soon = max(min(wait, ASK_AT_MOST) + FLOOR * random.uniform(0, 0.4), FLOOR * random.uniform(0.5, 1.5))
            self._ask_at[priority] = now + soon if unmet else -math.inf
        for count, first, priority in (
            (answer.interactive, ask.first, Priority.INTERACTIVE),
            (answer.bulk, ask.first + ask.interactive, Priority.BULK),
        ):
            for number in range(first, first + count):
                self._window.take()
                slot = Slot(self._end, answer.now, usable_until=ask.at + HANDOVER, number=number)
                usable = self._closed_until <= now and now - ask.at <= HANDOVER
                # A slot of the reserve is not for a bulk call, even if nobody else is left.
                if not usable or not self._calls.serve(slot, priority):
                    slot.unused()
        self._told, self._told_at = answer, now
        self._others = answer.taken - self._window.taken(now)
        self._calls.judge(self._earliest, everybody=self._closed_until > max(closed, now))
        self._compare(answer)

    def _compare(self, answer: Answer) -> None:
        if not self._warned and answer.quota != self._terms.text:
            self._warned = True
            logger.warning(
                "%s: another process shares %s requests/microseconds, this one %s: give all of them the same quotas and "
                "local reserves, or the largest of them counts",
                *(self._name, answer.quota, self._terms.text),
            )

    def unheard(self) -> None:
        """Whether what was said was done is unknown; it will be said again."""
        if self._calls and self._dialogue.asked is not None:
            self._link.ask(self)
        self._arrange()

    def refused(self, error: RedisError) -> None:
        """What was said was not done, and saying it again is no use."""
        self._dialogue.asked = None
        self.fail(QuotaStoreUnavailableError(f"the quota of {self._name} is kept in Redis, which refuses: {error}"))

    def fail(self, error: Exception) -> None:
        """Nobody who waits will be served."""
        self._calls.fail(error)

    def greet(self) -> None:
        """Another server process answers, which may have forgotten what this lane knows."""
        if self._dialogue.knows(self._now()):
            self._dialogue.greets = True
            self._link.ask(self)

    def _end(self, slot: Slot, ending: Ending, seconds: float) -> None:
        now = self._now()
        if ending is Ending.LOST:
            # Not reported: the lease is as long as a request can take, and runs out by itself.
            self._window.lost(now, self._terms.lease / 1e6 - self._window.per)
        else:
            if ending is Ending.REJECTED:
                self._pause(now, seconds, slot.granted_at)  # said before the slot's end, which lets others go
            self._dialogue.ended(slot.number, ending, now)
            if ending is Ending.UNUSED:
                self._window.unused()
                self._link.ask(self)
            else:
                self._window.answered(now)
                if self._settling is None:
                    self._settling = self._loop.call_later(SETTLE_WITHIN, self._link.ask, self)
        if self._calls:
            self._arrange()

    def _reserve_end(self, slot: Slot, ending: Ending, seconds: float) -> None:
        if ending is Ending.REJECTED:
            self._pause(self._now(), seconds, slot.granted_at)
        self._reserve.ended(ending, seconds)
        self._arrange()

    def _pause(self, now: float, seconds: float, granted_at: float) -> None:
        self._throttled += 1
        self._paused_until = max(self._paused_until, now + seconds)
        self._dialogue.paused(Pause(seconds, now, int(granted_at), random.random()))
        self._link.ask(self)
        self._calls.judge(self._earliest, everybody=True)

    async def flush(self) -> None:
        """Redis knows how this lane's slots ended; when no session is left, the connection to it is closed."""
        if self._dialogue.unsaid and not self._link.trouble:
            flushed = self._flushed = self._flushed or self._loop.create_future()
            self._link.ask(self)
            try:
                await asyncio.wait({flushed}, timeout=FLUSH_WITHIN)
            finally:
                self._flushed = None
        await self._link.aclose_unused()

    @property
    def used(self) -> bool:
        """Whether the connection is needed."""
        return self.in_use or self._flushed is not None

    def statistics(self) -> LaneStatistics:
        now = self._now()
        others = self._others if now - self._told_at < self._window.per else 0
        taken = self._window.taken(now) + others
        closed = self._closed_until
        return LaneStatistics(
            quota=self._quota,
            taken=taken,
            free=max(0, self._terms.limit - taken),
            waiting_interactive=self._calls.waiting[Priority.INTERACTIVE],
            waiting_bulk=self._calls.waiting[Priority.BULK],
            in_flight=self._window.in_flight + self._reserve.window.in_flight,
            admitted=self._admitted,
            throttled=self._throttled,
            retries=self._retries,
            paused=max(0.0, closed - now),
            pace=self._told.pace if self._told is not None else None,
        )
