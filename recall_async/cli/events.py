"""`events`, `event`, `schedule` and `remove`: calendar events, and the bots on them, one command each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .connection import Connection, connection_options
from .interrupt import run
from .text import json_option, line, moment, print_json, say

if TYPE_CHECKING:
    from ..models import CalendarEvent, MeetingURL


@click.command()
@click.option("--calendar-id", metavar="ID", help="Only events of this calendar.")
@click.option("--from", "start_time__gte", metavar="TIME", help="Only events that start then or later.")
@click.option("--to", "start_time__lte", metavar="TIME", help="Only events that start then or earlier.")
@click.option("--include-deleted", is_flag=True, help="Events that were deleted from their calendar, too.")
@json_option
@connection_options
def events(connection: Connection, as_json: bool, include_deleted: bool, **filters: Any) -> None:
    """List calendar events.

    TIME is such as 2025-06-10T18:54:00Z. With --json there is one event per line.
    """
    session = connection.session()

    async def show() -> int:
        count = 0
        async with session as recall:
            async for event in recall.calendar_events.list(is_deleted=None if include_deleted else False, **filters):
                count += 1
                if as_json:
                    print_json(event)
                else:
                    click.echo(_in_one_line(event))
        return count

    count = run(show())
    if not as_json:
        say(f"{count} events")


@click.command()
@click.argument("event_id")
@json_option
@connection_options
def event(connection: Connection, event_id: str, as_json: bool) -> None:
    """Show the calendar event EVENT_ID and its bots."""
    session = connection.session()

    async def show() -> CalendarEvent:
        async with session as recall:
            return await recall.calendar_events.retrieve(event_id)

    _print(run(show()), as_json)


@click.command()
@click.argument("event_id")
@click.option("--deduplication-key", metavar="KEY", required=True, help="Events with one key share one bot.")
@click.option("--bot-config", metavar="JSON|@FILE", default="{}", help="The whole configuration of the bot.")
@json_option
@connection_options
def schedule(connection: Connection, event_id: str, deduplication_key: str, bot_config: str, as_json: bool) -> None:
    """Put a bot on the calendar event EVENT_ID, or replace it.

    The bot's whole configuration is replaced. A good key is {start_time}-{meeting_url}, which gives each meeting one bot;
    the scheme must be the same for all events of a workspace.
    """
    session, config = connection.session(), read_config(bot_config)

    async def put() -> CalendarEvent:
        async with session as recall:
            return await recall.calendar_events.schedule_bot(
                event_id, deduplication_key=deduplication_key, bot_config=config
            )

    _print(run(put()), as_json)


@click.command()
@click.argument("event_id")
@json_option
@connection_options
def remove(connection: Connection, event_id: str, as_json: bool) -> None:
    """Take the bots off the calendar event EVENT_ID. A bot shared with other events stays with them."""
    session = connection.session()

    async def take() -> CalendarEvent:
        async with session as recall:
            return await recall.calendar_events.remove_bot(event_id)

    _print(run(take()), as_json)


def read_config(given: str) -> dict[str, Any]:
    """A bot configuration: JSON, or `@` and the name of a file with it. Raises `BadParameter`."""
    try:
        text = Path(given[1:]).read_text("utf-8-sig") if given.startswith("@") else given
        config = msgspec.json.decode(text)
    except OSError as error:
        raise click.BadParameter(f"{given[1:]} cannot be read: {error.strerror}", param_hint="--bot-config") from None
    except ValueError as error:
        raise click.BadParameter(f"this is no JSON: {error}", param_hint="--bot-config") from None
    if not isinstance(config, dict):
        raise click.BadParameter('it is a JSON object, such as {"bot_name": "Notes"}', param_hint="--bot-config")
    return config


def _print(event: CalendarEvent, as_json: bool) -> None:
    if as_json:
        print_json(event)
        return
    click.echo(line(event.title) or "(no title)")
    answers = Counter(attendee.response or "no answer" for attendee in event.attendees)
    rows = {
        "id": event.id,
        "when": f"{moment(event.start_time)} to {moment(event.end_time)} UTC",
        "where": line(_place(event.meeting_url)),
        "calendar": f"{event.calendar_id} ({line(event.platform)})",
        "organizer": line(event.organizer),
        "attendees": ", ".join(f"{number} {answer.replace('_', ' ')}" for answer, number in answers.items()),
        "series": line(event.series_id),
        "state": "deleted" if event.is_deleted else "cancelled" if event.is_cancelled else "",
    }
    for name, value in rows.items():
        if value:
            click.echo(f"  {name:<10} {value}")
    for bot in event.bots:
        click.echo(f"  {'bot':<10} {bot.bot_id} from {moment(bot.start_time)} UTC, key {line(bot.deduplication_key)}")
    if not event.bots:
        click.echo(f"  {'bot':<10} none")


def _in_one_line(event: CalendarEvent) -> str:
    marks = "deleted" if event.is_deleted else f"{len(event.bots)} bot{'s' * (len(event.bots) != 1)}"
    place = event.meeting_platform or ("-" if event.meeting_url is None else "a meeting")
    return f"{moment(event.start_time)}  {event.id}  {marks:<7}  {line(place):<15}  {line(event.title)}"


def _place(url: str | MeetingURL | None) -> str | None:
    return url if url is None or isinstance(url, str) else msgspec.json.encode(url).decode()
