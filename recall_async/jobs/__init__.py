"""Bulk jobs over several machines: chunks of actions in a Redis stream, worked on by whoever is there. docs/jobs.md"""

from .contract import JobError, JobStatus, WorkSummary
from .queue import JobQueue

__all__ = ["JobError", "JobQueue", "JobStatus", "WorkSummary"]
