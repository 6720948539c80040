"""`sync`: plan and apply, once or repeatedly."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import RecallError
from ..stopping import end_tasks, wait_at_most
from .command import Command, json_option
from .connection import Connection, connection_options
from .drawing import display, draw_failures
from .interrupt import UNCHANGED, interrupted_with, run
from .job import Job
from .job_options import job_options
from .numbers import Number
from .plan import Planning, planning_options
from .removals import Limit, TooManyRemovals, may_remove, removal_options
from .status import Status, describe, status_of
from .streams import forgive_output
from .text import print_json, print_prose, say, say_error

if TYPE_CHECKING:
    from ..bulk.actions import Outcome
    from ..bulk.run import BulkRun
    from ..session import RecallSession
    from ..sync.plan import Plan

T = TypeVar("T")


@click.command(cls=Command)
@planning_options
@click.option("--watch", type=Number(1), metavar="SECONDS",
              help="Repeat: look for changes every so many seconds, until interrupted.")  # fmt: skip
@click.option("--full-every", type=Number(1, endless=True), default=6 * 3600, show_default=True, metavar="SECONDS",
              help="With --watch, seconds until all events are read again.")  # fmt: skip
@job_options
@removal_options
@json_option
@connection_options
def sync(
    connection: Connection,
    planning: Planning,
    watch: float | None,
    full_every: float,
    pace: str,
    concurrency: int | None,
    max_outage: float,
    yes: bool,
    max_removals: Limit,
    as_json: bool,
) -> Status:
    """Give every event the bot that the policy wants: plan and apply in one.

    On a terminal and without --watch, it asks before it removes bots. With --watch, it reads all events first and then only
    those that changed, and prints a line for each round. A round that would remove more bots than --max-removals allows
    removes none, and says so. Failed requests are repeated in the next round; only a rejected key, missing credit or an
    invalid setting end the command.

    Ctrl-C finishes the requests in flight; twice stops at once. It is how --watch ends, so the exit status is then 0. With
    --json, each round prints one document.
    """
    forgive_output()
    session = connection.session(pace=pace)
    apply = partial(session.apply, concurrency=concurrency, max_outage=max_outage, history=planning.history)
    permit = partial(may_remove, yes=yes, limit=max_removals, ask=watch is None)
    rounds = Rounds(session, planning, permit, apply, full_every, as_json=as_json)
    with interrupted_with("Requests in flight may have taken effect. The same command does what is left."):
        return run(rounds.run(watch), gently=rounds.stop)


def clock_time() -> str:
    """Return the time of day in UTC."""
    return f"{datetime.now(UTC):%H:%M:%S}"


class Rounds:
    """Makes and applies plans one after the other."""

    def __init__(
        self,
        session: RecallSession,
        planning: Planning,
        permit: Callable[[int, int], Coroutine[Any, Any, bool]],
        apply: Callable[[Plan], BulkRun],
        full_every: float,
        *,
        as_json: bool,
    ) -> None:
        self._session = session
        self._planning = planning
        self._permit = permit
        """Returns whether a number of removals, of a number of bots, may be made. Raises `TooManyRemovals`."""
        self._apply = apply
        self._full_every = full_every
        self._as_json = as_json
        self._stopping = asyncio.Event()
        self._job: Job | None = None
        self._watermark: datetime | None = None
        self._full_at = -math.inf
        """When all events were last read, by the event loop's clock."""
        self._refresh = planning.refresh
        self._rounds = 0
        self._sent = False
        """True once a plan was applied."""

    def stop(self) -> None:
        """Finish the requests in flight, and begin nothing more."""
        self._stopping.set()
        if self._job is not None:
            self._job.stop()
        else:
            click.echo(err=True)  # below the "^C"

    async def run(self, pause: float | None) -> Status:
        """Do one round, or with a pause as many as until `stop`, and return the exit status."""
        async with self._session:
            while True:
                status = await self._round(watching=pause is not None)
                if status is Status.INTERRUPTED and pause is None:
                    say(
                        "Interrupted. The same command does what is left."
                        if self._sent
                        else f"Interrupted. {UNCHANGED}"
                    )
                if pause is None or status in (Status.REFUSED, Status.USAGE):
                    return status
                if status is Status.DONE:
                    self._refresh = False
                await wait_at_most(self._stopping, pause)
                if self._stopping.is_set():
                    say(f"Stopped after {self._rounds} {'round' if self._rounds == 1 else 'rounds'}.")
                    return Status.DONE

    async def _round(self, *, watching: bool) -> Status:
        clock = asyncio.get_running_loop().time
        whole = self._watermark is None or clock() - self._full_at >= self._full_every
        began = clock()
        planning = self._planning._replace(refresh=self._refresh)
        try:
            since = None if whole else self._watermark
            plan = await self._unless_stopped(self._session.plan(**planning._asdict(), updated_since=since))
        except (RecallError, OSError) as error:
            self._rounds += 1
            say(f"{clock_time()}  Error: {describe(error)}") if watching else say_error(describe(error))
            return status_of(error)
        if plan is None:
            return Status.INTERRUPTED
        try:
            permitted = await self._unless_stopped(self._permit(plan.removals, plan.events_with_bots))
        except TooManyRemovals as error:
            if not watching:
                raise
            say_error(error.message)
            permitted = False
        if permitted is None:
            return Status.INTERRUPTED
        if not permitted and not watching:
            say(UNCHANGED)
            return Status.FAILED
        todo = plan if permitted else _without_removals(plan)
        job = await self._carry_out(todo)
        self._tell(plan, job, watching=watching)
        self._rounds += 1
        if permitted and (job is None or _is_settled(job)):
            self._watermark = plan.watermark
            if whole:
                self._full_at = began
        return Status.FAILED if not permitted else Status.DONE if job is None else job.status

    async def _unless_stopped(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Return the result of `work`; `None` if `stop` was called before there was one."""
        working, stopped = asyncio.create_task(work), asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({working, stopped}, return_when=asyncio.FIRST_COMPLETED)
            return None if self._stopping.is_set() else await working
        finally:
            await end_tasks({working, stopped})

    async def _carry_out(self, plan: Plan) -> SyncJob | None:
        if not plan and not plan.flapping:
            return None
        with display("sync") as shown:
            self._job = job = SyncJob(self._session, self._apply(plan), shown)
            self._sent = True
            async for outcome in job.work():
                job.look_at(outcome)
        self._job = None
        return job

    def _tell(self, plan: Plan, job: Job | None, *, watching: bool) -> None:
        figures = {name: getattr(job.progress, name) if job else 0 for name in ("done", "failed", "skipped")}
        error = describe(job.error) if job and job.error else None
        if self._as_json:
            flapping = [decision.event_id for decision in plan.flapping]
            print_json({"at": plan.made_at, "plan": plan.counts, **figures, "flapping": flapping, "error": error})
        elif watching and self._rounds and not plan.flapping:
            kinds = [
                f"{plan.counts[kind]} to {kind}" for kind in ("schedule", "reschedule", "remove") if plan.counts[kind]
            ]
            done = ", ".join(f"{number} {name}" for name, number in figures.items())
            print_prose(
                f"{clock_time()}  {', '.join(kinds) or 'no changes'}{f'; {done}' if job else ''}", indent=" " * 10
            )
        else:
            lines = plan.summary().splitlines()
            if job:
                lines.append(", ".join(f"{number} {name}" for name, number in figures.items()))
            print_prose(f"{clock_time()}  " + "\n          ".join(lines), indent=" " * 10)
        if job:
            draw_failures(job.failures, err=self._as_json)
        if error is not None:
            say_error(error)


class SyncJob(Job):
    """A job that knows whether the next round must read its events again."""

    unsettled: bool = False
    """True if the next round must read an event again although it does not change."""

    def look_at(self, outcome: Outcome) -> None:
        """Note what an outcome means for the next round."""
        from ..sync.recheck import PLAN_AGAIN  # not at the top: it imports aiohttp, and --help must be quick

        if outcome.status == "failed" and outcome.error is not None:
            self.unsettled |= outcome.error.may_pass
        elif outcome.reason is not None:
            self.unsettled |= outcome.reason.endswith(PLAN_AGAIN)


def _is_settled(job: SyncJob) -> bool:
    """Return whether the next round needs to read only what changes from now on. Permanent refusals do not matter."""
    return job.error is None and not job.unsettled and not (job.interrupted and job.unfinished)


def _without_removals(plan: Plan) -> Plan:
    from msgspec.structs import replace

    return replace(plan, decisions=tuple(each for each in plan.decisions if each.kind != "remove"))
