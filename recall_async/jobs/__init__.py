"""Bulk jobs over several machines: chunks of actions in a Redis stream, performed by any worker. docs/jobs.md"""

from .contract import JobError, JobStatus, JobStoreUnavailableError, MissingJobError, WorkSummary
from .queue import JobQueue

__all__ = ["JobError", "JobQueue", "JobStatus", "JobStoreUnavailableError", "MissingJobError", "WorkSummary"]
