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
from .command import ListByDefault, json_option
from .connection import Connection, connection_options
from .interrupt import UNCHANGED, run
from .listing import Listing, limit_option
from .requests import ask, change
from .status import Status
from .table import Column
from .text import columns, line, moment, place, print_card, print_json, say
from .when import range_options

if TYPE_CHECKING:
    from ..bot_models import Bot
    from ..session import RecallSession

_COLUMNS = (Column("JOINS (UTC)", 16), Column("BOT", 36), Column("STATUS", 8))


@click.group(cls=ListByDefault)
def bots() -> None:
    """List and show bots, and make them leave their calls. Without a subcommand, list them."""


@bots.command("list")
@range_options("bots that join")
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
    start: datetime | None,
    end: datetime | None,
    status: tuple[str, ...],
    platform: tuple[str, ...],
    meeting_url: str | None,
) -> None:
    """List the bots of the workspace.

    TIME is as in `recall-async events`. Statuses are such as ready (waits for its meeting), joining_call,
    in_waiting_room, in_call_recording, done and fatal.

    With --json, one bot per line.
    """
    pairs = dict(_pair(text) for text in metadata)
    shown = Listing("bots", _COLUMNS, _rows, _document)
    shown.show(
        connection.session(),
        lambda recall: recall.bots.list(
            join_at_after=start,
            join_at_before=end,
            status=status or None,
            platform=platform or None,
            meeting_url=meeting_url,
            metadata=pairs or None,
        ),
        limit,
        as_json=as_json,
    )


@bots.command("show")
@click.argument("bot_id", type=click.UUID)
@json_option
@connection_options
def show(connection: Connection, bot_id: UUID, as_json: bool) -> None:
    """Show the bot BOT_ID: its status changes and its recordings."""
    _print(ask(connection.session(), lambda recall: recall.bots.retrieve(bot_id)), as_json)


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
        say(UNCHANGED)
        return Status.FAILED
    then = f"see `recall-async bots show {bot_id}`"
    _print(change(session, lambda recall: recall.bots.leave_call(bot_id), then), as_json)
    return Status.DONE


async def states_of(recall: RecallSession, bot_ids: Iterable[str]) -> dict[str, Bot | None]:
    """Retrieve bots, by id; `None` for a bot that was removed. Raises the first error of a request."""
    import asyncio

    from ..errors import NotFoundError

    async def state(bot_id: str) -> Bot | None:
        try:
            return await recall.bots.retrieve(bot_id)
        except NotFoundError:
            return None

    try:
        async with asyncio.TaskGroup() as group:
            tasks = {bot_id: group.create_task(state(bot_id)) for bot_id in bot_ids}
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None  # one reason is enough for a person
    return {bot_id: task.result() for bot_id, task in tasks.items()}


def state_in_words(bot: Bot | None) -> str:
    """Return a bot's status, with the reason in parentheses."""
    if bot is None:
        return "removed"
    return f"{bot.status} ({bot.sub_code})" if bot.sub_code else bot.status


def state_in_fields(bot: Bot | None) -> dict[str, Any]:
    """Return a bot's status and the time at which it joined, which the API does not send as fields."""
    if bot is None:
        return {"status": "removed", "sub_code": None, "joined_at": None}
    return {"status": bot.status, "sub_code": bot.sub_code, "joined_at": bot.joined_at}


def _document(bot: Bot) -> dict[str, Any]:
    """Return a bot as JSON."""
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(bot))
    return document | state_in_fields(bot)


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
        print_json(_document(bot))
        return
    rows = [
        ("id", bot.id),
        ("status", state_in_words(bot)),
        ("where", place(bot.meeting_url)),
        ("joins", None if bot.join_at is None else f"{moment(bot.join_at)} UTC"),
        ("joined", None if bot.joined_at is None else f"{bot.joined_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("metadata", msgspec.json.encode(bot.metadata).decode() if bot.metadata else None),
    ]
    for step in bot.status_changes:
        when = "" if step.created_at is None else f"{step.created_at:%Y-%m-%d %H:%M:%S} UTC  "
        rows.append(("  was", f"{when}{step.code}{f' ({step.sub_code})' if step.sub_code else ''}"))
    for recording in bot.recordings:
        rows.append(("recording", f"{recording.id} {recording.status or ''}"))
        rows += [(f"  {name.partition('_')[0]}", address) for name, address in recording.download_urls.items()]
    print_card(bot.bot_name or "(no name)", rows)
