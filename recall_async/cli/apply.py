"""`apply`: send the requests of a stored plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from ..reading import parts_of
from .command import Command, WrittenFile, json_option
from .connection import Connection, connection_options
from .interrupt import UNCHANGED, run
from .job import run_job
from .job_options import job_options, journal_options
from .plan import history_option
from .removals import Limit, may_remove, removal_options
from .status import Status
from .text import say

if TYPE_CHECKING:
    from ..bulk.journal import Journal

MAX_PLAN = 2**30
"""The most bytes of a plan; a million decisions have about half as many."""


@click.command(cls=Command)
@click.argument("plan", type=click.File("rb"))
@click.option("--results", type=WrittenFile(), metavar="RESULTS.jsonl",
              help="Write each action's result to this file, and resume from it.")  # fmt: skip
@job_options
@journal_options
@history_option
@removal_options
@json_option
@connection_options
@click.pass_context
def apply(
    ctx: click.Context,
    connection: Connection,
    plan: BinaryIO,
    journal: Journal | None,
    pace: str,
    concurrency: int | None,
    max_outage: float,
    history: Path | None,
    yes: bool,
    max_removals: Limit,
    as_json: bool,
) -> Status:
    """Send the requests of a PLAN.json that `recall-async plan --out` wrote, soonest event first.

    On a terminal, it asks before it removes bots. Events that changed since the plan was made are skipped: make a new plan
    for them. Ctrl-C finishes the requests in flight; twice stops at once. The same command continues an interrupted job;
    with --results it reports what was done before, without it, it skips that as changed.
    """
    session = connection.session(pace=pace)

    from ..sync.plan import Plan

    stored = Plan.from_json(b"".join(parts_of("plan", plan, MAX_PLAN)))
    if not run(may_remove(stored.removals, stored.events_with_bots, yes=yes, limit=max_removals)):
        say(UNCHANGED)
        return Status.FAILED
    applied = session.apply(stored, concurrency=concurrency, journal=journal, max_outage=max_outage, history=history)
    return run_job(ctx, session, applied, "apply", as_json=as_json)
