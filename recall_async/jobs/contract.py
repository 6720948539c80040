"""The public types of jobs over several machines: status, summary and errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import checks
from ..errors import RecallError

MAX_NAME = 200
"""The most characters in a job's name."""


class JobError(RecallError):
    """The job has other actions, was lost or cancelled, or Redis refuses the command."""

    stops_jobs: ClassVar[bool] = True


class MissingJobError(JobError):
    """No job has this name."""


class JobStoreUnavailableError(JobError):
    """Redis has not responded for the queue's `patience`. The call may have taken effect, and can be repeated."""

    may_pass: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A consistent snapshot of a job."""

    name: str
    total: int
    """The number of actions."""
    done: int
    failed: int
    skipped: int
    chunks_open: int
    """Chunks that wait for a worker."""
    chunks_in_work: int
    """Chunks that a worker holds. A dead worker's chunks count until their lease expires."""
    chunks_dead: int
    """Abandoned chunks: several workers in a row died while they held them, without finishing an action."""
    submitted: bool
    """True if all actions were written. If not, submit the job again to write the rest."""
    cancelled: bool

    @property
    def finished(self) -> bool:
        """True if no worker will perform any more actions."""
        return self.cancelled or (self.submitted and not self.chunks_open and not self.chunks_in_work)


@dataclass(frozen=True, slots=True)
class WorkSummary:
    """The number of actions and chunks that one worker finished."""

    done: int
    failed: int
    skipped: int
    chunks: int
    """Chunks that the worker finished."""


def check_name(name: str) -> str:
    """Check the name of a job and return it. Raises `ConfigurationError` for an invalid name."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > MAX_NAME:
        raise checks.invalid("the job's name", f"one line of 1 to {MAX_NAME} printable characters", name)
    return name
