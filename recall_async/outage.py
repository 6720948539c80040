"""A circuit breaker: while the server is away, bulk calls wait for it, and one of them at a time tries whether it is back.

A call that ends without a response, or with 502, 503 or 504, is a failure. An operation is parked when `THRESHOLD` calls in
a row failed, or when a call would be tried again and nothing succeeded since it failed. Then no request is sent but a probe,
after a backoff of up to 30 s and never before `Retry-After`; the first response of another kind opens the operation again.
So an outage costs next to no retries, and no call its attempts. Interactive calls take no part: they fail by their policy.

Each operation is parked by itself, since a gateway may fail for one path only; of one workspace, one probe is in flight.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar
from weakref import WeakSet

from .checks import Backoff
from .errors import (
    APIError,
    AttemptTimeoutError,
    ConnectionFailedError,
    DeadlineExceededError,
    RecallError,
    ServerUnavailableError,
)
from .retry import RetryPolicy

V = TypeVar("V")

THRESHOLD = 5
"""Failures in a row after which an operation is parked."""
BACKOFF = Backoff(0.5, 30.0)
"""Between probes, in seconds."""
SICK = 2
"""Failures of one call between which others succeeded, from which on the call itself is suspected."""
LOG_EVERY = 10.0
"""Seconds between two warnings about one operation."""
UNAVAILABLE = frozenset({502, 503, 504})
"""Statuses by which something in front of the API says that it is away."""

logger: logging.Logger = logging.getLogger("recall_async")


class Scope(NamedTuple):
    """What bulk calls in a context have in common: a job sets it for its tasks."""

    patience: float
    """Seconds of an outage after which they give up."""
    on_failure: Callable[[RecallError], None] | None = None
    """Is called with each failure."""


SCOPE: ContextVar[Scope | None] = ContextVar("the scope of bulk calls", default=None)


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage of the server, as a job sees it."""

    seconds: float
    """For how long nothing has succeeded."""
    cause: str
    """`503`, say, or `no response`."""
    next_try: float
    """Seconds until the next request is sent; 0 while one is on its way."""


def _outage(error: RecallError | None, now: float, until: float) -> RecallError | None:
    """The error, if it is one that says that the server is away."""
    if isinstance(error, AttemptTimeoutError):
        return error if now < until - 0.01 else None  # else it was the call's own deadline
    unavailable = isinstance(error, APIError) and error.status in UNAVAILABLE
    return error if unavailable or isinstance(error, ConnectionFailedError) else None


class Passage:
    """One bulk call on its way through the breaker. Close it when the call is over."""

    __slots__ = ("_answers", "_begun", "_breaker", "_policy", "_scope", "counted", "error", "failed", "sent")

    def __init__(self, breaker: Breaker, policy: RetryPolicy) -> None:
        self._breaker = breaker
        self._policy = policy
        self._scope = SCOPE.get()
        self._begun = asyncio.get_running_loop().time()
        self._answers = -1
        """How many responses there had been when it last failed."""
        self.failed: bool = False
        """Whether the last attempt met an outage."""
        self.error: RecallError | None = None
        self.counted: int = 0
        """Attempts that its policy counts: not those that failed because the server was away."""
        self.sent: int = 0

    @property
    def patient(self) -> bool:
        """Whether it is part of a job that waits for the server."""
        return self._scope is not None

    @property
    def suspected(self) -> bool:
        """Whether it failed again and again while others succeeded."""
        return self.failed and self.counted >= SICK

    async def wait(self, until: float) -> None:
        """Return when a request may be sent, at once unless the operation is parked. Raises any `RecallError`."""
        breaker = self._breaker
        if self.failed and breaker.failures and not breaker.parked:
            breaker.park()  # its retry is due, and nothing succeeded since
        if not breaker.parked or breaker.prober is self:
            return
        loop = asyncio.get_running_loop()
        if self._scope is not None:
            limit = breaker.since + self._scope.patience
        else:
            limit = max(breaker.since, self._begun) + self._policy.patience
        while breaker.parked and breaker.prober is not self:
            turn = breaker.queue(self)
            try:
                async with asyncio.timeout_at(None if limit == until == math.inf else min(limit, until)):
                    await turn
            except TimeoutError:
                if loop.time() >= until - 0.01 and until < limit:
                    raise DeadlineExceededError(
                        f"the server is unavailable ({breaker.cause}) and was not back by the deadline; nothing was sent"
                        if not self.sent
                        else f"the server is unavailable ({breaker.cause}) and was not back by the deadline"
                    ) from self.error
                raise self._given_up(loop.time()) from self.error
            finally:
                breaker.leave(self)

    def _given_up(self, now: float) -> RecallError:
        if not self.patient and self.error is not None:
            return self.error
        breaker = self._breaker
        return ServerUnavailableError(
            f"the server has been unavailable for {now - breaker.since:.0f} s ({breaker.cause}). What was not finished "
            "remains to be done: start the job again when the server is back, or allow it a longer outage (max_outage)."
        )

    def may_send(self) -> bool:
        """Whether the operation was not parked while the call waited for its slot."""
        return not self._breaker.parked or self._breaker.prober is self

    async def through(self, attempt: Awaitable[V], until: float) -> V:
        """Send a request; the result of `attempt`, whose `error` says how it failed. Raises any `RecallError`."""
        breaker = self._breaker
        self.sent += 1
        breaker.in_flight += 1
        failure: RecallError | None = None
        answered = False
        try:
            result = await attempt
            failure = _outage(getattr(result, "error", None), asyncio.get_running_loop().time(), until)
            answered = True
            return result
        except RecallError:
            answered = True
            raise
        finally:
            self._end(failure, answered=answered)

    def _end(self, failure: RecallError | None, *, answered: bool) -> None:
        breaker = self._breaker
        breaker.in_flight -= 1
        probed = breaker.prober is self
        breaker.release(self)
        if failure is None:
            self.failed = False
            if answered:
                self.counted += 1
                breaker.answered()
        else:
            if not self.failed or self._answers != breaker.answers:
                self.counted += 1
            self.failed, self.error, self._answers = True, failure, breaker.answers
            breaker.fail(failure, probed=probed)
            if self._scope is not None and self._scope.on_failure is not None:
                self._scope.on_failure(failure)
        breaker.arrange()

    def excused(self) -> bool:
        """Whether its last failure is the server's, so that it is to be tried again however often that was done.

        Raises `ServerUnavailableError` where trying again will not help.
        """
        if self.patient and not self._breaker.answers and getattr(self.error, "permanent", False):
            raise ServerUnavailableError(
                f"the server cannot be reached: {self.error} Nothing was done."
            ) from self.error
        attempts = max(self._policy.attempts, SICK)
        if not self.patient or not self.failed or self.counted >= attempts:
            return False
        alone = self.suspected and self._breaker.all_suspected()
        return not (alone and self.sent >= attempts)

    def close(self) -> None:
        """The call is over."""
        if self._breaker.prober is self:
            self._breaker.release(self)
            self._breaker.arrange()


class Breaker:
    """One operation of a workspace. Times are in seconds of the loop's clock."""

    def __init__(self, name: str, others: Breakers) -> None:
        self._name = name
        self._others = others
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Passage, asyncio.Future[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._not_before = -math.inf
        self._logged: set[str] = set()
        """The causes for which the outage was logged."""
        self._log_after = -math.inf
        self.in_flight = 0
        self.failures: int = 0
        """In a row."""
        self.answers: int = 0
        """Responses other than failures, ever."""
        self.parked: bool = False
        self.since: float = 0.0
        """When the first failure of the row was."""
        self.next_try: float = 0.0
        self.tries: int = 0
        self.cause: str = ""

    @property
    def prober(self) -> Passage | None:
        """The call that may send though the operation is parked."""
        breaker, passage = self._others.probe
        return passage if breaker is self else None

    def park(self, pause: float = 0.0) -> None:
        """Let nobody send but a probe, after so many seconds."""
        self.parked, self.tries = True, 1
        self.next_try = max(self._loop.time() + pause, self._not_before)
        self._others.tell(self._name, self.cause, max(0.0, self.next_try - self._loop.time()))
        if self.next_try > self._loop.time():
            self._log()  # else a probe goes at once: only if that fails, too, it is worth a line

    def _log(self) -> None:
        """Log the outage, once for each cause, and not again and again where the server comes and goes."""
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

    def fail(self, error: RecallError, *, probed: bool) -> None:
        """A request met an outage."""
        now, retry_after = self._loop.time(), getattr(error, "retry_after", None)
        if not self.failures:
            self.since = now
        self.failures += 1
        status = getattr(error, "status", 0)
        self.cause = str(status) if status else "no response"
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
        """The server is there."""
        self.answers += 1
        self.failures = 0
        if self.parked:
            if self._logged:
                logger.info(
                    "the server is back after %.0f s: bulk calls of %s go on",
                    self._loop.time() - self.since,
                    self._name,
                )
            self.parked = False
            self._logged.clear()
            self._others.tell(self._name, None, self._loop.time() - self.since)
            for turn in self._waiting.values():
                if not turn.done():
                    turn.set_result(None)
            self._others.hasten()

    def hasten(self) -> None:
        """Another operation is back."""
        if self.parked:
            self.next_try = max(self._loop.time(), self._not_before)

    def queue(self, passage: Passage) -> asyncio.Future[None]:
        """Wait for the server, or for the turn to look for it."""
        turn = self._waiting[passage] = self._loop.create_future()
        self.arrange()
        return turn

    def leave(self, passage: Passage) -> None:
        """Wait no longer."""
        turn = self._waiting.pop(passage)
        if turn.cancelled() and self.prober is passage:  # it was told to probe at the moment when it was cancelled
            self.release(passage)
            self.arrange()

    def release(self, passage: Passage) -> None:
        """The probe is over."""
        if self.prober is passage:
            self._others.probe = (None, None)
            self._others.arrange()

    def all_suspected(self) -> bool:
        """Whether nobody waits of whom it is not known that the failures are his own."""
        return all(passage.suspected for passage in self._waiting)

    def arrange(self) -> None:
        """Send the next probe as soon as it may go."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self.parked or not self._waiting or self.in_flight or self._others.probe[0] is not None:
            return
        if self._loop.time() < self.next_try:
            self._timer = self._loop.call_at(self.next_try, self.arrange)
            return
        waiting = [passage for passage, turn in self._waiting.items() if not turn.done()]
        if waiting:
            chosen = next((passage for passage in waiting if not passage.suspected), waiting[0])
            self._others.probe = (self, chosen)
            self._waiting[chosen].set_result(None)


class Listener(Protocol):
    """Who is told of outages, for as long as it lives."""

    def parked(self, operation: str, cause: str | None, seconds: float) -> None:
        """Bulk calls of an operation wait because of `cause`, and the next try is in so many seconds; or, if `cause` is
        `None`, they go on after so many seconds without the server."""


class Breakers:
    """The breakers of one workspace in one event loop."""

    def __init__(self) -> None:
        self.known: dict[str, Breaker] = {}
        """Those of the operations that had bulk calls."""
        self.probe: tuple[Breaker, Passage] | tuple[None, None] = (None, None)
        self.listeners: WeakSet[Listener] = WeakSet()

    def tell(self, operation: str, cause: str | None, seconds: float) -> None:
        """Tell the listeners."""
        for listener in tuple(self.listeners):
            listener.parked(operation, cause, seconds)

    def passage(self, operation: str, policy: RetryPolicy) -> Passage:
        """Let a bulk call of an operation go through its breaker."""
        breaker = self.known.get(operation)
        if breaker is None:
            breaker = self.known[operation] = Breaker(operation, self)
        return Passage(breaker, policy)

    def arrange(self) -> None:
        """See who may probe now."""
        for breaker in self.known.values():
            breaker.arrange()

    def hasten(self) -> None:
        """The server is back for one operation: try the others now."""
        for breaker in self.known.values():
            breaker.hasten()

    def answered(self, operation: str) -> None:
        """An interactive call had a response."""
        breaker = self.known.get(operation)
        if breaker is not None and breaker.parked:
            breaker.answered()

    def outage(self) -> Outage | None:
        """The outage that bulk calls wait for, if there is one."""
        parked = [breaker for breaker in self.known.values() if breaker.parked]
        if not parked:
            return None
        now = asyncio.get_running_loop().time()
        longest = min(parked, key=lambda breaker: breaker.since)
        next_try = 0.0 if self.probe[0] is not None else max(0.0, min(breaker.next_try for breaker in parked) - now)
        return Outage(now - longest.since, longest.cause, next_try)
