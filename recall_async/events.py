"""What a session does while a caller waits, told as it happens: to functions of the program, and to the log.

`RecallSession(on_event=...)` takes a function, or several, that are called with one of the frozen objects below. They run
in the task that makes the call and must not wait; what they raise is logged and changes nothing. docs/observability.md

The logger `recall_async` tells the same: attempts at DEBUG, retries and waits of more than a second at INFO, pauses and
a reduced pace at WARNING. `RECALL_LOG=debug` or `info` prints it to standard error.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from itertools import count
from typing import ClassVar, Final

from .checks import invalid
from .secrecy import one_line

LONG_WAIT: Final = 1.0
"""Seconds of a wait from which it is logged at INFO."""
REQUEST_IDS: Final = ("x-request-id", "request-id", "x-amzn-requestid", "cf-ray")
"""Headers in which a server, or what stands before it, names a request."""

logger: logging.Logger = logging.getLogger("recall_async")
_numbers: count[int] = count(1)


def next_call() -> int:
    """Number the calls of the process, so that what is told of one can be put together."""
    return next(_numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The root of all that is told."""

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
    """Something about one call."""

    operation: str
    """Its operation, such as `calendar_events.schedule_bot`."""
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
    """Requests that were sent for it."""
    waited: float
    """Seconds that it waited for its quota, for others with its deduplication key, and between attempts."""
    duration: float
    """Seconds in all."""
    error: str | None
    """The name of the exception that it raises; `None` if it was done."""
    status: int | None = None
    """Of the last response, where there was one."""

    def __str__(self) -> str:
        end = self.error or "done"
        return (
            f"{self.operation} #{self.call}: {end} after {self.duration:.2f} s, of which it waited {self.waited:.2f} s; "
            f"{self.attempts} requests"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SlotGranted(CallEvent):
    """A call may send a request."""

    attempt: int
    """The number of the request, from 1."""
    wait: float
    """Seconds that it waited for this."""
    why: str
    """Why it waited: `nothing`, `quota` (all slots taken, or others first), `pause` (after a 429), `pace` (reduced after a
    429), or `key` (another call had its deduplication key)."""
    taken: int
    """Slots of the quota that are taken now."""
    limit: int

    @property
    def log_level(self) -> int:
        """The level at which it is logged."""
        return logging.INFO if self.wait >= LONG_WAIT else logging.DEBUG

    def __str__(self) -> str:
        return (
            f"{self.operation} #{self.call}: waited {self.wait:.2f} s for attempt {self.attempt} ({self.why}); "
            f"{self.taken} of {self.limit} slots are taken"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded(CallEvent):
    """A request was answered, failed or cancelled."""

    attempt: int
    status: int | None
    """Of the response; `None` if there was none."""
    error: str | None
    """Why there was none, or why it is not one: the name of an exception."""
    duration: float
    """Seconds from sending to the end of the response."""
    request_id: str | None
    """How the server, or what stands before it, names the request."""
    headers: Mapping[str, str]
    """Of the response, of a successful one too, by lower-case name."""

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
    """The number of the one that failed."""
    reason: str
    """The status of its response, or `no answer`, `timeout`."""
    after: float
    """Seconds until then, at the least."""
    new_key: bool
    """Whether it gets a new idempotency key."""

    def __str__(self) -> str:
        return (
            f"{self.operation} #{self.call}: attempt {self.attempt} failed ({self.reason}); "
            f"the next one follows in {self.after:.2f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(CallEvent):
    """A 429 holds back all requests of an operation."""

    level: ClassVar[int] = logging.WARNING
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.operation}: the server answered 429, so all requests of workspace {self.workspace} pause for "
            f"{self.seconds:.1f} s: somebody else uses its quota, too"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceChanged(CallEvent):
    """An operation goes slower than its quota allows because others use that too, or goes at full pace again."""

    pace: float | None
    """Requests per second; `None` for the full pace."""

    @property
    def log_level(self) -> int:
        """The level at which it is logged."""
        return logging.INFO if self.pace is None else logging.WARNING

    def __str__(self) -> str:
        if self.pace is None:
            return f"{self.operation}: requests go at the full pace again"
        return (
            f"{self.operation}: requests go at {self.pace:.2f} a second for a while, because others use the quota too"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkParked(Event):
    """Bulk calls of an operation wait because the server is unavailable."""

    operation: str
    cause: str
    """`503`, say, or `no response`."""
    next_try: float
    """Seconds until a request tries whether it is back."""

    def __str__(self) -> str:
        return f"{self.operation}: bulk calls wait, the server is unavailable ({self.cause})"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkResumed(Event):
    """Bulk calls of an operation go on."""

    operation: str
    seconds: float
    """For how long the server was unavailable."""

    def __str__(self) -> str:
        return f"{self.operation}: bulk calls go on after {self.seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobProgressed(Event):
    """An action of a bulk job is finished."""

    done: int
    failed: int
    skipped: int
    total: int | None

    def __str__(self) -> str:
        of = "" if self.total is None else f" of {self.total}"
        finished = self.done + self.failed + self.skipped
        return f"bulk job: {finished}{of} actions finished, {self.failed} failed, {self.skipped} skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanMade(Event):
    """A plan was made."""

    level: ClassVar[int] = logging.INFO
    events: int
    """Events that were looked at."""
    requests: int
    """Requests that the plan takes."""
    duration: float
    """Seconds."""

    def __str__(self) -> str:
        return f"plan: {self.events} events were looked at, {self.requests} requests are needed ({self.duration:.1f} s)"


Listener = Callable[[Event], object]


class Observers:
    """Who is told what a session does: the functions that it was given, and the log."""

    __slots__ = ("_functions",)

    def __init__(self, functions: Listener | Iterable[Listener] | None = None) -> None:
        given: tuple[Listener, ...] = ()
        if callable(functions):
            given = (functions,)
        elif functions is not None:
            given = tuple(functions) if isinstance(functions, Iterable) else (functions,)
        for function in given:
            if not callable(function):
                raise invalid("on_event", "a plain function that takes an event, or several", function)
        self._functions = given

    def wants(self, level: int) -> bool:
        """Whether anybody listens to events of this level."""
        return bool(self._functions) or logger.isEnabledFor(level)

    @property
    def listening(self) -> bool:
        """Whether functions listen, beside the log."""
        return bool(self._functions)

    def tell(self, event: Event, *, log: bool = True) -> None:
        """Tell everybody; nobody's failure is the caller's."""
        level = event.log_level
        if log and logger.isEnabledFor(level):
            told = {
                f"recall_{field.name}": getattr(event, field.name) for field in fields(event) if field.name != "headers"
            }
            logger.log(level, "%s", event, extra={"recall_event": type(event).__name__, **told})
        for function in self._functions:
            try:
                function(event)
            except Exception:
                logger.exception("on_event failed for %s", type(event).__name__)


def request_id_of(headers: Mapping[str, str]) -> str | None:
    """How the server names a request; `headers` are by lower-case name."""
    return next((headers[name] for name in REQUEST_IDS if name in headers), None)


def log_as_the_environment_says() -> None:
    """Print the log to standard error if `RECALL_LOG` is `debug` or `info`. Raises `ConfigurationError` for other levels."""
    wanted = os.environ.get("RECALL_LOG")
    if not wanted:
        return
    level = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING}.get(wanted.lower())
    if level is None:
        raise invalid("RECALL_LOG", "debug, info or warning", wanted)
    if not any(isinstance(handler, _EnvironmentHandler) for handler in logger.handlers):
        handler = _EnvironmentHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
    logger.setLevel(level)


class _EnvironmentHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """The handler that `RECALL_LOG` asks for; there is one at the most."""
