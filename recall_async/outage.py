"""A circuit breaker: while the server is unavailable, bulk calls wait, and one of them at a time probes whether it is back.

A call that ends without a response, or with 502, 503 or 504, is a failure. An operation is *parked* when `THRESHOLD` calls
in a row failed, or when a call is about to be retried and nothing succeeded since it failed. While it is parked, only probes
are sent, after a backoff of up to 30 s and never before `Retry-After`. The first response of another kind ends the outage.
So an outage causes few retries, and does not use up the attempts of any call. Interactive calls are not parked: they fail
according to their retry policy.

Each operation is parked separately, because a gateway may fail for one path only. Each workspace has at most one probe in
flight. `passage.py` has the part of a single call.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakSet

from .checks import Backoff
from .errors import RecallError

MAX_OUTAGE = 3600.0
"""Seconds for which a bulk job waits for a server that is unavailable, unless it is given another time."""
THRESHOLD = 5
"""Failures in a row after which an operation is parked."""
BACKOFF = Backoff(0.5, 30.0)
"""Delays between probes, in seconds."""
LOG_EVERY = 10.0
"""Seconds between two warnings about one operation."""

logger: logging.Logger = logging.getLogger("recall_async")


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage of the server."""

    seconds: float
    """Seconds since the first failure of the outage."""
    cause: str
    """A status such as `503`, `connection refused`, or `no response`."""
    next_try: float
    """Seconds until the next request is sent; 0 while one is in flight."""


class Waiting(Protocol):
    """A bulk call that waits for the server: a `Passage`."""

    @property
    def suspected(self) -> bool:
        """True if the call itself may cause its failures."""


class Listener(Protocol):
    """An object that is told about outages while it exists."""

    def parked(self, operation: str, cause: str | None, seconds: float) -> None:
        """Called when bulk calls of an operation wait because of `cause`: the next probe is in `seconds`. If `cause` is
        `None`, they continue after an outage of `seconds`."""


class Breaker:
    """The breaker of one operation of a workspace. Times are in seconds of the event loop's clock."""

    def __init__(self, name: str, others: Breakers) -> None:
        self._name = name
        self._others = others
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Waiting, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = -math.inf
        self._logged: set[str] = set()
        """The causes for which the outage was logged."""
        self._log_after = -math.inf
        self.in_flight = 0
        self.failures: int = 0
        """Number of failures in a row."""
        self.answers: int = 0
        """Number of responses that were not failures."""
        self.parked: bool = False
        self.since: float = 0.0
        """Time of the first failure in a row."""
        self.next_try: float = 0.0
        self.tries: int = 0
        self.cause: str = ""

    def may_send(self, call: Waiting) -> bool:
        """Return whether a call may be sent: any, or only the probe while the operation is parked."""
        return not self.parked or self._others.prober is call

    def park(self, pause: float = 0.0) -> None:
        """Stop all calls but a probe, which may be sent after `pause` seconds."""
        self.parked, self.tries = True, 1
        self.next_try = max(self._loop.time() + pause, self._not_before)
        self._others.tell(self._name, self.cause, max(0.0, self.next_try - self._loop.time()))
        if self.next_try > self._loop.time():
            self._log()  # otherwise a probe is sent at once, and `fail` logs the outage if it fails

    def _log(self) -> None:
        """Log the outage once for each cause, and at most once in `LOG_EVERY` seconds."""
        now = self._loop.time()
        if self.cause not in self._logged and now >= self._log_after:
            self._logged.add(self.cause)
            self._log_after = now + LOG_EVERY
            logger.warning(
                "the server is unavailable (%s): bulk calls of %s wait; next try in %.1f s",
                self.cause,
                self._name,
                max(0.0, self.next_try - now),
            )

    def fail(self, error: RecallError, call: Waiting) -> None:
        """Record that the request of a call met an outage."""
        probed = self._others.prober is call
        now, retry_after = self._loop.time(), error.retry_after
        if not self.failures:
            self.since = now
        self.failures += 1
        status = getattr(error, "status", 0)
        silence = "connection refused" if getattr(error, "refused", False) else "no response"
        self.cause = str(status) if status else silence
        self._not_before = max(self._not_before, now + (retry_after or 0.0))
        if not self.parked and self.failures >= THRESHOLD:
            self.park(BACKOFF.delay(1, random.random()))
        elif probed:
            self.tries += 1
            self.next_try = now + BACKOFF.delay(self.tries, random.random())
        self.next_try = max(self.next_try, self._not_before)
        if probed and self.parked:
            self._log()

    def answered(self) -> None:
        """Record that the server responded."""
        self.answers += 1
        self.failures = 0
        if self.parked:
            if self._logged:
                logger.info(
                    "the server is back after %.0f s: bulk calls of %s continue",
                    self._loop.time() - self.since,
                    self._name,
                )
            self.parked = False
            self._logged.clear()
            self._others.tell(self._name, None, self._loop.time() - self.since)
            for turn in self._waiting.values():
                if not turn.done():
                    turn.set_result(None)
            for other in self._others.known.values():
                other.hasten()

    def hasten(self) -> None:
        """Probe now: another operation is available again."""
        if self.parked:
            self.next_try = max(self._loop.time(), self._not_before)
            self.arrange()

    async def turn(self, call: Waiting) -> None:
        """Wait until the server is back or the call is to probe."""
        turn = self._waiting[call] = self._loop.create_future()
        self.arrange()
        try:
            await turn
        finally:
            del self._waiting[call]

    def release(self, call: Waiting) -> None:
        """End the probe of a call, if it is the probe, and start the next one."""
        if self._others.prober is call:
            self._others.prober = None
            self._others.arrange()
        else:
            self.arrange()

    def all_suspected(self) -> bool:
        """Return whether every waiting call is suspected of causing its own failures."""
        return all(call.suspected for call in self._waiting)

    def arrange(self) -> None:
        """Start the next probe as soon as it may be sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.parked or not self._waiting or self.in_flight or self._others.prober is not None:
            return
        if self._loop.time() < self.next_try:
            self._timer = self._loop.call_at(self.next_try, self.arrange)
            return
        waiting = [call for call, turn in self._waiting.items() if not turn.done()]
        if waiting:
            chosen = next((call for call in waiting if not call.suspected), waiting[0])
            self._others.prober = chosen
            self._waiting[chosen].set_result(None)


class Breakers:
    """The breakers of one workspace in one event loop."""

    def __init__(self) -> None:
        self.known: dict[str, Breaker] = {}
        """The breakers of the operations that had bulk calls, by operation."""
        self.prober: Waiting | None = None
        """The call that may be sent although its operation is parked."""
        self.listeners: WeakSet[Listener] = WeakSet()

    def tell(self, operation: str, cause: str | None, seconds: float) -> None:
        """Tell the listeners."""
        for listener in tuple(self.listeners):
            listener.parked(operation, cause, seconds)

    def of(self, operation: str) -> Breaker:
        """Return the breaker of an operation."""
        breaker = self.known.get(operation)
        if breaker is None:
            breaker = self.known[operation] = Breaker(operation, self)
        return breaker

    def arrange(self) -> None:
        """Start the next probe, if one may be sent now."""
        for breaker in self.known.values():
            breaker.arrange()

    def answered(self, operation: str) -> None:
        """Record that an interactive call had a response."""
        breaker = self.known.get(operation)
        if breaker is not None and breaker.parked:
            breaker.answered()

    def outage(self) -> Outage | None:
        """Return the outage that bulk calls wait for; `None` if there is none."""
        parked = [breaker for breaker in self.known.values() if breaker.parked]
        if not parked:
            return None
        now = asyncio.get_running_loop().time()
        longest = min(parked, key=lambda breaker: breaker.since)
        next_try = 0.0 if self.prober is not None else max(0.0, min(breaker.next_try for breaker in parked) - now)
        return Outage(now - longest.since, longest.cause, next_try)
