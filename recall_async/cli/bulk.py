"""`bulk`: a file of actions, done at the pace of the quota, and to be resumed wherever it was left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from typing import TYPE_CHECKING

import click

from .command import Command, Decorator, WrittenFile, json_option
from .connection import Connection, connection_options
from .events import read_config
from .job import run_job
from .job_options import job_options, journal_options
from .status import Status
from .text import say

if TYPE_CHECKING:
    from ..bulk.journal import Journal
    from .actions_file import ActionsFile

MAX_ERRORS = 20


actions_argument: Decorator = click.argument("actions", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
bot_config_option: Decorator = click.option(
    "--bot-config", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
    help="The configuration of bots for which ACTIONS has none.",
)  # fmt: skip


@click.command(cls=Command)
@actions_argument
@click.option("--results", required=True, type=WrittenFile(), metavar="RESULTS.jsonl",
              help="Where each action's result goes, and from where the job is resumed.")  # fmt: skip
@bot_config_option
@job_options
@journal_options
@click.option("--dry-run", is_flag=True, help="Check ACTIONS and say what would be done. Sends nothing.")
@json_option
@connection_options
@click.pass_context
def bulk(
    ctx: click.Context,
    connection: Connection,
    actions: str,
    journal: Journal,
    bot_config: str | None,
    pace: str,
    concurrency: int | None,
    max_outage: float,
    dry_run: bool,
    as_json: bool,
) -> Status:
    """Schedule and remove bots on many events, soonest event first.

    ACTIONS is a file of JSON lines, {"action": "schedule" or "remove", "event_id", "deduplication_key", "bot_config",
    "start_time", "end_time"}, or of CSV with these columns; - is standard input. All of it is checked before the first
    request. Ctrl-C finishes the requests in flight; twice stops at once. The same command continues an interrupted job, and
    repeats temporary failures.

    With --json a summary is printed as one document; RESULTS.jsonl has a line for each action.
    """
    session = None if dry_run else connection.session(pace=pace)

    with checked_actions(actions, bot_config) as file:
        if session is None:
            from .foresight import show_dry_run

            return show_dry_run(file, journal, connection, pace, as_json=as_json)

        run = session.bulk(file, concurrency=concurrency, journal=journal, max_outage=max_outage)
        return run_job(ctx, session, run, "bulk", as_json=as_json)


@contextmanager
def checked_actions(path: str, bot_config: str | None) -> Iterator[ActionsFile]:
    """Open ACTIONS, and check all of it. Raises `click.ClickException`, below the first problems, if there are some."""
    from .actions_file import ActionsFile

    try:
        file = ActionsFile(path, {} if bot_config is None else read_config(f"@{bot_config}"))
    except OSError as error:
        raise click.UsageError(f"{path} cannot be read: {error.strerror}") from None
    with closing(file):
        problems = file.check()
        first = list(islice(problems, MAX_ERRORS))
        more = sum(1 for _ in problems)
        for problem in first:
            say(problem)
        if first:
            count = "1 error" if len(first) == 1 else f"{len(first) + more} errors"
            left = f", of which {more} are not shown" if more else ""
            raise click.ClickException(f"{count}{left}. Nothing was sent.")
        yield file
