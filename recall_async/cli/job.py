"""Run a bulk job: show its progress, handle Ctrl-C, and print a summary."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from time import monotonic
from typing import TYPE_CHECKING

import click

from ..errors import JournalError, RecallError
from .drawing import Display, display, draw_failures, redrawn
from .failures import Failures
from .interrupt import FINISHING, run
from .resume import resume_command
from .status import Status, describe, status_of
from .streams import forgive_output
from .text import duration, print_json, print_prose, say_command, say_error

if TYPE_CHECKING:
    from ..bulk.actions import Outcome
    from ..bulk.progress import Progress
    from ..bulk.run import BulkRun
    from ..session import RecallSession


def run_job(ctx: click.Context, session: RecallSession, bulk: BulkRun, title: str, *, as_json: bool) -> Status:
    """Run a job, show its progress, and print a summary. Returns the exit status."""
    forgive_output()

    async def work(job: Job) -> None:
        async with bulk, session:
            async for _ in job.work():
                pass

    with display(title) as shown:
        job = Job(session, bulk, shown)
        try:
            run(work(job), gently=job.stop)
        except KeyboardInterrupt:
            job.interrupted = True
    tell(job, resume_command(ctx), as_json=as_json)
    return job.status


class Job:
    """One run of a bulk job."""

    def __init__(self, session: RecallSession, bulk: BulkRun, shown: Display) -> None:
        self.progress: Progress = bulk.progress
        self.failures: Failures = Failures()
        self.seconds: float = 0.0
        self.requests: int = 0
        self.throttled: int = 0
        self.interrupted: bool = False
        self.error: RecallError | OSError | None = None
        """The error that ended the run early."""
        self._session = session
        self._bulk = bulk
        self._display = shown

    async def work(self) -> AsyncIterator[Outcome]:
        """Run the job. An error that ends it is stored, not raised."""
        began = monotonic()
        try:
            async with redrawn(self._display, self._look), self._bulk:
                async for outcome in self._bulk:
                    self.failures.note(outcome)
                    yield outcome
        except (RecallError, OSError) as error:
            self.error = error
        finally:
            self._display.update(self._look())
            self.seconds = monotonic() - began

    def stop(self) -> None:
        """Finish the requests in flight, and start nothing more."""
        self.interrupted = True
        self._display.say(FINISHING)
        self._bulk.stop()

    def _look(self) -> Progress:
        self.progress = self._bulk.progress
        lanes = self._session.statistics().values()
        self.requests = sum(lane.admitted for lane in lanes)
        self.throttled = sum(lane.throttled for lane in lanes)
        return self.progress

    @property
    def unfinished(self) -> bool:
        """True if there are actions that were not tried."""
        return self.progress.finished != self.progress.total

    @property
    def status(self) -> Status:
        """The exit status."""
        if isinstance(self.error, JournalError) and not self.requests:
            return Status.USAGE
        if self.error is not None:
            return status_of(self.error)
        if self.interrupted and self.unfinished:
            return Status.INTERRUPTED
        return Status.FAILED if self.progress.failed else Status.DONE


def tell(job: Job, command: str, *, as_json: bool) -> None:
    """Print a summary of the job; `command` continues it."""
    progress = job.progress
    resume = command if job.unfinished and job.status is not Status.USAGE else None
    if as_json:
        print_json(
            {
                "status": job.status.name.lower(),
                **{name: getattr(progress, name) for name in ("total", "done", "failed", "skipped", "resumed")},
                "seconds": round(job.seconds, 3),
                "requests": job.requests,
                "throttled": job.throttled,
                "failures": [asdict(cause) for cause in job.failures.causes()],
                "error": None if job.error is None else describe(job.error),
                "resume": resume,
            }
        )
    else:
        earlier = f", {progress.resumed} of them in an earlier run" if progress.resumed else ""
        print_prose(
            f"{progress.done} done, {progress.failed} failed, {progress.skipped} skipped of {progress.total}{earlier}\n"
            f"{job.requests} requests in {duration(job.seconds)}, {job.throttled} of them answered 429"
        )
    draw_failures(job.failures, err=as_json)
    if job.error is not None:
        say_error(describe(job.error))
    if resume:
        say_command("To go on with it:", resume)
