"""Failures that may have their cause in who asks, and not in the action: refusals in a row end a job."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import APIError, InsufficientCreditError, NotFoundError, RecallError, RequestBlockedError
from .actions import Outcome

MAX_REFUSALS = 5
"""Refusals (402, 403) in a row that end a job: a firewall may dislike one payload, or the sender's address."""
MAX_TRIAL = 10
"""Failures in a row that end a worker that never had a success: it may have another workspace's key, or no network."""
REFUSALS = (RequestBlockedError, InsufficientCreditError)


class Doubts:
    """Counts doubtful failures in a row. Several runs can share it.

    `trial` makes the error that ends a worker on which everything fails; without it, only refusals are doubtful.
    """

    def __init__(self, trial: Callable[[RecallError], RecallError] | None = None) -> None:
        self._trial = trial
        self._refusals = 0
        self._failures = 0

    def are_raised_by(self, outcome: Outcome) -> bool:
        """Whether the outcome is doubtful; it is counted."""
        error = outcome.error
        if not outcome.attempts:
            return False
        if isinstance(error, REFUSALS):
            self._refusals += 1
            self._failures += 1
            return True
        self._refusals = 0
        if self._trial is not None and isinstance(error, NotFoundError):
            self._failures += 1
            return True
        self._failures = 0
        if error is None:
            self._trial = None
        return False

    def too_many(self, outcome: Outcome) -> RecallError | None:
        """What ends the job, if there were too many in a row and this is the last of them."""
        assert outcome.error is not None
        if self._refusals >= MAX_REFUSALS:
            return outcome.error
        return self._over(outcome.error)

    def unanswered(self, error: RecallError) -> RecallError | None:
        """A request had no answer: what ends the job, if there were too many in a row."""
        if isinstance(error, APIError):  # something answered: whoever else asks will be told the same
            return None
        self._failures += 1
        return self._over(error)

    def _over(self, error: RecallError) -> RecallError | None:
        if self._trial is not None and self._failures >= MAX_TRIAL:
            return self._trial(error)
        return None
