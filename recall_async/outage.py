"""A circuit breaker: while the server is unavailable, bulk calls wait, and one of them at a time probes whether it is back.

A call that ends without a response, or with 502, 503 or 504, is a failure. An operation is parked when `THRESHOLD` calls in
a row failed, or when a call is about to be retried and nothing succeeded since it failed. While an operation is parked, only
probes are sent, after a backoff of up to 30 s and never before `Retry-After`. The first response of another kind ends the
outage. So an outage causes few retries, and does not use up the attempts of any call. Interactive calls are not parked: they
fail according to their retry policy.

Each operation is parked separately, because a gateway may fail for one path only. Each workspace has at most one probe in
flight.
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
"""Delays between probes, in seconds."""
SICK = 2
"""Number of failures of one call, while other calls succeed, from which on the call itself is suspected."""
LOG_EVERY = 10.0
"""Seconds between two warnings about one operation."""
UNAVAILABLE = frozenset({502, 503, 504})
"""Statuses with which a gateway says that the API is unavailable."""

logger: logging.Logger = logging.getLogger("recall_async")


class Scope(NamedTuple):
    """Settings for the bulk calls of a context. A job sets them for its tasks."""

    patience: float
    """Seconds of an outage after which the calls give up."""
    on_failure: Callable[[RecallError], None] | None = None
    """Called with each failure."""


SCOPE: ContextVar[Scope | None] = ContextVar("the scope of bulk calls", default=None)


@dataclass(frozen=True, slots=True)
class Outage:
    """An outage of the server, as a job sees it."""

    seconds: float
    """Seconds since the first failure of the outage."""
    cause: str
    """A status such as `503`, or `no response`."""
    next_try: float
    """Seconds until the next request is sent; 0 while one is on its way."""


def _outage(error: RecallError | None, now: float, until: float) -> RecallError | None:
    """Return the error if it means that the server is unavailable, otherwise `None`."""
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
        """The number of responses that the breaker had counted when this call last failed."""
        self.failed: bool = False
        """True if the last attempt met an outage."""
        self.error: RecallError | None = None
        self.counted: int = 0
        """Attempts that count for the retry policy: all but those that failed because the server was unavailable."""
        self.sent: int = 0

    @property
    def patient(self) -> bool:
        """True if the call is part of a job that waits for the server."""
        return self._scope is not None

    @property
    def suspected(self) -> bool:
        """True if the call failed `SICK` times or more while others succeeded."""
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
            f"the server has been unavailable for {now - breaker.since:.0f} s ({breaker.cause}). Some actions are "
            "unfinished: restart the job when the server is back, or allow a longer outage (max_outage)."
        )

    def may_send(self) -> bool:
        """Return whether the call may be sent: the operation may have been parked while the call waited for its slot."""
        return not self._breaker.parked or self._breaker.prober is self

    async def through(self, attempt: Awaitable[V], until: float) -> V:
        """Await `attempt`, which sends a request, and return its result. Raises any `RecallError`."""
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
        """Return whether the server caused the last failure, so that the call is retried however often it was before.

        Raises `ServerUnavailableError` if a retry cannot help.
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
        """End the call."""
        if self._breaker.prober is self:
            self._breaker.release(self)
            self._breaker.arrange()


class Breaker:
    """The breaker of one operation of a workspace. Times are in seconds of the event loop's clock."""

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
        """Number of failures in a row."""
        self.answers: int = 0
        """Number of responses that were not failures."""
        self.parked: bool = False
        self.since: float = 0.0
        """Time of the first failure in a row."""
        self.next_try: float = 0.0
        self.tries: int = 0
        self.cause: str = ""

    @property
    def prober(self) -> Passage | None:
        """The call that may be sent while the operation is parked; `None` if there is none."""
        breaker, passage = self._others.probe
        return passage if breaker is self else None

    def park(self, pause: float = 0.0) -> None:
        """Stop all calls but a probe, which may be sent after `pause` seconds."""
        self.parked, self.tries = True, 1
        self.next_try = max(self._loop.time() + pause, self._not_before)
        self._others.tell(self._name, self.cause, max(0.0, self.next_try - self._loop.time()))
        if self.next_try > self._loop.time():
            self._log()  # else a probe goes at once: only if that fails, too, it is worth a line

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

    def fail(self, error: RecallError, *, probed: bool) -> None:
        """Record that a request met an outage."""
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
            self._others.hasten()

    def hasten(self) -> None:
        """Probe now: another operation is available again."""
        if self.parked:
            self.next_try = max(self._loop.time(), self._not_before)

    def queue(self, passage: Passage) -> asyncio.Future[None]:
        """Return a future that is done when the server is back or the call is to probe."""
        turn = self._waiting[passage] = self._loop.create_future()
        self.arrange()
        return turn

    def leave(self, passage: Passage) -> None:
        """End the wait of a call."""
        turn = self._waiting.pop(passage)
        if turn.cancelled() and self.prober is passage:  # it was chosen as the probe just as it was cancelled
            self.release(passage)
            self.arrange()

    def release(self, passage: Passage) -> None:
        """End the probe of a call."""
        if self.prober is passage:
            self._others.probe = (None, None)
            self._others.arrange()

    def all_suspected(self) -> bool:
        """Return whether every waiting call is suspected of causing its own failures."""
        return all(passage.suspected for passage in self._waiting)

    def arrange(self) -> None:
        """Start the next probe as soon as it may be sent."""
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
    """An object that is told about outages while it exists."""

    def parked(self, operation: str, cause: str | None, seconds: float) -> None:
        """Called when bulk calls of an operation wait because of `cause`: the next probe is in `seconds`. If `cause` is
        `None`, they continue after an outage of `seconds`."""


class Breakers:
    """The breakers of one workspace in one event loop."""

    def __init__(self) -> None:
        self.known: dict[str, Breaker] = {}
        """The breakers of the operations that had bulk calls, by operation."""
        self.probe: tuple[Breaker, Passage] | tuple[None, None] = (None, None)
        self.listeners: WeakSet[Listener] = WeakSet()

    def tell(self, operation: str, cause: str | None, seconds: float) -> None:
        """Tell the listeners."""
        for listener in tuple(self.listeners):
            listener.parked(operation, cause, seconds)

    def passage(self, operation: str, policy: RetryPolicy) -> Passage:
        """Return the passage of a bulk call through the breaker of its operation."""
        breaker = self.known.get(operation)
        if breaker is None:
            breaker = self.known[operation] = Breaker(operation, self)
        return Passage(breaker, policy)

    def arrange(self) -> None:
        """Start the next probe, if one may be sent now."""
        for breaker in self.known.values():
            breaker.arrange()

    def hasten(self) -> None:
        """Probe the other operations now: the server is back for one."""
        for breaker in self.known.values():
            breaker.hasten()

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
        next_try = 0.0 if self.probe[0] is not None else max(0.0, min(breaker.next_try for breaker in parked) - now)
        return Outage(now - longest.since, longest.cause, next_try)
