"""What to do with what happened to a request: try again, when and how, or give up.

`decide` is a pure function and the only place with rules. The table below is the API's documentation, line by line:
https://docs.recall.ai/reference/errors, https://docs.recall.ai/reference/rate-limits and
https://docs.recall.ai/reference/idempotency. Two rules keep it true: a `Retry-After` is a floor and never shortened,
and jitter is applied after the cap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum, auto
from typing import NamedTuple

from . import checks
from .errors import APIError, AttemptTimeoutError, ConnectionFailedError, RecallError


class Key(Enum):
    """Which idempotency key the next attempt carries."""

    SAME = auto()
    NEW = auto()
    SAME_IN_DOUBT = auto()
    """A new one; but the same while the outcome of an earlier attempt is unknown: with a new one it could be done twice."""


class Wait(Enum):
    """What the next attempt waits for."""

    BACKOFF = auto()
    """A backoff of its own, and `Retry-After` if that is longer."""
    LANE = auto()
    """The pause that the whole lane makes."""
    POOL = auto()
    """`Retry-After`, or else `BOT_POOL_WAIT` seconds."""


class Rule(NamedTuple):
    """A line of the table for answers after which the request is sent again."""

    wait: Wait
    key: Key


BOT_POOL_WAIT = 30.0
SHORT_PAUSE = 1.0
"""Seconds: a shorter `Retry-After` of a 429 is no reason to spend all attempts in a moment, so the backoff is its floor."""
NO_ANSWER = 0
"""Stands for a status where none came."""

RETRIED: dict[int, Rule] = {
    NO_ANSWER: Rule(Wait.BACKOFF, Key.SAME),
    409: Rule(Wait.BACKOFF, Key.SAME_IN_DOUBT),
    429: Rule(Wait.LANE, Key.SAME),
    502: Rule(Wait.BACKOFF, Key.SAME),
    503: Rule(Wait.BACKOFF, Key.SAME),
    504: Rule(Wait.BACKOFF, Key.SAME),
    507: Rule(Wait.POOL, Key.NEW),
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently a call is tried again.

    `attempts` counts requests per call, the first included. The n-th retry waits up to `backoff` * 2**(n-1) seconds, at
    most `backoff_cap`, at least half of it. `deadline` is in seconds for the whole call, waiting for the quota included;
    a call's own `deadline=` goes before it. `budget` is how many retries a workspace may make at once: every call gives
    back `budget_ratio` of one and every minute gives back the whole budget, so that an outage does not multiply the load.
    A 429 costs no budget: the lane's pause bounds it.

    Raises `ConfigurationError` for values that make no policy.
    """

    attempts: int = 5
    backoff: float = 0.5
    backoff_cap: float = 30.0
    deadline: float | None = None
    budget: int = 100
    budget_ratio: float = 0.2

    def __post_init__(self) -> None:
        checks.whole("RetryPolicy.attempts", self.attempts, at_least=1)
        checks.backoff("RetryPolicy.backoff", self.backoff, self.backoff_cap)
        checks.number("RetryPolicy.budget", self.budget, at_least=0)
        checks.number("RetryPolicy.budget_ratio", self.budget_ratio, at_least=0)
        if self.deadline is not None:
            checks.seconds("RetryPolicy.deadline", self.deadline, endless=True)

    def delay(self, attempt: int, jitter: float) -> float:
        """Seconds to wait after the attempt with this number, from 1; `jitter` is a random number from 0 to 1."""
        return checks.Backoff(self.backoff, self.backoff_cap).delay(attempt, jitter)

    @property
    def patience(self) -> float:
        """Seconds that a call waits between its attempts in all, at the most, for a server that does not say when."""
        return sum(self.delay(attempt, 1.0) for attempt in range(1, min(self.attempts, 100)))


class RetryBudget:
    """A token bucket of retries. Times are in seconds and never go back."""

    __slots__ = ("_spent", "_when")

    def __init__(self) -> None:
        self._spent = 0.0
        self._when = -math.inf

    def earn(self, policy: RetryPolicy) -> None:
        """A call begins."""
        if self._spent:
            self._spent = max(0.0, self._spent - policy.budget_ratio)

    def spend(self, policy: RetryPolicy, now: float) -> bool:
        """Whether a retry may be made at `now`; if so it is counted."""
        if self._spent:
            self._spent = max(0.0, self._spent - (now - self._when) * policy.budget / 60)
        self._when = now
        if self._spent + 1 > policy.budget:
            return False
        self._spent += 1
        return True


class Retry(NamedTuple):
    """Send it again."""

    after: float
    """Seconds that this call waits before it asks for a slot."""
    new_key: bool
    """Whether it gets a new idempotency key."""
    pause: float | None
    """Seconds that the whole lane pauses, after a 429."""
    error: RecallError
    """What to raise if it does not come to that."""
    costs: bool
    """Whether it is paid from the retry budget."""


class GiveUp(NamedTuple):
    """Raise."""

    error: RecallError
    pause: float | None = None


def pause_after(policy: RetryPolicy, attempt: int, after: float | None, jitter: float) -> float:
    """Seconds for which a lane pauses after a 429 whose `Retry-After` is `after`."""
    if after is not None and after >= SHORT_PAUSE:
        return after
    return max(after or 0.0, policy.delay(attempt, jitter))


def decide(
    policy: RetryPolicy,
    attempt: int,
    error: RecallError,
    *,
    jitter: float,
    in_doubt: bool = False,
) -> Retry | GiveUp:
    """What follows from the failure of attempt number `attempt` (from 1).

    `error` says what the server answered, or why it did not. `jitter` is a random number from 0 to 1. `in_doubt` says that
    an earlier attempt, or this one, may have taken effect.
    """
    answered = isinstance(error, APIError)
    rule = RETRIED.get(error.status if isinstance(error, APIError) else NO_ANSWER)
    if rule is None or not (answered or isinstance(error, ConnectionFailedError | AttemptTimeoutError)):
        return GiveUp(error)
    after = error.retry_after if isinstance(error, APIError) else None
    pause = None
    match rule.wait:
        case Wait.LANE:
            pause = pause_after(policy, attempt, after, jitter)
            wait = 0.0
        case Wait.POOL:
            wait = BOT_POOL_WAIT if after is None else after
        case Wait.BACKOFF:
            wait = max(policy.delay(attempt, jitter), after or 0.0)
    if attempt >= policy.attempts or (isinstance(error, ConnectionFailedError) and error.permanent):
        return GiveUp(error, pause)
    new_key = rule.key is Key.NEW or (rule.key is Key.SAME_IN_DOUBT and not in_doubt)
    return Retry(wait, new_key, pause, error, costs=rule.wait is not Wait.LANE)
