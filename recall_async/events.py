"""Events report what a session does, to functions of the program and to the log. docs/observability.md

`RecallSession(on_event=...)` takes one function or several, which are called with the frozen objects below. They run in the
task that makes the call, so they must not block. An exception in them is logged and changes nothing.

The logger `recall_async` gets the same events: attempts at DEBUG; retries, and waits, attempts and calls of a second or
more, at INFO; pauses and a reduced pace at WARNING. `RECALL_LOG=debug` or `info` prints the log to standard error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import ClassVar, Final

from .secrecy import one_line

LONG_WAIT: Final = 1.0
"""Seconds from which a wait, an attempt or a call is logged at INFO."""
REQUEST_IDS: Final = ("x-request-id", "request-id", "x-amzn-requestid", "cf-ray")
"""Response headers that hold the request id, which the server or a proxy in front of it assigned."""
WAITED_FOR: Final = {
    "quota": "for the quota",
    "pause": "for the pause after a 429",
    "pace": "because of the reduced pace after a 429",
    "key": "for another call with the same deduplication key",
    "outage": "for the server, which was unavailable",
    "budget": "for the retry budget of the workspace",
    "connections": "for a connection",
}
"""The reasons of `SlotGranted.why`, in words."""

logger: logging.Logger = logging.getLogger("recall_async")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The base class of all events."""

    level: ClassVar[int] = logging.DEBUG
    workspace: str

    @property
    def log_level(self) -> int:
        """The level at which it is logged."""
        return self.level

    def __str__(self) -> str:
        told = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
        return one_line(f"{type(self).__name__}: {told}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent(Event):
    """An event of one call."""

    operation: str
    """The operation of the call, such as `calendar_events.schedule_bot`."""
    call: int
    """A number that all events of the call share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(CallEvent):
    """A call begins."""

    priority: str
    """`INTERACTIVE` or `BULK`."""

    def __str__(self) -> str:
        return f"{self.operation} #{self.call}: begins ({self.priority.lower()})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(CallEvent):
    """A call is over."""

    attempts: int
    """The number of requests that were sent."""
    waited: float
    """Seconds spent waiting for the quota, for other calls with the same deduplication key, and between attempts."""
    duration: float
    """Seconds in total."""
    error: str | None
    """The class name of the exception that the call raised; `None` if it succeeded."""
    status: int | None = None
    """The status of the last response, if there was one."""

    @property
    def log_level(self) -> int:
        """The level at which it is logged: INFO after a retry, or if it took a second that no earlier line explains."""
        slow = self.duration - (self.waited if self.error is None else 0.0) >= LONG_WAIT
        return logging.INFO if slow or self.attempts > 1 else logging.DEBUG

    def __str__(self) -> str:
        return (
            f"{self.operation} #{self.call}: {self.error or 'done'} after {self.duration:.2f} s, {self.waited:.2f} s of it "
            f"waiting; {self.attempts} request{'' if self.attempts == 1 else 's'}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotGranted(CallEvent):
    """A call may send a request now."""

    attempt: int
    """The number of the request, from 1."""
    wait: float
    """Seconds that the call waited for this, without the backoff that `RetryScheduled.after` has."""
    why: str
    """The longest part of the wait: `quota` (all slots were taken, or other calls had precedence), `pause` (after a 429),
    `pace` (reduced after a 429), `key` (another call with the same deduplication key was in flight), `outage` (the server
    was unavailable), `budget` (the retry budget was used up), `connections` (all of the session's were in use), or
    `nothing`."""
    taken: int
    """Slots of the quota in use now."""
    limit: int
    """Slots of the quota in total."""

    @property
    def log_level(self) -> int:
        """The level at which it is logged."""
        return logging.INFO if self.wait >= LONG_WAIT else logging.DEBUG

    def __str__(self) -> str:
        reason = WAITED_FOR.get(self.why)
        waited = f"waited {self.wait:.2f} s {reason}" if reason else "did not wait"
        slots = f"{self.taken} of {self.limit} slots are in use"
        return f"{self.operation} #{self.call}: {waited} before attempt {self.attempt}; {slots}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(CallEvent):
    """A request got its response, failed, or was cancelled."""

    attempt: int
    """The number of the request, from 1."""
    status: int | None
    """The status of the response; `None` if there was no response."""
    error: str | None
    """The class name of the exception if there was no usable response."""
    duration: float
    """Seconds from sending to the end of the response."""
    request_id: str | None
    """The request id that the server, or a proxy in front of it, assigned."""
    headers: Mapping[str, str]
    """The headers of the response, also of a successful one, by lower-case name."""

    @property
    def log_level(self) -> int:
        """The level at which it is logged."""
        return logging.INFO if self.duration >= LONG_WAIT else logging.DEBUG

    def __str__(self) -> str:
        named = f", request id {one_line(self.request_id, 80)}" if self.request_id else ""
        result = self.status if self.status is not None else self.error
        return (
            f"{self.operation} #{self.call}: attempt {self.attempt} ended with {result} in {self.duration:.3f} s{named}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryScheduled(CallEvent):
    """A request will be sent again."""

    level: ClassVar[int] = logging.INFO
    attempt: int
    """The number of the request that failed."""
    reason: str
    """The status of its response, or `no answer`, `timeout`."""
    after: float
    """The least seconds until the next request: the backoff, or the pause after a 429."""
    new_key: bool
    """True if the next request has a new idempotency key."""

    def __str__(self) -> str:
        again = "after the pause" if self.reason == "429" else f"in {self.after:.2f} s"
        return f"{self.operation} #{self.call}: attempt {self.attempt} failed ({self.reason}), trying again {again}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(CallEvent):
    """A 429 response pauses all requests of an operation."""

    level: ClassVar[int] = logging.WARNING
    seconds: float
    """How long they pause."""
    repeated: bool = False
    """True if an earlier event of the session announced the pause: another request in flight got a 429, too."""

    @property
    def log_level(self) -> int:
        """The level at which it is logged: DEBUG if an earlier line announced the pause."""
        return logging.DEBUG if self.repeated else self.level

    def __str__(self) -> str:
        return (
            f"{self.operation} #{self.call}: got a 429, so this operation's requests in workspace {self.workspace} pause "
            f"for {self.seconds:.1f} s; another client uses its quota, or the quota is smaller than configured"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceChanged(CallEvent):
    """An operation slows down after a 429, because other clients use its quota too, or is back at its full pace."""

    pace: float | None
    """Requests per second; `None` for the full pace."""

    @property
    def log_level(self) -> int:
        """The level at which it is logged."""
        return logging.INFO if self.pace is None else logging.WARNING

    def __str__(self) -> str:
        if self.pace is None:
            return f"{self.operation}: requests are sent at the full pace again"
        return f"{self.operation}: at most {self.pace:.2f} requests per second for now, because of the 429"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkParked(Event):
    """Bulk calls of an operation wait because the server is unavailable."""

    operation: str
    """The operation of the calls."""
    cause: str
    """Such as `503`, `connection refused`, or `no response`."""
    next_try: float
    """Seconds until a request tests whether the server is back."""

    def __str__(self) -> str:
        return f"{self.operation}: bulk calls wait because the server is unavailable ({self.cause})"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResumed(Event):
    """Bulk calls of an operation continue."""

    operation: str
    """The operation of the calls."""
    seconds: float
    """How long the server was unavailable."""

    def __str__(self) -> str:
        return f"{self.operation}: bulk calls continue after {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgressed(Event):
    """An action of a bulk job is finished."""

    done: int
    """Actions of the job that were done so far."""
    failed: int
    """Actions that failed."""
    skipped: int
    """Actions that were skipped."""
    total: int | None
    """Actions of the job, if known."""

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        finished = self.done + self.failed + self.skipped
        return f"bulk job: {finished}{of} actions finished, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade(Event):
    """A plan was made."""

    level: ClassVar[int] = logging.INFO
    events: int
    """The number of events that were examined."""
    requests: int
    """The number of requests that applying the plan takes."""
    duration: float
    """Seconds that planning took."""

    def __str__(self) -> str:
        return (
            f"plan: examined {self.events} events in {self.duration:.1f} s; applying it takes {self.requests} requests"
        )


Listener = Callable[[Event], object]


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """Return the request id of a response; `headers` are by lower-case name."""
    return next((headers[name] for name in REQUEST_IDS if name in headers), None)
