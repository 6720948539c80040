"""What a job over several machines tells of itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import checks
from ..errors import RecallError

MAX_NAME = 200
"""Characters of a job's name."""


class JobError(RecallError):
    """A job that is not there, is another one, or whose Redis does not answer."""

    stops_jobs: ClassVar[bool] = True


class MissingJobError(JobError):
    """There is no job of this name."""


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job at one moment; all of it is of the same moment."""

    name: str
    total: int
    """Actions in all."""
    done: int
    failed: int
    skipped: int
    chunks_open: int
    """Chunks that wait for a worker."""
    chunks_in_work: int
    """Chunks that a worker has; if it has died, until their lease is over."""
    chunks_dead: int
    """Chunks that were given up: one worker after the other died over them, with nothing done."""
    submitted: bool
    """Whether all of it was written; if not, submitting it again writes the rest."""
    cancelled: bool

    @property
    def finished(self) -> bool:
        """Whether no more will be done."""
        return self.cancelled or (self.submitted and not self.chunks_open and not self.chunks_in_work)


@dataclass(frozen=True, slots=True)
class WorkSummary:
    """What one worker has done."""

    done: int
    failed: int
    skipped: int
    chunks: int
    """Chunks that it finished."""


def check_name(name: str) -> str:
    """The name of a job. Raises `ConfigurationError` for what is none."""
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > MAX_NAME:
        raise checks.invalid("the job's name", f"one line of 1 to {MAX_NAME} printable characters", name)
    return name
