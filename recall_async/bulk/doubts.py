"""Doubtful failures: the cause may be the client and not the action. Several in a row end a job."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from ..errors import (
    APIError,
    AttemptTimeoutError,
    ConnectionFailedError,
    InsufficientCreditError,
    NotFoundError,
    RecallError,
    RequestBlockedError,
)
from .actions import Outcome

MAX_REFUSALS = 5
"""Number of refusals (402, 403) in a row that end a job: a firewall may block one payload, or the client's address."""
MAX_TRIAL = 10
"""Number of failures in a row that end a worker without a success: its key or its network may be wrong."""
TRIAL_FAILURES, TRIAL_SECONDS = 5, 10.0
"""Fewer failures in a row also end such a worker if they span this many seconds: in an outage there are few requests."""
REFUSALS = (RequestBlockedError, InsufficientCreditError)
ON_TRIAL = (NotFoundError, ConnectionFailedError, AttemptTimeoutError)
"""Failures that are doubtful until something succeeds: the key or the network of this worker may be wrong."""


class Weight(Enum):
    """What an outcome says about the doubtful failures before it."""

    DOUBTFUL = auto()
    """It is another doubtful failure."""
    PROOF = auto()
    """It proves that the client works, so the actions caused the doubtful failures before it."""
    NEUTRAL = auto()


class Doubts:
    """Counts doubtful failures in a row. Several runs can share it.

    `trial` returns the error that ends a worker without any success; without it, only refusals are doubtful.
    """

    def __init__(self, trial: Callable[[RecallError], RecallError] | None = None) -> None:
        self._trial = trial
        self._refusals = 0
        self._failures = 0
        self._since = 0.0
        self._accepts = False
        self.last: RecallError | None = None
        """The latest error of a doubtful failure."""

    @property
    def on_trial(self) -> bool:
        """True if nothing has succeeded yet, so that doubtful failures are left to other workers."""
        return self._trial is not None

    @property
    def withholds(self) -> bool:
        """True if doubtful failures at the end of a run are not recorded."""
        return self.on_trial and not self._accepts

    def accept(self, accepts: bool) -> None:
        """Set whether doubtful failures are recorded: true if no other chunk and no other worker is left."""
        self._accepts = accepts
        self._failures = 0

    def weigh(self, outcome: Outcome) -> Weight:
        """Count the outcome, and return what it says about the client."""
        error = outcome.error
        if not outcome.attempts:
            return Weight.NEUTRAL
        if isinstance(error, REFUSALS):
            self._refusals += 1
            self._failures += 1
            self.last = error
            return Weight.DOUBTFUL
        self._refusals = 0
        if self.on_trial and isinstance(error, ON_TRIAL):
            self._failures += isinstance(error, APIError)  # `unanswered` counts attempts without a response
            self.last = error
            return Weight.DOUBTFUL
        self._failures = 0
        if error is None:
            self._trial = None
        return Weight.NEUTRAL if self.on_trial else Weight.PROOF

    def too_many(self, outcome: Outcome) -> RecallError | None:
        """Return the error that ends the job if there were too many doubtful failures in a row."""
        assert outcome.error is not None
        if self._refusals >= MAX_REFUSALS:
            return outcome.error
        return self._over(outcome.error, MAX_TRIAL)

    def unanswered(self, error: RecallError, now: float) -> RecallError | None:
        """Count a request without a response at `now`, in seconds. Return the error that ends the job, if there were
        too many in a row."""
        if isinstance(error, APIError):  # there was a response, and another worker would get the same
            return None
        if not self._failures:
            self._since = now
        self._failures += 1
        return self._over(error, TRIAL_FAILURES if now - self._since >= TRIAL_SECONDS else MAX_TRIAL)

    def _over(self, error: RecallError, most: int) -> RecallError | None:
        if self._trial is not None and self._failures >= most:
            return self._trial(error)
        return None
