"""What is told of calls: the moments of `caller.py`, put into the words of `events.py`."""

from __future__ import annotations

import sys
import time
from logging import DEBUG, INFO, WARNING
from typing import Any

from .answers import told
from .call import Call
from .errors import APIError, AttemptTimeoutError, RecallError
from .events import (
    AttemptEnded,
    BulkParked,
    BulkResumed,
    CallEnded,
    CallStarted,
    Observers,
    PaceChanged,
    Paused,
    RetryScheduled,
    SlotGranted,
    next_call,
    request_id_of,
)
from .limits.contract import LaneStatistics, QuotaLane
from .retry import Retry
from .secrecy import KeyMask
from .transport import SendOnce


class Reporter:
    """Tells the observers of one session what its calls do. Nothing is put together that nobody wants to know."""

    def __init__(self, workspace: str, observers: Observers, mask: KeyMask) -> None:
        self._workspace = workspace
        self._mask = mask
        self.slowed: set[str] = set()
        """Operations that go slower than their quota, as far as was told."""
        self.observers: Observers = observers

    def started(self, call: Call[Any]) -> None:
        """A call begins."""
        self.observers.tell(CallStarted(**self._about(call), priority=getattr(call.priority, "name", "?")))

    def ended(self, call: Call[Any], duration: float, error: BaseException | None) -> None:
        """A call is over."""
        self.observers.tell(
            CallEnded(
                **self._about(call),
                attempts=call.account.attempts,
                waited=call.account.waited,
                duration=duration,
                error=None if error is None else type(error).__name__,
                status=call.status,
            )
        )

    def granted(self, call: Call[Any], wait: float, before: LaneStatistics, lane: QuotaLane) -> None:
        """A call has its slot after so many seconds; `before` is the lane when it began to wait."""
        attempts = call.account.attempts
        if attempts == 1 and call.key_wait > wait:
            why = "key"
        elif wait < 0.001:
            why = "nothing"
        else:
            why = "pause" if before.paused else "pace" if before.pace is not None else "quota"
        if attempts == 1:
            wait += call.key_wait
        now = lane.statistics()
        self.observers.tell(
            SlotGranted(
                **self._about(call), attempt=attempts, wait=wait, why=why, taken=now.taken, limit=now.quota.limit
            )
        )

    def paused(self, call: Call[Any], seconds: float) -> None:
        """A 429 has arrived."""
        if self.observers.wants(WARNING):
            self.observers.tell(Paused(**self._about(call), seconds=seconds))

    def attempt_ended(self, call: Call[Any], attempt: SendOnce, begun: float, lane: QuotaLane) -> None:
        """An attempt is over; it began at this time of the monotonic clock, if its call is watched."""
        if call.watched and self.observers.wants(DEBUG):
            headers = told(attempt.headers.items(), self._mask.text)
            raised = sys.exc_info()[0]
            self.observers.tell(
                AttemptEnded(
                    **self._about(call),
                    attempt=call.account.attempts,
                    status=attempt.status,
                    error=raised.__name__
                    if raised is not None
                    else None
                    if attempt.status
                    else "ConnectionFailedError",
                    duration=time.monotonic() - begun,
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
        """A request will be sent again."""
        if self.observers.wants(INFO):
            self.observers.tell(
                RetryScheduled(
                    **self._about(call),
                    attempt=call.account.attempts,
                    reason=_reason(retry.error),
                    after=max(retry.after, retry.pause or 0.0),
                    new_key=retry.new_key,
                )
            )

    def parked(self, operation: str, cause: str | None, seconds: float) -> None:
        """Bulk calls wait because of `cause`, or go on if that is `None`; the log has it already."""
        about = {"workspace": self._workspace, "operation": operation}
        if cause is None:
            self.observers.tell(BulkResumed(**about, seconds=seconds), log=False)
        else:
            self.observers.tell(BulkParked(**about, cause=cause, next_try=seconds), log=False)

    def _about(self, call: Call[Any]) -> dict[str, Any]:
        """What all events of a call say."""
        if not call.number:
            call.number = next_call()
        return {"workspace": self._workspace, "operation": call.operation, "call": call.number}


def _reason(error: RecallError) -> str:
    if isinstance(error, APIError):
        return str(error.status)
    return "timeout" if isinstance(error, AttemptTimeoutError) else "no answer"
