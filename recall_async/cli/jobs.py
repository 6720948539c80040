"""`jobs`: bulk jobs that lie in Redis, and workers for them on as many machines as you like."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .bulk import report_errors
from .command import Group
from .connection import SHARED_WORKSPACE, Connection, connection_options, prefix_option, redis_option
from .events import read_config
from .interrupt import run
from .status import Status
from .text import json_option, line, print_json, say

if TYPE_CHECKING:
    from ..jobs import JobQueue, JobStatus
    from ..session import RecallSession

T = TypeVar("T")


@click.group(cls=Group)
def jobs() -> None:
    """Submit bulk jobs to a Redis, and work on them from any number of machines."""


def redis_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` what says where the jobs are, as its parameters `redis` and `prefix`."""

    @redis_option
    @prefix_option
    @wraps(command)
    def located(*args: Any, redis: str | None, **options: Any) -> Any:
        return command(*args, redis=_required(redis or os.environ.get("RECALL_REDIS_URL")), **options)

    return located


def _required(redis: str | None) -> str:
    if not redis:
        raise click.UsageError("no Redis: give its URL with --redis, or set RECALL_REDIS_URL")
    return redis


workspace_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--workspace", metavar="NAME", help="Whose jobs [RECALL_WORKSPACE, or else default]; its workers name it, too."
)
name_argument: Callable[[Callable[..., Any]], Callable[..., Any]] = click.argument("name")


@jobs.command()
@click.argument("actions", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--name", required=True, metavar="NAME", help="What the job is called from now on.")
@click.option("--bot-config", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
              help="The configuration of bots for which ACTIONS has none.")  # fmt: skip
@click.option("--chunk-size", type=click.IntRange(1), default=200, show_default=True, metavar="N",
              help="Actions that a worker takes at once.")  # fmt: skip
@json_option
@workspace_option
@redis_options
def submit(
    actions: str,
    name: str,
    bot_config: str | None,
    chunk_size: int,
    as_json: bool,
    workspace: str | None,
    redis: str,
    prefix: str,
) -> Status:
    """Write a job for the workers.

    ACTIONS is as in `bulk`, and checked as a whole before anything is written. The same command again does nothing, or
    writes the rest if it was interrupted.
    """
    from .actions_file import ActionsFile

    try:
        file = ActionsFile(actions, read_config(f"@{bot_config}") if bot_config else {})
    except OSError as error:
        raise click.UsageError(f"{actions} cannot be read: {error.strerror}") from None
    with closing(file):
        if report_errors(file.check()):
            return Status.USAGE
        status = _ask(redis, prefix, workspace, lambda queue: queue.submit(name, file, chunk_size=chunk_size))
    _tell(status, as_json=as_json)
    return Status.DONE


@jobs.command()
@click.option("--once/--forever", default=True, show_default=True,
              help="End when all jobs are finished, or wait for others.")  # fmt: skip
@click.option("--pace", type=click.Choice(["smooth", "greedy"]), default="smooth", show_default=True,
              help="greedy: the whole quota at once, for jobs that have their workspace to themselves.")  # fmt: skip
@click.option("--concurrency", type=click.IntRange(1), metavar="N", help="Actions of a chunk at work at once.")
@click.option("--chunks", type=click.IntRange(1), default=2, show_default=True, metavar="N",
              help="Chunks at work at once.")  # fmt: skip
@click.option("--lease", type=click.FloatRange(1), default=30.0, show_default=True, metavar="SECONDS",
              help="When a dead worker's chunk is another's; the same for all workers.")  # fmt: skip
@json_option
@connection_options
def work(
    connection: Connection,
    once: bool,
    pace: str,
    concurrency: int | None,
    chunks: int,
    lease: float,
    as_json: bool,
) -> Status:
    """Work on the jobs of a workspace, together with all its other workers.

    All of them share the quota through the same Redis: give them the same --workspace, --prefix, --pace and
    --quota-scale. Ctrl-C finishes what is on its way, and leaves the rest to others; twice stops at once.
    """
    from ..jobs import JobQueue

    redis, prefix = _required(connection.redis), connection.prefix
    session = connection.session(pace=pace)
    worker = Worker(session)

    async def serve() -> Status:
        async with JobQueue.from_url(redis, prefix=prefix, workspace=session.workspace, lease=lease) as queue, session:
            worker.queue = queue
            if worker.interrupted:
                return Status.INTERRUPTED
            worked = await queue.work(session, concurrency=concurrency, chunks=chunks, forever=not once)
        if as_json:
            print_json(asdict(worked))
        else:
            click.echo(f"{worked.done} done, {worked.failed} failed, {worked.skipped} skipped by this worker")
        if worker.interrupted:
            return Status.INTERRUPTED
        return Status.FAILED if worked.failed else Status.DONE

    return run(serve(), gently=worker.stop)


class Worker:
    """A worker that can be asked to end well."""

    def __init__(self, session: RecallSession) -> None:
        self.session = session
        self.queue: JobQueue | None = None
        self.interrupted: bool = False

    def stop(self) -> None:
        """Finish what is on its way, and begin nothing more."""
        self.interrupted = True
        say("Finishing what is on its way. Ctrl-C once more stops at once.")
        if self.queue is not None:
            self.queue.stop()


@jobs.command()
@name_argument
@click.option("--watch", is_flag=True, help="Go on until the job is finished.")
@json_option
@workspace_option
@redis_options
def status(name: str, watch: bool, as_json: bool, workspace: str | None, redis: str, prefix: str) -> Status:
    """Show where a job is. The exit status is 1 if it is finished and something failed."""

    async def look(queue: JobQueue) -> JobStatus:
        shown = None
        while True:
            status = await queue.status(name)
            if status != shown:
                _tell(status, as_json=as_json)
                shown = status
            if status.finished or not watch:
                return status
            await asyncio.sleep(1.0)

    status = _ask(redis, prefix, workspace, look)
    return Status.FAILED if status.finished and (status.failed or status.chunks_dead) else Status.DONE


@jobs.command()
@name_argument
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), metavar="RESULTS.jsonl",
              help="The file that is written, a line for each finished action; what was in it is replaced.")  # fmt: skip
@workspace_option
@redis_options
def results(name: str, out: Path, workspace: str | None, redis: str, prefix: str) -> None:
    """Write what became of each action of a job, as `bulk` does."""
    import msgspec

    async def fetch(queue: JobQueue) -> int:
        count = 0
        await queue.status(name)  # what is in the file stays if there is no such job
        with out.open("wb") as file:
            async for outcome in queue.results(name):
                file.write(msgspec.json.encode(outcome) + b"\n")
                count += 1
        return count

    say(f"{_ask(redis, prefix, workspace, fetch)} results")


@jobs.command()
@name_argument
@json_option
@workspace_option
@redis_options
def cancel(name: str, as_json: bool, workspace: str | None, redis: str, prefix: str) -> None:
    """Drop what is left of a job. Workers finish what they have sent, and begin none of its actions any more."""

    async def drop(queue: JobQueue) -> JobStatus:
        await queue.cancel(name)
        return await queue.status(name)

    _tell(_ask(redis, prefix, workspace, drop), as_json=as_json)


def _workspace(given: str | None) -> str:
    return given or os.environ.get("RECALL_WORKSPACE") or SHARED_WORKSPACE


def _ask(redis: str, prefix: str, workspace: str | None, question: Callable[[JobQueue], Awaitable[T]]) -> T:
    from ..jobs import JobQueue

    async def ask() -> T:
        async with JobQueue.from_url(redis, prefix=prefix, workspace=_workspace(workspace), patience=10.0) as queue:
            return await question(queue)

    return run(ask())


def _tell(status: JobStatus, *, as_json: bool) -> None:
    if as_json:
        print_json({**asdict(status), "finished": status.finished})
        return
    standing = "cancelled" if status.cancelled else "finished" if status.finished else "under way"
    chunks = {"open": status.chunks_open, "in work": status.chunks_in_work, "given up": status.chunks_dead}
    click.echo(
        f"{line(status.name)}: {standing}, {status.done} done, {status.failed} failed, {status.skipped} skipped "
        f"of {status.total}; chunks: " + ", ".join(f"{count} {what}" for what, count in chunks.items())
    )
    if not status.submitted and not status.cancelled:
        say("Not all of it was submitted: the same submit command writes the rest.")
