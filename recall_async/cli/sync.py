"""`sync`: plan and apply, once or again and again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import click

from ..errors import RecallError
from .command import Command
from .connection import Connection, connection_options
from .drawing import display, draw_failures
from .interrupt import run
from .job import Job
from .plan import planning_options
from .status import Status, describe, status_of
from .text import json_option, print_json, print_prose, say

if TYPE_CHECKING:
    from ..session import RecallSession
    from ..sync.plan import Plan
    from ..sync.policy import RecordingPolicy


@click.command(cls=Command)
@planning_options
@click.option("--watch", type=click.FloatRange(1), metavar="SECONDS",
              help="Go on: look for changes every so many seconds, until it is interrupted.")  # fmt: skip
@json_option
@connection_options
def sync(
    connection: Connection,
    policy: Path,
    calendar_id: tuple[UUID, ...],
    refresh: bool,
    watch: float | None,
    as_json: bool,
) -> Status:
    """Put the bots where the policy says: plan and apply in one.

    With --watch it looks at everything once and then at what changed. What failed is tried again in the next round; only
    a refused key, missing credit or a wrong setting end it. With --json there is one document for each round.
    """
    from ..sync.policy import RecordingPolicy

    rules = RecordingPolicy.from_toml(policy)
    session = connection.session()
    rounds = Rounds(session, rules, calendar_id or None, as_json=as_json)
    try:
        return run(rounds.run(watch, refresh=refresh), gently=rounds.stop)
    except KeyboardInterrupt:
        return Status.INTERRUPTED


class Rounds:
    """Plans that are made and applied one after the other."""

    def __init__(
        self, session: RecallSession, policy: RecordingPolicy, calendars: tuple[UUID, ...] | None, *, as_json: bool
    ) -> None:
        self._session = session
        self._policy = policy
        self._calendars = calendars
        self._as_json = as_json
        self._stopping = asyncio.Event()
        self._job: Job | None = None
        self._watermark: datetime | None = None

    def stop(self) -> None:
        """Finish what is on its way, and begin nothing more."""
        self._stopping.set()
        if self._job is not None:
            self._job.stop()

    async def run(self, pause: float | None, *, refresh: bool) -> Status:
        """One round, or as many as there are until it is stopped; the exit status."""
        async with self._session:
            while True:
                status = await self._round(refresh=refresh)
                if pause is None or status in (Status.REFUSED, Status.USAGE):
                    return status
                refresh = refresh and status is not Status.DONE
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stopping.wait()
                if self._stopping.is_set():
                    return Status.DONE

    async def _round(self, *, refresh: bool) -> Status:
        try:
            plan = await self._session.plan(
                policy=self._policy, calendars=self._calendars, updated_since=self._watermark, refresh=refresh
            )
        except (RecallError, OSError) as error:
            say(f"Error: {describe(error)}")
            return status_of(error)
        if self._stopping.is_set():
            return Status.INTERRUPTED
        if not plan:
            self._tell(plan, None)
            self._watermark = plan.watermark
            return Status.DONE
        with display("sync") as shown:
            self._job = job = Job(self._session, self._session.apply(plan), shown)
            async for _ in job.work():
                pass
        self._job = None
        self._tell(plan, job)
        if job.status is Status.DONE and not job.progress.skipped:
            self._watermark = plan.watermark
        return job.status

    def _tell(self, plan: Plan, job: Job | None) -> None:
        figures = {name: getattr(job.progress, name) if job else 0 for name in ("done", "failed", "skipped")}
        error = describe(job.error) if job and job.error else None
        if self._as_json:
            print_json({"at": plan.made_at, "plan": plan.counts, **figures, "error": error})
        elif job or self._watermark is None:
            lines = plan.summary().splitlines()
            if job:
                lines.append(", ".join(f"{number} {name}" for name, number in figures.items()))
            print_prose(f"{datetime.now(UTC):%H:%M:%S}  " + "\n          ".join(lines), indent=" " * 10)
        if job:
            draw_failures(job.failures, err=self._as_json)
        if error is not None:
            say(f"Error: {error}")
