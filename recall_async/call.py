"""One call: its request, and its state from the first attempt to the last."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Generic, TypeVar

from msgspec import Struct

from .limits.quota import Priority
from .operations import KEYED, Request
from .retry import RetryPolicy
from .stopping import StopSignal

T = TypeVar("T")
NO_WAITS: Mapping[str, float] = MappingProxyType({})


class Call(Struct, Generic[T], eq=False):
    """A request that needs an answer, and what it has cost so far."""

    request: Request[T]
    priority: Priority
    until: float
    """The deadline, a time of the loop's clock."""
    policy: RetryPolicy
    idempotency_key: str | None = None
    stop: StopSignal | None = None
    """Asked before each request."""
    in_doubt: bool = False
    """True if an attempt without a response may have taken effect."""
    attempts: int = 0
    waited: float = 0.0
    """Seconds spent waiting for keys, slots, pauses and backoffs, but not for the server."""
    in_flight: bool = False
    """True while a request of a bulk call is in flight."""
    begun: float = 0.0
    ended: bool = False
    """True if the call was ended because its session was closed."""
    number: int = 0
    """The call's number in this process, once an event names it."""
    watched: bool = False
    """True if a listener or the log gets the call's events."""
    waits: Mapping[str, float] = NO_WAITS
    """Seconds waited since the last attempt for something other than the quota, by reason."""
    told_waited: float = 0.0
    """The part of `waited` that events have told."""
    status: int | None = None
    """The status of the last response."""

    @property
    def operation(self) -> str:
        """The name of its operation."""
        return self.request.operation.name

    def count_wait(self, reason: str, seconds: float) -> None:
        """Count seconds that the call waited for something other than its quota."""
        if seconds > 0.0:
            self.waited += seconds
            self.waits = {**self.waits, reason: self.waits.get(reason, 0.0) + seconds}

    def renew_key(self) -> None:
        """Take a new idempotency key, if the operation has one: earlier attempts had no effect."""
        if self.request.operation.method in KEYED:
            self.idempotency_key = new_idempotency_key()
            self.in_doubt = False


class Done(Struct, Generic[T], frozen=True, gc=False):
    """The attempt succeeded."""

    answer: T


def new_idempotency_key() -> str:
    """Make a random UUID, at half of what `uuid4` costs; not from `random`, which a program may have seeded."""
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
