"""The way of one bulk call through the circuit breaker in `outage.py`: it waits during an outage, and probes.

A call of a job waits as long as the job's `Scope` allows, and its failures during an outage do not use up its attempts.
Other bulk calls wait for as long as their retry policy would.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from .call import Call
from .errors import (
    APIError,
    AttemptTimeoutError,
    ConnectionFailedError,
    DeadlineExceededError,
    RecallError,
    ServerUnavailableError,
)
from .outage import Breaker

V = TypeVar("V")

SICK = 2
"""Failures of a call, while other calls succeed, after which the call itself is suspected."""
UNAVAILABLE = frozenset({502, 503, 504})
"""Statuses with which a gateway says that the API is unavailable."""


class Scope(NamedTuple):
    """Settings for the bulk calls of a context. A job sets them for its tasks."""

    patience: float
    """Seconds of an outage after which the calls give up."""
    on_failure: Callable[[RecallError], None] | None = None
    """Called with each failure."""


SCOPE: ContextVar[Scope | None] = ContextVar("the scope of bulk calls", default=None)


class Passage:
    """One bulk call. Close it when the call is over."""

    __slots__ = ("_answers", "_begun", "_breaker", "_call", "_scope", "counted", "error", "failed")

    def __init__(self, breaker: Breaker, call: Call[Any]) -> None:
        self._breaker = breaker
        self._call = call
        self._scope = SCOPE.get()
        self._begun = asyncio.get_running_loop().time()
        self._answers = -1
        """The number of responses that the breaker had counted when this call last failed."""
        self.failed: bool = False
        """True if the last attempt met an outage."""
        self.error: RecallError | None = None
        self.counted: int = 0
        """Attempts that count for the retry policy: all but those that failed because the server was unavailable."""

    @property
    def patient(self) -> bool:
        """True if the call is part of a job that waits for the server."""
        return self._scope is not None

    @property
    def suspected(self) -> bool:
        """True if the call failed `SICK` times or more while others succeeded."""
        return self.failed and self.counted >= SICK

    @property
    def number(self) -> int:
        """The number of the current attempt for the retry policy."""
        return self.counted + 1 if self.patient else self._call.attempts

    async def wait(self) -> None:
        """Return when a request may be sent, at once unless the operation is parked. Raises any `RecallError`."""
        breaker, call = self._breaker, self._call
        if self.failed and breaker.failures and not breaker.parked:
            breaker.park()  # its retry is due, and nothing succeeded since
        if self.may_send():
            return
        now = asyncio.get_running_loop().time
        asked = now()
        if self._scope is not None:
            limit = breaker.since + self._scope.patience
        else:
            limit = max(breaker.since, self._begun) + call.policy.patience
        first = min(limit, call.until)
        try:
            async with asyncio.timeout_at(None if first == math.inf else first):
                while not self.may_send():
                    await breaker.turn(self)
        except TimeoutError:
            if call.until < limit:
                what = f"the server is unavailable ({breaker.cause}) and was not back by the deadline"
                raise DeadlineExceededError(what if call.attempts else f"{what}; nothing was sent") from self.error
            raise self._given_up(now()) from self.error
        finally:
            call.count_wait("outage", now() - asked)

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
        return self._breaker.may_send(self)

    async def through(self, attempt: Awaitable[V]) -> V:
        """Await `attempt`, which sends a request, and return its result. Raises any `RecallError`."""
        call = self._call
        self._breaker.in_flight += 1
        call.in_flight = True
        failure: RecallError | None = None
        answered = False
        try:
            result = await attempt
            failure = _outage(getattr(result, "error", None), asyncio.get_running_loop().time(), call.until)
            answered = True
            return result
        except RecallError:
            answered = True
            raise
        finally:
            self._end(failure, answered=answered)
            call.in_flight = False  # last: a job that ends because of this failure cancels calls that have no request

    def _end(self, failure: RecallError | None, *, answered: bool) -> None:
        breaker = self._breaker
        breaker.in_flight -= 1
        if failure is None:
            self.failed = False
            if answered:
                self.counted += 1
                breaker.answered()
        else:
            if not self.failed or self._answers != breaker.answers:
                self.counted += 1
            self.failed, self.error, self._answers = True, failure, breaker.answers
            breaker.fail(failure, self)
            if self._scope is not None and self._scope.on_failure is not None:
                self._scope.on_failure(failure)
        breaker.release(self)  # last: the next probe waits for as long as this one's failure says

    def excused(self) -> bool:
        """Return whether the server caused the last failure, so that the call is retried however often it was before.

        Raises `ServerUnavailableError` if a retry cannot help.
        """
        if self.patient and not self._breaker.answers and getattr(self.error, "permanent", False):
            raise ServerUnavailableError(
                f"the server cannot be reached: {self.error} Nothing was done."
            ) from self.error
        attempts = max(self._call.policy.attempts, SICK)
        if not self.patient or not self.failed or self.counted >= attempts:
            return False
        alone = self.suspected and self._breaker.all_suspected()
        return not (alone and self._call.attempts >= attempts)

    def close(self) -> None:
        """End the call."""
        self._breaker.release(self)


def _outage(error: RecallError | None, now: float, until: float) -> RecallError | None:
    """Return the error if it means that the server is unavailable, otherwise `None`."""
    if isinstance(error, AttemptTimeoutError):
        return error if now < until - 0.01 else None  # else it was the call's own deadline
    unavailable = isinstance(error, APIError) and error.status in UNAVAILABLE
    return error if unavailable or isinstance(error, ConnectionFailedError) else None
