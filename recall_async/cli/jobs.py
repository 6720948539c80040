"""`jobs`: bulk jobs that lie in Redis, and workers for them on as many machines as you like."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .bulk import actions_argument, bot_config_option, checked_actions
from .command import Decorator, Group, WrittenFile, json_option
from .connection import Connection, connection_options, prefix_option, redis_option, redis_url
from .drawing import Display, display, draw_failures, redrawn
from .interrupt import FINISHING, interrupted_with, run
from .job_options import job_options
from .numbers import Number, Whole
from .status import Status
from .streams import forgive_output, naming
from .text import columns, defused, fitted, line, print_json, print_prose, say
from .watching import Pace, Worker

if TYPE_CHECKING:
    from ..jobs import JobQueue, JobStatus, WorkSummary

T = TypeVar("T")
LEFT = "Other workers, or the same command, do what is left."


@click.group(cls=Group)
def jobs() -> None:
    """Submit bulk jobs to a Redis, and work on them from any number of machines."""


def queue_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give `command` what says where the jobs are, as its parameter `connection`."""

    @click.option(
        "--workspace", metavar="NAME", help="Whose jobs [RECALL_WORKSPACE, or else default]; its workers name it, too."
    )
    @redis_option
    @prefix_option
    @wraps(command)
    def located(*args: Any, workspace: str | None, redis: str | None, prefix: str, **options: Any) -> Any:
        connection = Connection(workspace=workspace, redis=redis_url(redis), prefix=prefix)
        _redis_of(connection)
        return command(*args, connection=connection, **options)

    return located


chunk_size_option: Decorator = click.option(
    "--chunk-size", type=Whole(1), default=200, show_default=True, metavar="N",
    help="Actions that a worker takes at once.",
)  # fmt: skip


@jobs.command()
@actions_argument
@click.option("--name", required=True, metavar="NAME", help="What the job is called from now on.")
@bot_config_option
@chunk_size_option
@json_option
@queue_options
def submit(
    connection: Connection, actions: str, name: str, bot_config: str | None, chunk_size: int, as_json: bool
) -> None:
    """Write a job for the workers.

    ACTIONS is as in `bulk`, and checked as a whole before anything is written. The same command again does nothing, or
    writes the rest if it was interrupted.
    """
    with checked_actions(actions, bot_config) as file:
        _change(
            connection,
            lambda queue: queue.submit(name, file, chunk_size=chunk_size),
            "The same command writes what is not written yet.",
            as_json=as_json,
        )


@jobs.command()
@click.option("--once/--forever", default=True, show_default=True,
              help="End when all jobs are finished, or wait for others.")  # fmt: skip
@job_options
@click.option("--chunks", type=Whole(1), default=2, show_default=True, metavar="N",
              help="Chunks at work at once.")  # fmt: skip
@click.option("--lease", type=Number(1), default=30.0, show_default=True, metavar="SECONDS",
              help="When a dead worker's chunk is another's; the same for all workers.")  # fmt: skip
@json_option
@connection_options
def work(
    connection: Connection,
    once: bool,
    pace: str,
    concurrency: int | None,
    max_outage: float,
    chunks: int,
    lease: float,
    as_json: bool,
) -> Status:
    """Work on the jobs of a workspace, together with all its other workers.

    All of them share the quota through the same Redis: give them the same --workspace, --prefix, --pace and
    --quota-scale. Ctrl-C finishes the requests in flight, and leaves the rest to others; twice stops at once.
    """
    from ..stopping import StopSignal

    forgive_output()
    _redis_of(connection)
    session = connection.session(pace=pace)
    worker, stop = Worker(session), StopSignal()

    async def serve(shown: Display) -> WorkSummary:
        async with _queue(connection, lease=lease) as queue, session, redrawn(shown, worker.progress):
            return await queue.work(
                session,
                concurrency=concurrency,
                chunks=chunks,
                forever=not once,
                max_outage=max_outage,
                on_outcome=worker.add,
                stop=stop,
            )

    try:
        with interrupted_with(f"Requests in flight may have taken effect. {LEFT}"), display("jobs") as shown:

            def stop_gently() -> None:
                shown.say(FINISHING)
                stop.set()

            worked = run(serve(shown), gently=stop_gently)
    finally:  # below the bar, which has been drawn for the last time
        draw_failures(worker.failures, err=True)
    if as_json:
        print_json({**asdict(worked), "failures": [asdict(cause) for cause in worker.failures.causes()]})
    else:
        print_prose(f"{worked.done} done, {worked.failed} failed, {worked.skipped} skipped by this worker")
    if stop.is_set:
        say(f"Interrupted. {LEFT}")
        return Status.INTERRUPTED
    return Status.FAILED if worked.failed else Status.DONE


@jobs.command("list")
@json_option
@queue_options
def list_(connection: Connection, as_json: bool) -> None:
    """List the jobs of a workspace, the earliest first."""
    found = _ask(connection, lambda queue: queue.list())
    if as_json:
        print_json([{**asdict(status), "finished": status.finished} for status in found])
        return
    for status in found:
        _tell(status, as_json=False)
    if not found:
        say(f"no jobs in workspace {connection.shared_workspace!r}")


@jobs.command()
@click.argument("name")
@chunk_size_option
@json_option
@queue_options
def retry(connection: Connection, name: str, chunk_size: int, as_json: bool) -> None:
    """Submit again what failed of a job, or was given up, with its configuration. What is done stays done."""
    then = "The same command submits what is not submitted again yet."
    _change(connection, lambda queue: queue.retry(name, chunk_size=chunk_size), then, as_json=as_json)


@jobs.command()
@click.argument("name")
@click.option("--watch", is_flag=True, help="Go on until the job is finished.")
@json_option
@queue_options
def status(connection: Connection, name: str, watch: bool, as_json: bool) -> Status:
    """Show where a job is. The exit status is 1 if it is finished and something failed.

    With --watch a terminal shows one line, with the rate and the time that is left at this rate.
    """

    async def look(queue: JobQueue) -> JobStatus:
        pace = Pace()
        drawn = watch and not as_json and sys.stdout.isatty()
        shown = None
        while True:
            status = await queue.status(name)
            pace.note(status, monotonic())
            ended = status.finished or not watch
            if drawn:
                width = columns(sys.stdout) or 80
                text = "" if ended else fitted(_figures_of(status) + pace.text(status), width - 1)
                click.echo(f"\r\x1b[K{text}", nl=False)
            if not (drawn and not ended) and status != shown:
                _tell(status, as_json=as_json, more=pace.text(status) if watch else "")
                shown = status
            if ended:
                return status
            await asyncio.sleep(1.0)

    status = _ask(connection, look)
    return Status.FAILED if status.finished and (status.failed or status.chunks_dead) else Status.DONE


@jobs.command()
@click.argument("name")
@click.option("--out", required=True, type=WrittenFile(path_type=None, allow_dash=True), metavar="RESULTS.jsonl",
              help="The file that is written, a line for each finished action; what was in it is replaced. - is "
              "standard output.")  # fmt: skip
@queue_options
def results(connection: Connection, name: str, out: str) -> None:
    """Write what became of each action of a job, as `bulk` does."""
    import msgspec

    async def fetch(queue: JobQueue) -> int:
        count = 0
        shown = defused if out == "-" else bytes
        await queue.status(name)  # what is in the file stays if there is no such job
        with naming(out), click.open_file(out, "wb") as file:
            async for outcome in queue.results(name):
                file.write(shown(msgspec.json.encode(outcome)) + b"\n")
                count += 1
            file.flush()
        return count

    with interrupted_with("The results are incomplete: give the same command again."):
        count = _ask(connection, fetch)
    say(f"{count} results")


@jobs.command()
@click.argument("name")
@json_option
@queue_options
def cancel(connection: Connection, name: str, as_json: bool) -> None:
    """Drop what is left of a job. Workers finish what they have sent, and begin none of its actions any more."""

    async def drop(queue: JobQueue) -> JobStatus:
        await queue.cancel(name)
        return await queue.status(name)

    then = f"The job may have been cancelled: see `recall-async jobs status {line(name)}`."
    _change(connection, drop, then, as_json=as_json)


def _redis_of(connection: Connection) -> str:
    if connection.redis is None:
        raise click.UsageError("no Redis: give its URL with --redis, or set RECALL_REDIS_URL")
    return connection.redis


def _queue(connection: Connection, **options: Any) -> JobQueue:
    from ..jobs import JobQueue

    workspace = connection.shared_workspace
    return JobQueue.from_url(_redis_of(connection), prefix=connection.prefix, workspace=workspace, **options)


def _ask(connection: Connection, question: Callable[[JobQueue], Awaitable[T]]) -> T:
    """Return the answer to `question`, a coroutine function that takes the open queue."""

    async def asked() -> T:
        async with _queue(connection, patience=10.0) as queue:
            return await question(queue)

    return run(asked())


def _change(
    connection: Connection, request: Callable[[JobQueue], Awaitable[JobStatus]], then: str, *, as_json: bool
) -> None:
    """Do as `_ask`, and print the status of the job. Output that cannot be written is no error.

    If it is interrupted, say `then`: what may have been done, and what to do.
    """
    with interrupted_with(then):
        status = _ask(connection, request)
    forgive_output()
    _tell(status, as_json=as_json)


def _line_of(status: JobStatus) -> str:
    standing = "cancelled" if status.cancelled else "finished" if status.finished else "under way"
    chunks = {"open": status.chunks_open, "in work": status.chunks_in_work, "given up": status.chunks_dead}
    return (
        f"{line(status.name)}: {standing}, {status.done} done, {status.failed} failed, {status.skipped} skipped "
        f"of {status.total}; chunks: " + ", ".join(f"{count} {what}" for what, count in chunks.items())
    )


def _figures_of(status: JobStatus) -> str:
    """Return how far a job is, in so few words that the rest of the line has room for its pace."""
    finished = status.done + status.failed + status.skipped
    counts = {"failed": status.failed, "skipped": status.skipped, "given up": status.chunks_dead}
    told = [f"{count} {what}" for what, count in counts.items() if count]
    return ", ".join([f"{line(status.name)}: {finished}/{status.total}", *told])


def _tell(status: JobStatus, *, as_json: bool, more: str = "") -> None:
    if as_json:
        print_json({**asdict(status), "finished": status.finished})
        return
    print_prose(_line_of(status) + more, indent="  ")
    if not status.submitted and not status.cancelled:
        say("Not all of it was submitted: the same submit command writes the rest.")
