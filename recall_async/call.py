"""One call: its request, and its state from the first attempt to the last."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Generic, NamedTuple, TypeVar

from .limits.quota import Priority
from .operations import Request
from .retry import RetryPolicy
from .stopping import StopSignal
from .transport import new_idempotency_key

T = TypeVar("T")
NO_WAITS: Mapping[str, float] = MappingProxyType({})


class Call(Generic[T]):
    """A request, with its attempts, its waits and its deadline."""

    __slots__ = (
        "attempts", "begun", "ended", "idempotency_key", "in_doubt", "in_flight", "number", "operation", "policy",
        "priority", "request", "status", "stop", "told_waited", "until", "waited", "waits", "watched",
    )  # fmt: skip

    def __init__(
        self,
        request: Request[T],
        priority: Priority,
        until: float,
        policy: RetryPolicy,
        idempotency_key: str | None = None,
        stop: StopSignal | None = None,
    ) -> None:
        self.request: Request[T] = request
        self.operation: str = request.operation.name
        self.priority: Priority = priority
        self.until: float = until
        """The deadline, a time of the loop's clock."""
        self.policy: RetryPolicy = policy
        self.idempotency_key = idempotency_key
        self.in_doubt: bool = False
        """True if an attempt without a response may have taken effect."""
        self.stop: StopSignal | None = stop
        """Checked before each request."""
        self.attempts: int = 0
        self.waited: float = 0.0
        """Seconds spent waiting for keys, slots, pauses and backoffs, but not for the server."""
        self.in_flight: bool = False
        """True while a request of a bulk call is in flight."""
        self.begun: float = 0.0
        self.ended: bool = False
        """True if the call was ended because its session was closed."""
        self.number: int = 0
        """The call's number in this process; 0 until an event needs it."""
        self.watched: bool = False
        """True if a listener or the log gets the call's events."""
        self.waits: Mapping[str, float] = NO_WAITS
        """Seconds waited since the last attempt for something other than the quota, by reason."""
        self.told_waited: float = 0.0
        """The part of `waited` that events have already reported."""
        self.status: int | None = None
        """The status of the last response."""

    def count_wait(self, reason: str, seconds: float) -> None:
        """Count seconds that the call waited for something other than its quota."""
        if seconds > 0.0:
            self.waited += seconds
            self.waits = {**self.waits, reason: self.waits.get(reason, 0.0) + seconds}

    def renew_key(self) -> None:
        """Take a new idempotency key, if the operation has one: earlier attempts had no effect."""
        if self.request.operation.keyed:
            self.idempotency_key = new_idempotency_key()
            self.in_doubt = False


class Done(NamedTuple, Generic[T]):
    """The attempt succeeded."""

    answer: T
