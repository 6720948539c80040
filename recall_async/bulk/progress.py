"""Where a bulk job is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """A bulk job at one moment."""

    done: int
    failed: int
    skipped: int
    resumed: int
    """How many of these the journal had from an earlier run."""
    total: int | None
    """Actions in all; `None` where the input does not tell its length."""
    rate: float
    """Actions per second lately, without those that took no request."""
    taken: int
    """Slots of the quota that are taken, by anybody: of the operation of which this job has most left to do."""
    limit: int
    """How many there are."""
    waited: float
    """Seconds that an action waited lately before and between its requests, on average."""
    paused: float
    """Seconds for which a 429 still holds back all requests."""
    eta: float | None
    """Seconds until the job is done if the quota is what holds it up; `None` while `total` is."""

    @property
    def finished(self) -> int:
        """Actions of which the outcome is known."""
        return self.done + self.failed + self.skipped
