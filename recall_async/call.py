"""One call as a value: the request that is to be answered, and what it has cost so far."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from .limits.quota import Priority
from .operations import Request
from .retry import RetryPolicy
from .stopping import StopSignal
from .transport import new_idempotency_key

T = TypeVar("T")


class Account:
    """What one call has cost so far."""

    __slots__ = ("attempts", "in_flight", "stop", "waited")

    def __init__(self, stop: StopSignal | None = None) -> None:
        self.stop: StopSignal | None = stop
        """Is asked before each request."""
        self.in_flight: bool = False
        """Whether a request is on its way."""
        self.attempts: int = 0
        self.waited: float = 0.0
        """Seconds spent waiting for keys, slots, pauses and backoffs, and not for the server."""


class Call(Generic[T]):
    """A request that is to be answered, and what has become of it so far."""

    __slots__ = (
        "account", "begun", "ended", "idempotency_key", "in_doubt", "number", "operation", "policy", "priority", "request",
        "status", "told_waited", "until", "waits", "watched",
    )  # fmt: skip

    def __init__(
        self,
        request: Request[T],
        priority: Priority,
        until: float,
        policy: RetryPolicy,
        idempotency_key: str | None = None,
        account: Account | None = None,
    ) -> None:
        self.request: Request[T] = request
        self.operation: str = request.operation.name
        self.priority: Priority = priority
        self.until: float = until
        """The time of the loop's clock by which it must be through."""
        self.policy: RetryPolicy = policy
        self.idempotency_key = idempotency_key
        self.in_doubt: bool = False
        """Whether an attempt that was not answered may have taken effect."""
        self.account: Account = account or Account()
        self.begun: float = 0.0
        self.ended: bool = False
        """Whether it was ended because its session was closed."""
        self.number: int = 0
        """In the process, once somebody is told of it."""
        self.watched: bool = False
        """Whether somebody is told of it."""
        self.waits: dict[str, float] = {}
        """Seconds that it has waited since its last attempt for something other than its quota, by reason."""
        self.told_waited: float = self.account.waited
        """The part of `account.waited` that events have told."""
        self.status: int | None = None
        """Of the last response."""

    def count_wait(self, reason: str, seconds: float) -> None:
        """Count seconds that it waited for something other than its quota."""
        self.account.waited += seconds
        if seconds > 0.0:
            self.waits[reason] = self.waits.get(reason, 0.0) + seconds

    def renew_key(self) -> None:
        """Take a new idempotency key, if the operation has one: what came before is settled."""
        if self.request.operation.keyed:
            self.idempotency_key = new_idempotency_key()
            self.in_doubt = False


class Done(NamedTuple, Generic[T]):
    """The answer is the one that was asked for."""

    answer: T
