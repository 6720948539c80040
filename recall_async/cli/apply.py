"""`apply`: a plan that was looked at, done."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from .command import Command
from .connection import Connection, connection_options
from .drawing import display
from .interrupt import run
from .job import Job, tell
from .removals import Limit, may_remove, removal_options
from .status import Status
from .text import json_option, say

if TYPE_CHECKING:
    from ..session import RecallSession


@click.command(cls=Command)
@click.argument("plan", type=click.File("rb"))
@click.option("--results", type=click.Path(dir_okay=False, path_type=Path), metavar="RESULTS.jsonl",
              help="Where each action's result goes, and from where the job is resumed.")  # fmt: skip
@click.option("--pace", type=click.Choice(["smooth", "greedy"]), default="smooth", show_default=True,
              help="greedy: the whole quota at once, for a job that has its workspace to itself.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="Actions at work at once.")
@click.option("--retry-failed", is_flag=True, help="Repeat also what failed for good.")
@removal_options
@json_option
@connection_options
@click.pass_context
def apply(
    ctx: click.Context,
    connection: Connection,
    plan: BinaryIO,
    results: Path | None,
    pace: str,
    concurrency: int | None,
    retry_failed: bool,
    yes: bool,
    max_removals: Limit,
    as_json: bool,
) -> Status:
    """Do what a PLAN.json of `recall-async plan --out` says, soonest event first.

    Asks first if it would remove bots and is run on a terminal. Events that changed since the plan was made are skipped:
    plan again for them. Ctrl-C finishes what is on its way; twice stops at once. With --results, the same command goes on
    where the job was left; without it, make a new plan.
    """
    session = connection.session(pace=pace)

    from ..bulk.journal import Journal
    from ..sync.plan import Plan

    stored = Plan.from_json(plan.read())
    if not may_remove(stored.removals, stored.events_with_bots, yes=yes, limit=max_removals):
        say("Nothing was changed.")
        return Status.FAILED
    journal = None if results is None else Journal(results, retry_failed=retry_failed)
    with display("apply") as shown:
        job = Job(session, session.apply(stored, concurrency=concurrency, journal=journal), shown)
        try:
            run(_work(session, job), gently=job.stop)
        except KeyboardInterrupt:
            job.interrupted = True
    program, *arguments = ctx.find_root().obj
    tell(job, f"{program} {shlex.join(arguments)}".encode(errors="replace").decode(), as_json=as_json)
    return job.status


async def _work(session: RecallSession, job: Job) -> None:
    async with session:
        async for _ in job.work():
            pass
