"""`bots`: the status of scheduled bots, and the command that ends a bot's call."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
import msgspec

from .asking import confirm
from .command import ListByDefault
from .connection import Connection, connection_options
from .interrupt import run, run_change
from .listing import limit_option, print_all, say_count
from .status import Status
from .streams import forgive_output
from .table import Column
from .text import columns, json_option, line, moment, place, print_card, print_json, say
from .when import When, check_range

if TYPE_CHECKING:
    from ..bot_models import Bot
    from ..session import RecallSession

_COLUMNS = (Column("JOINS (UTC)", 16), Column("BOT", 36), Column("STATUS", 8))


@click.group(cls=ListByDefault)
def bots() -> None:
    """List and show bots, and make them leave their calls. Without a subcommand, list them."""


@bots.command("list")
@click.option("--from", "join_at_after", type=When(), metavar="TIME", help="Only bots that join at TIME or later.")
@click.option("--to", "join_at_before", type=When(end=True), metavar="TIME",
              help="Only bots that join at TIME or earlier.")  # fmt: skip
@click.option("--status", metavar="NAME", multiple=True, help="Only bots with this status; can be repeated.")
@click.option("--platform", metavar="NAME", multiple=True, help="Only bots on this platform; can be repeated.")
@click.option("--meeting-url", metavar="URL", help="Only bots of this meeting.")
@click.option("--metadata", metavar="KEY=VALUE", multiple=True, help="Only bots with this metadata; can be repeated.")
@limit_option("bots")
@json_option
@connection_options
def list_(
    connection: Connection,
    as_json: bool,
    limit: int | None,
    metadata: tuple[str, ...],
    join_at_after: datetime | None,
    join_at_before: datetime | None,
    status: tuple[str, ...],
    platform: tuple[str, ...],
    meeting_url: str | None,
) -> None:
    """List the bots of the workspace.

    TIME is as in `recall-async events`. Statuses are such as ready (waits for its meeting), joining_call,
    in_waiting_room, in_call_recording, done and fatal.

    With --json, one bot per line.
    """
    check_range(join_at_after, join_at_before)
    session = connection.session()
    pairs = dict(_pair(text) for text in metadata)

    async def show() -> int:
        async with session as recall:
            found = recall.bots.list(
                join_at_after=join_at_after,
                join_at_before=join_at_before,
                status=status or None,
                platform=platform or None,
                meeting_url=meeting_url,
                metadata=pairs or None,
            )
            return await print_all(found, document_of if as_json else None, _COLUMNS, _rows, limit)

    count = run(show())
    if not as_json:
        say_count(count, "bots", limit)


@bots.command("show")
@click.argument("bot_id", type=click.UUID)
@json_option
@connection_options
def show(connection: Connection, bot_id: UUID, as_json: bool) -> None:
    """Show the bot BOT_ID: its status changes and its recordings."""
    session = connection.session()

    async def retrieve() -> Bot:
        async with session as recall:
            return await recall.bots.retrieve(bot_id)

    _print(run(retrieve()), as_json)


@bots.command("leave")
@click.argument("bot_id", type=click.UUID)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@json_option
@connection_options
def leave(connection: Connection, bot_id: UUID, yes: bool, as_json: bool) -> Status:
    """Make the bot BOT_ID leave its call. This cannot be undone.

    Asks first when standard input is a terminal. A bot that has not joined yet is removed with `recall-async remove`.
    """
    session = connection.session()
    question = f"Make bot {bot_id} leave its call? It does not come back."
    if not yes and sys.stdin and sys.stdin.isatty() and not run(confirm(question)):
        say("Nothing was changed.")
        return Status.FAILED

    async def end() -> Bot:
        async with session as recall:
            return await recall.bots.leave_call(bot_id)

    left = run_change(session, end(), "bots.leave_call", f"see `recall-async bots show {bot_id}`")
    forgive_output()
    _print(left, as_json)
    return Status.DONE


async def states_of(recall: RecallSession, bot_ids: Iterable[str]) -> dict[str, Bot | None]:
    """Retrieve bots, by id; `None` for a bot that was removed."""
    import asyncio

    from ..errors import NotFoundError

    async def state(bot_id: str) -> Bot | None:
        try:
            return await recall.bots.retrieve(bot_id)
        except NotFoundError:
            return None

    async with asyncio.TaskGroup() as group:
        tasks = {bot_id: group.create_task(state(bot_id)) for bot_id in bot_ids}
    return {bot_id: task.result() for bot_id, task in tasks.items()}


def state_in_words(bot: Bot | None) -> str:
    """Return a bot's status, with the reason in parentheses."""
    if bot is None:
        return "removed"
    return f"{bot.status} ({bot.sub_code})" if bot.sub_code else bot.status


def document_of(bot: Bot) -> dict[str, Any]:
    """Return a bot as the API represents it, with its current status and the time at which it joined."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(bot))
    return document | {"status": bot.status, "sub_code": bot.sub_code, "joined_at": bot.joined_at}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.BadParameter(f"must be KEY=VALUE, got {text!r:.80}", param_hint="--metadata")
    return name, value


def _rows(bot: Bot) -> list[tuple[str, ...]]:
    joins = "-" if bot.join_at is None else moment(bot.join_at)
    state, width = line(state_in_words(bot)), columns(sys.stdout)
    if not bot.sub_code or width is None or len(state) <= width - len(f"{joins:16}  {bot.id}  "):
        return [(joins, line(bot.id), state)]
    # Below the id, where the reason is not cut.
    return [(joins, line(bot.id), line(bot.status)), ("", f"({line(bot.sub_code)})", "")]


def _print(bot: Bot, as_json: bool) -> None:
    if as_json:
        print_json(document_of(bot))
        return
    rows = [
        ("id", bot.id),
        ("status", state_in_words(bot)),
        ("where", place(bot.meeting_url)),
        ("joins", None if bot.join_at is None else f"{moment(bot.join_at)} UTC"),
        ("joined", None if bot.joined_at is None else f"{bot.joined_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("metadata", msgspec.json.encode(bot.metadata).decode() if bot.metadata else None),
    ]
    for change in bot.status_changes:
        when = "" if change.created_at is None else f"{change.created_at:%Y-%m-%d %H:%M:%S} UTC  "
        rows.append(("  was", f"{when}{change.code}{f' ({change.sub_code})' if change.sub_code else ''}"))
    for recording in bot.recordings:
        rows.append(("recording", f"{recording.id} {recording.status or ''}"))
        rows += [(f"  {name.partition('_')[0]}", address) for name, address in recording.download_urls.items()]
    print_card(bot.bot_name or "(no name)", rows)
