"""`events`, `event`, `schedule` and `remove`: calendar events, and the bots on them."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
import msgspec

from ..bulk.records import why_not_json
from .bots import state_in_fields, state_in_words, states_of
from .command import Command, json_option
from .connection import Connection, connection_options, read_text
from .listing import Listing, limit_option
from .requests import ask, change
from .table import Column
from .text import line, moment, place, print_card, print_json
from .when import range_options

if TYPE_CHECKING:
    from ..bot_models import Bot
    from ..models import CalendarEvent
    from ..session import RecallSession

    Found = tuple[CalendarEvent, dict[str, Bot | None] | None]
    """An event, and its bots by id if their statuses are wanted."""

_COLUMNS = (Column("START (UTC)", 16), Column("EVENT", 36), Column("BOTS", 4, right=True), Column("TITLE", 8))


@click.command(cls=Command)
@click.option("--calendar-id", type=click.UUID, metavar="ID", help="Only events of this calendar.")
@range_options("events that start")
@click.option("--include-deleted", is_flag=True, help="Include events that were deleted from their calendar.")
@click.option("--bots", "with_bots", is_flag=True, help="Show the status of each bot: one request per bot.")
@limit_option("events")
@json_option
@connection_options
def events(
    connection: Connection,
    as_json: bool,
    with_bots: bool,
    include_deleted: bool,
    limit: int | None,
    calendar_id: UUID | None,
    start: datetime | None,
    end: datetime | None,
) -> None:
    """List calendar events.

    TIME is a date (2026-11-27), a day (today, tomorrow), a distance from now (+2d, -3h, +30m) or a full time
    (2026-11-27T18:30:00Z). Times are in UTC unless they name a time zone. --to with a date or a day includes all of it.

    BOTS is the number of bots on the event; "-" if it has no meeting URL and cannot have one, "gone" if it was deleted.

    With --json, one event per line, as `recall-async actions` reads them.
    """

    async def find(recall: RecallSession) -> AsyncIterator[Found]:
        async for event in recall.calendar_events.list(
            calendar_id=calendar_id,
            start_time__gte=start,
            start_time__lte=end,
            is_deleted=None if include_deleted else False,
        ):
            yield await _with_states(recall, event, with_bots)

    Listing("events", _COLUMNS, _rows, _document).show(connection.session(), find, limit, as_json=as_json)


@click.command(cls=Command)
@click.argument("event_id", type=click.UUID)
@click.option("--bots", "with_bots", is_flag=True, help="Show the status of each bot: one request per bot.")
@json_option
@connection_options
def event(connection: Connection, event_id: UUID, with_bots: bool, as_json: bool) -> None:
    """Show the calendar event EVENT_ID and its bots."""

    async def find(recall: RecallSession) -> Found:
        return await _with_states(recall, await recall.calendar_events.retrieve(event_id), with_bots)

    _print(ask(connection.session(), find), as_json)


@click.command(cls=Command)
@click.argument("event_id", type=click.UUID)
@click.option(
    "--deduplication-key", metavar="KEY", help="Events with one key share a bot [default: by start and link]."
)
@click.option("--bot-config", metavar="JSON|@FILE", default="{}", help="The complete configuration of the bot.")
@json_option
@connection_options
def schedule(
    connection: Connection, event_id: UUID, deduplication_key: str | None, bot_config: str, as_json: bool
) -> None:
    """Schedule a bot on the calendar event EVENT_ID, or replace its bot.

    The bot gets the --bot-config that is given, complete: nothing is merged.

    Without --deduplication-key the event is retrieved first, and the key is {start_time}-{meeting_url}, so that each
    meeting has one bot however many calendars it is in. All events of a workspace must use one scheme: give the key where
    your other programs use another.
    """
    session, config = connection.session(), read_config(bot_config)

    from ..sync.deduplication import Deduplication

    async def put(recall: RecallSession) -> CalendarEvent:
        key = deduplication_key
        if key is None:
            key = Deduplication.MEETING(await recall.calendar_events.retrieve(event_id))
        return await recall.calendar_events.schedule_bot(event_id, deduplication_key=key, bot_config=config)

    _print((change(session, put, _then(event_id)), None), as_json)


@click.command(cls=Command)
@click.argument("event_id", type=click.UUID)
@json_option
@connection_options
def remove(connection: Connection, event_id: UUID, as_json: bool) -> None:
    """Remove the bots from the calendar event EVENT_ID. Other events that share a bot keep it."""
    changed = change(connection.session(), lambda recall: recall.calendar_events.remove_bot(event_id), _then(event_id))
    _print((changed, None), as_json)


def _then(event_id: UUID) -> str:
    return f"see `recall-async event {event_id}`, or give the same command again"


def read_config(given: str) -> dict[str, Any]:
    """Read a bot configuration: JSON, or `@` and the name of a file with JSON. Raises `BadParameter`."""
    text = read_text("bot_config", given[1:]) if given.startswith("@") else given
    try:
        config = msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise click.BadParameter(why_not_json(error), param_hint="--bot-config") from None
    if not isinstance(config, dict):
        raise click.BadParameter('must be a JSON object, such as {"bot_name": "Notes"}', param_hint="--bot-config")
    return config


async def _with_states(recall: RecallSession, event: CalendarEvent, with_bots: bool) -> Found:
    bot_ids = dict.fromkeys(bot.bot_id for bot in event.bots)
    return event, await states_of(recall, bot_ids) if with_bots else None


def _document(found: Found) -> Any:
    """Return an event as JSON, with the status of each of its bots if they are known."""
    event, states = found
    if states is None:
        return event
    document: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(event))
    for entry in document["bots"]:
        entry |= state_in_fields(states[entry["bot_id"]])
    return document


def _print(found: Found, as_json: bool) -> None:
    if as_json:
        print_json(_document(found))
        return
    event, states = found
    replies = Counter(attendee.response or "no reply" for attendee in event.attendees)
    rows = [
        ("id", event.id),
        ("when", f"{moment(event.start_time)} to {moment(event.end_time)} UTC"),
        ("where", place(event.meeting_url)),
        ("calendar", f"{event.calendar_id} ({event.platform})"),
        ("organizer", event.organizer),
        ("attendees", ", ".join(f"{number} {reply.replace('_', ' ')}" for reply, number in replies.items())),
        ("series", event.series_id),
        ("state", "deleted" if event.is_deleted else "cancelled" if event.is_cancelled else None),
    ]
    for bot in event.bots:
        rows += [
            ("bot", bot.bot_id),
            ("  starts", f"{moment(bot.start_time)} UTC"),
            ("  key", bot.deduplication_key),
        ]
        if states is not None:
            rows.append(("  status", state_in_words(states[bot.bot_id])))
    print_card(event.title or "(no title)", rows if event.bots else [*rows, ("bot", "none")])


def _rows(found: Found) -> list[tuple[str, str, str, str]]:
    """Return the row of an event, and one for each of its bots whose status is known."""
    event, states = found
    bots = "-" if event.meeting_url is None and not event.bots else str(len(event.bots))
    bots = "gone" if event.is_deleted else bots
    rows = [(moment(event.start_time), line(event.id), bots, line(event.title))]
    return rows + [("", line(bot_id), "", line(state_in_words(bot))) for bot_id, bot in (states or {}).items()]
