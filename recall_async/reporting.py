"""Report what a session does: make the events, and pass them on to functions and to the log.

`caller.py` and `attempts.py` report what happens to calls; `events.py` has the classes.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import fields
from itertools import count
from logging import DEBUG, INFO, WARNING
from typing import Any

from .answers import told
from .call import NO_WAITS, Call
from .callbacks import Callback
from .checks import invalid
from .errors import APIError, AttemptTimeoutError, RecallError
from .events import (
    LONG_WAIT,
    AttemptEnded,
    BulkParked,
    BulkResumed,
    CallEnded,
    CallStarted,
    Event,
    Listener,
    PaceChanged,
    Paused,
    RetryScheduled,
    SlotGranted,
    logger,
    request_id_of,
)
from .limits.contract import LaneStatistics, QuotaLane
from .limits.quota import Priority
from .retry import Retry
from .secrecy import KeyMask, one_line
from .sending import Sending

SHORT_WAIT = 0.1
"""Seconds that a call with a free slot may wait for other things than the quota."""

_numbers: count[int] = count(1)


class Reporter:
    """Reports what one session does to `functions` and to the log. Makes no event that neither of them wants."""

    def __init__(self, workspace: str, mask: KeyMask, functions: Listener | Iterable[Listener] | None = None) -> None:
        self._workspace = workspace
        self._mask = mask
        given: tuple[Listener, ...] = ()
        if callable(functions):
            given = (functions,)
        elif functions is not None:
            given = tuple(functions) if isinstance(functions, Iterable) else (functions,)
        self._functions = tuple(Callback("on_event", function, "an event") for function in given)
        self.listening: bool = bool(given)
        """True if functions listen, besides the log."""
        self._announced: dict[str, float] = {}
        """Until when the last reported pause of each operation lasts, by the monotonic clock."""
        self.slowed: set[str] = set()
        """Operations whose last `PaceChanged` reported a reduced pace."""

    def wants(self, level: int) -> bool:
        """Return true if a function listens, or the log takes events of this level."""
        return self.listening or logger.isEnabledFor(level)

    def tell(self, event: Event, *, log: bool = True) -> None:
        """Log the event and call the functions with it."""
        level = event.log_level
        if log and logger.isEnabledFor(level):
            told = {
                f"recall_{field.name}": getattr(event, field.name) for field in fields(event) if field.name != "headers"
            }
            logger.log(level, "%s", one_line(str(event)), extra={"recall_event": type(event).__name__, **told})
        for function in self._functions:
            function(event, about=type(event).__name__)

    def started(self, call: Call[Any]) -> None:
        """Report that a call begins."""
        if not self.wants(DEBUG):
            return
        self.tell(CallStarted(**self._about(call), priority=getattr(call.priority, "name", "?")))

    def ended(self, call: Call[Any], duration: float, error: BaseException | None) -> None:
        """Report that a call is over."""
        self.tell(
            CallEnded(
                **self._about(call),
                attempts=call.attempts,
                waited=call.waited,
                duration=duration,
                error=None if error is None else type(error).__name__,
                status=call.status,
            )
        )

    def granted(self, call: Call[Any], before: LaneStatistics, lane: QuotaLane) -> None:
        """Report that a call has its slot; `before` is the state of the lane when the wait began."""
        wait, now = call.waited - call.told_waited, lane.statistics()
        in_lane = wait - sum(call.waits.values())
        waits = {_lane_reason(call, in_lane, before, now): in_lane, **call.waits}
        call.told_waited, call.waits = call.waited, NO_WAITS
        self.tell(
            SlotGranted(
                **self._about(call),
                attempt=call.attempts,
                wait=wait,
                why="nothing" if wait < 0.001 else max(waits, key=waits.__getitem__),
                taken=now.taken,
                limit=now.quota.limit,
            )
        )

    def paused(self, call: Call[Any], seconds: float, left: float) -> None:
        """Report a pause after a 429. `left` is what was left of the lane's pause, in seconds."""
        until = time.monotonic() + seconds
        # A `Retry-After` is rounded to whole seconds.
        repeated = left > 0 and until < self._announced.get(call.operation, -math.inf) + 1
        if not repeated:
            self._announced[call.operation] = until
        if self.wants(DEBUG if repeated else WARNING):
            self.tell(Paused(**self._about(call), seconds=seconds, repeated=repeated))

    def attempt_ended(
        self, call: Call[Any], attempt: Sending, begun: float, lane: QuotaLane, failed: str | None
    ) -> None:
        """Report that an attempt ended. `begun` is a time of the monotonic clock, for calls that are watched; `failed` is
        the name of the exception if there was no response."""
        duration = time.monotonic() - begun
        if call.watched and self.wants(INFO if duration >= LONG_WAIT else DEBUG):
            headers = told(attempt.headers.items(), self._mask.text)
            raised = sys.exc_info()[0]
            self.tell(
                AttemptEnded(
                    **self._about(call),
                    attempt=call.attempts,
                    status=attempt.status,
                    error=failed if raised is None else raised.__name__,
                    duration=duration,
                    request_id=request_id_of(headers),
                    headers=headers,
                )
            )
        if attempt.status == 429 or call.operation in self.slowed:
            pace = lane.statistics().pace
            if (call.operation in self.slowed) is (pace is None):
                self.slowed ^= {call.operation}
                if self.wants(WARNING):
                    self.tell(PaceChanged(**self._about(call), pace=pace))

    def retried(self, call: Call[Any], retry: Retry) -> None:
        """Report that a request will be sent again."""
        if self.wants(INFO):
            self.tell(
                RetryScheduled(
                    **self._about(call),
                    attempt=call.attempts,
                    reason=_reason(retry.error),
                    after=max(retry.after, retry.pause or 0.0),
                    new_key=retry.new_key,
                )
            )

    def parked(self, operation: str, cause: str | None, seconds: float) -> None:
        """Report that bulk calls wait because of `cause`, or continue if it is `None`. `outage.py` logs it."""
        about = {"workspace": self._workspace, "operation": operation}
        if cause is None:
            self.tell(BulkResumed(**about, seconds=seconds), log=False)
        else:
            self.tell(BulkParked(**about, cause=cause, next_try=seconds), log=False)

    def _about(self, call: Call[Any]) -> dict[str, Any]:
        """Return the fields that all events of a call have."""
        if not call.number:
            call.number = next(_numbers)  # unique in the process
        return {"workspace": self._workspace, "operation": call.operation, "call": call.number}


def _lane_reason(call: Call[Any], wait: float, before: LaneStatistics, now: LaneStatistics) -> str:
    """Return why a call waited for its slot; `before` is the state of the lane when the call arrived."""
    if before.paused or now.throttled > before.throttled:
        return "pause"
    if before.pace is not None:
        return "pace"
    # With slots to spare before and after, a short wait was one for the processor or for Redis' reply.
    spare = before.free > before.waiting_interactive and now.free > 0 and now.quota.burst is None
    return "nothing" if spare and call.priority is Priority.INTERACTIVE and wait < SHORT_WAIT else "quota"


def _reason(error: RecallError) -> str:
    if isinstance(error, APIError):
        return str(error.status)
    return "timeout" if isinstance(error, AttemptTimeoutError) else "no answer"


def log_as_the_environment_says() -> None:
    """Print the log to standard error if `RECALL_LOG` is `debug`, `info` or `warning`.

    Raises `ConfigurationError` for other values.
    """
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
    """The handler that `RECALL_LOG` installs, at most once."""
