"""Decide after a failed attempt whether, when and how to retry.

`decide` is a pure function with all retry rules. The table below follows the API's documentation, line by line:
https://docs.recall.ai/reference/errors, https://docs.recall.ai/reference/rate-limits and
https://docs.recall.ai/reference/idempotency. Two further rules: `Retry-After` is a minimum that is never shortened,
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
    """The idempotency key of the next attempt."""

    SAME = auto()
    NEW = auto()
    SAME_IN_DOUBT = auto()
    """A new key; but the same key while an earlier attempt may have taken effect: a new key could repeat the effect."""


class Wait(Enum):
    """What the next attempt waits for."""

    BACKOFF = auto()
    """The backoff, or `Retry-After` if that is longer."""
    LANE = auto()
    """The pause of the whole lane."""
    POOL = auto()
    """`Retry-After`, or `BOT_POOL_WAIT` seconds without one."""


class Rule(NamedTuple):
    """A line of the table, for a response after which the request is repeated."""

    wait: Wait
    key: Key


BOT_POOL_WAIT = 30.0
SHORT_PAUSE = 1.0
"""Seconds. If the `Retry-After` of a 429 is shorter, the backoff is its minimum, so that the attempts last longer."""
NO_ANSWER = 0
"""The status of an attempt without a response."""

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
    """How often to retry a call, and how long to wait between its attempts.

    `attempts` is the number of requests per call, including the first. The n-th retry waits up to
    `backoff` * 2**(n-1) seconds, at most `backoff_cap`, and at least half of that. `deadline` is in seconds for the
    whole call, including waits for the quota; a call's own `deadline=` takes precedence. `budget` is the number of
    retries that a workspace may make at once: each call restores `budget_ratio` of a retry, and each minute the whole
    budget, so that retries do not multiply the load in an outage. A retry after a 429 costs no budget, because the
    lane's pause limits it.

    Raises `ConfigurationError` for invalid values.
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
        """Return the seconds to wait after attempt number `attempt` (from 1); `jitter` is random, from 0 to 1."""
        return checks.Backoff(self.backoff, self.backoff_cap).delay(attempt, jitter)

    @property
    def patience(self) -> float:
        """The most seconds that a call waits between its attempts in total, without `Retry-After`."""
        return sum(self.delay(attempt, 1.0) for attempt in range(1, min(self.attempts, 100)))


class RetryBudget:
    """A token bucket of retries. Times are in seconds and never decrease."""

    __slots__ = ("_when", "spent")

    def __init__(self) -> None:
        self.spent: float = 0.0
        self._when = -math.inf

    def earn(self, policy: RetryPolicy) -> None:
        """Restore budget for a new call."""
        self.spent = max(0.0, self.spent - policy.budget_ratio)

    def spend(self, policy: RetryPolicy, now: float) -> bool:
        """Take a retry at `now` from the budget. Return whether there was one."""
        if self.spent:
            self.spent = max(0.0, self.spent - (now - self._when) * policy.budget / 60)
        self._when = now
        if self.spent + 1 > policy.budget:
            return False
        self.spent += 1
        return True


class Retry(NamedTuple):
    """Repeat the request."""

    after: float
    """Seconds that the call waits before it asks for a slot."""
    new_key: bool
    """True if the attempt gets a new idempotency key."""
    pause: float | None
    """Seconds for which the whole lane pauses, after a 429."""
    error: RecallError
    """The error to raise if the retry is not possible."""
    costs: bool
    """True if the retry uses the retry budget."""


class GiveUp(NamedTuple):
    """Raise the error."""

    error: RecallError
    pause: float | None = None


def pause_after(policy: RetryPolicy, attempt: int, after: float | None, jitter: float) -> float:
    """Return the seconds for which a lane pauses after a 429 whose `Retry-After` is `after`."""
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
    """Decide what to do after attempt number `attempt` (from 1) failed.

    `error` is the server's response, or why there was none. `jitter` is a random number from 0 to 1. `in_doubt` is
    true if this attempt or an earlier one may have taken effect.
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
        case Wait.BACKOFF:  # pragma: no branch - the last one
            wait = max(policy.delay(attempt, jitter), after or 0.0)
    if attempt >= policy.attempts or (isinstance(error, ConnectionFailedError) and error.permanent):
        return GiveUp(error, pause)
    new_key = rule.key is Key.NEW or (rule.key is Key.SAME_IN_DOUBT and not in_doubt)
    return Retry(wait, new_key, pause, error, costs=rule.wait is not Wait.LANE)
