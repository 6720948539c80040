"""Make the events of calls: `caller.py` and `attempts.py` report what happens, `events.py` has the classes."""

from __future__ import annotations

import sys
import time
from itertools import count
from logging import DEBUG, INFO, WARNING
from typing import Any

from .answers import told
from .call import NO_WAITS, Call
from .errors import APIError, AttemptTimeoutError, RecallError
from .events import (
    LONG_WAIT,
    AttemptEnded,
    BulkParked,
    BulkResumed,
    CallEnded,
    CallStarted,
    PaceChanged,
    Paused,
    RetryScheduled,
    SlotGranted,
    request_id_of,
)
from .limits.contract import LaneStatistics, QuotaLane
from .observers import Observers
from .retry import Retry
from .secrecy import KeyMask
from .sending import Sending

_numbers: count[int] = count(1)


class Reporter:
    """Reports the calls of one session to its observers. Makes no event without a listener."""

    def __init__(self, workspace: str, observers: Observers, mask: KeyMask) -> None:
        self._workspace = workspace
        self._mask = mask
        self.slowed: set[str] = set()
        """Operations whose last `PaceChanged` reported a reduced pace."""
        self.observers: Observers = observers

    def started(self, call: Call[Any]) -> None:
        """Report that a call begins."""
        if not self.observers.wants(DEBUG):
            return
        self.observers.tell(CallStarted(**self._about(call), priority=getattr(call.priority, "name", "?")))

    def ended(self, call: Call[Any], duration: float, error: BaseException | None) -> None:
        """Report that a call is over."""
        self.observers.tell(
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
        reason = _lane_reason(before, now)
        waits = {reason: wait - sum(call.waits.values()), **call.waits}
        call.told_waited, call.waits = call.waited, NO_WAITS
        self.observers.tell(
            SlotGranted(
                **self._about(call),
                attempt=call.attempts,
                wait=wait,
                why="nothing" if wait < 0.001 else max(waits, key=waits.__getitem__),
                taken=now.taken,
                limit=now.quota.limit,
            )
        )

    def paused(self, call: Call[Any], seconds: float) -> None:
        """Report a pause after a 429."""
        if self.observers.wants(WARNING):
            self.observers.tell(Paused(**self._about(call), seconds=seconds))

    def attempt_ended(self, call: Call[Any], attempt: Sending, begun: float, lane: QuotaLane) -> None:
        """Report that an attempt ended. `begun` is a time of the monotonic clock, for calls that are watched."""
        duration = time.monotonic() - begun
        if call.watched and self.observers.wants(INFO if duration >= LONG_WAIT else DEBUG):
            headers = told(attempt.headers.items(), self._mask.text)
            raised = sys.exc_info()[0]
            self.observers.tell(
                AttemptEnded(
                    **self._about(call),
                    attempt=call.attempts,
                    status=attempt.status,
                    error=raised.__name__
                    if raised is not None
                    else None
                    if attempt.status
                    else "ConnectionFailedError",
                    duration=duration,
                    request_id=request_id_of(headers),
                    headers=headers,
                )
            )
        if attempt.status == 429 or call.operation in self.slowed:
            pace = lane.statistics().pace
            if (call.operation in self.slowed) is (pace is None):
                self.slowed ^= {call.operation}
                if self.observers.wants(WARNING):
                    self.observers.tell(PaceChanged(**self._about(call), pace=pace))

    def retried(self, call: Call[Any], retry: Retry) -> None:
        """Report that a request will be sent again."""
        if self.observers.wants(INFO):
            self.observers.tell(
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
            self.observers.tell(BulkResumed(**about, seconds=seconds), log=False)
        else:
            self.observers.tell(BulkParked(**about, cause=cause, next_try=seconds), log=False)

    def _about(self, call: Call[Any]) -> dict[str, Any]:
        """Return the fields that all events of a call have."""
        if not call.number:
            call.number = next(_numbers)  # unique in the process
        return {"workspace": self._workspace, "operation": call.operation, "call": call.number}


def _lane_reason(before: LaneStatistics, now: LaneStatistics) -> str:
    """Return why a call waited for its slot; `before` is the state of the lane when the call arrived."""
    if before.paused or now.throttled > before.throttled:
        return "pause"
    return "quota" if before.pace is None else "pace"


def _reason(error: RecallError) -> str:
    if isinstance(error, APIError):
        return str(error.status)
    return "timeout" if isinstance(error, AttemptTimeoutError) else "no answer"
