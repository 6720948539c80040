"""Doubtful failures: the cause may be the client and not the action. Several in a row end a job."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import APIError, InsufficientCreditError, NotFoundError, RecallError, RequestBlockedError
from .actions import Outcome

MAX_REFUSALS = 5
"""Number of refusals (402, 403) in a row that end a job: a firewall may block one payload, or the client's address."""
MAX_TRIAL = 10
"""Number of failures in a row that end a worker without a success: its key or its network may be wrong."""
REFUSALS = (RequestBlockedError, InsufficientCreditError)


class Doubts:
    """Counts doubtful failures in a row. Several runs can share it.

    `trial` returns the error that ends a worker without any success; without it, only refusals are doubtful.
    """

    def __init__(self, trial: Callable[[RecallError], RecallError] | None = None) -> None:
        self._trial = trial
        self._refusals = 0
        self._failures = 0

    def are_raised_by(self, outcome: Outcome) -> bool:
        """Count the outcome, and return whether it is doubtful."""
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
        """Return the error that ends the job, if this is one doubtful failure too many in a row."""
        assert outcome.error is not None
        if self._refusals >= MAX_REFUSALS:
            return outcome.error
        return self._over(outcome.error)

    def unanswered(self, error: RecallError) -> RecallError | None:
        """Count a request without a response. Return the error that ends the job, if there were too many in a row."""
        if isinstance(error, APIError):  # there was a response, and another worker would get the same
            return None
        self._failures += 1
        return self._over(error)

    def _over(self, error: RecallError) -> RecallError | None:
        if self._trial is not None and self._failures >= MAX_TRIAL:
            return self._trial(error)
        return None
