"""Group the failures of a job by cause, with an example of each and what to do about it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import errors
from ..advice import ADVICE
from ..errors import APIError, RecallError
from .status import for_commands
from .text import line

if TYPE_CHECKING:
    from ..bulk.actions import Outcome

MAX_CAUSES = 20
LOOK = "See the file of results."
_AGAIN = "Start the same command again: what failed like this is repeated."
_WHAT_TO_DO: dict[type[RecallError], str] = {
    errors.BadRequestError: "Correct these actions, then start the command again with --retry-failed.",
    errors.ConfigurationError: "Correct these actions, then start the command again with --retry-failed.",
    errors.ConnectionFailedError: f"See whether the network and --base-url are right. {_AGAIN}",
    errors.AttemptTimeoutError: _AGAIN,
    errors.DeadlineExceededError: _AGAIN,
    errors.QuotaStoreUnavailableError: f"See whether the store of the quota is up. {_AGAIN}",
    errors.ResponseDecodeError: "See whether --base-url leads to the API, and whether recall-async is up to date.",
}


@dataclass(slots=True)
class Cause:
    """Failures with the same cause."""

    title: str
    advice: str
    event_id: str
    """The event of the first of them."""
    example: str
    """The message of the first of them."""
    count: int = 0


class Failures:
    """The failures of a job, by cause. Its memory does not grow with their number."""

    def __init__(self) -> None:
        self._causes: dict[tuple[object, ...], Cause] = {}

    def note(self, outcome: Outcome) -> None:
        """Count an outcome, if it is a failure."""
        if outcome.status == "failed" and outcome.error is not None:
            self.add(str(outcome.action.event_id), outcome.error)

    def add(self, event_id: str, error: RecallError) -> None:
        """Count a failure."""
        key: tuple[object, ...] = (type(error),)
        if isinstance(error, APIError):
            key += (error.status, error.code, _without_particulars(error.detail or ""))
        if key not in self._causes and len(self._causes) >= MAX_CAUSES:
            key = (None,)
        if key not in self._causes:
            title, advice = ("other causes", LOOK) if key == (None,) else (_title(error), _advice(error))
            said = line(for_commands(str(error))).removesuffix(advice).rstrip()
            self._causes[key] = Cause(title, advice, event_id, said)
        self._causes[key].count += 1

    def causes(self) -> list[Cause]:
        """Return the causes, the most frequent first."""
        return sorted(self._causes.values(), key=lambda cause: -cause.count)


def _title(error: RecallError) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__.removesuffix("Error")).lower()
    if not isinstance(error, APIError):
        return words
    return f"{error.status} {words}" + (f" ({line(error.code)})" if error.code else "")


def _advice(error: RecallError) -> str:
    if isinstance(error, APIError) and type(error) in ADVICE:
        return for_commands(ADVICE[type(error)])
    return _WHAT_TO_DO.get(type(error), LOOK)


def _without_particulars(text: str) -> str:
    """Remove what differs from event to event: ids and numbers."""
    return re.sub(r"[0-9a-f-]{32,36}|\d+|'[^']*'|\"[^\"]*\"", "", text)
