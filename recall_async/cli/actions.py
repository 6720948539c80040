"""`actions`: calendar events in, the actions of a bulk job out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import UUID

import click
import msgspec

from ..reading import check_kind
from .command import Command
from .connection import Connection, connection_options
from .events import read_config
from .interrupt import run
from .listing import limit_option
from .records import check_length, lines_of
from .streams import reader_gone
from .text import print_json, say
from .when import range_options

if TYPE_CHECKING:
    from ..models import Calendar, CalendarEvent
    from ..session import RecallSession
    from ..sync.policy import BotSpec, RecordingPolicy


@click.command(cls=Command)
@click.argument("events", required=False, type=click.File("rb"))
@click.option("--policy", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="POLICY.toml",
              help="Which events get a bot, and which. By default all with a meeting URL.")  # fmt: skip
@click.option("--bot-config", metavar="JSON|@FILE", help="Complete configuration of the bots, in place of --policy.")
@click.option("--remove", is_flag=True, help="Write removals, for events that have a bot, in place of schedules.")
@click.option("--calendar-id", type=click.UUID, metavar="ID", help="Only events of this calendar.")
@range_options("events that start")
@limit_option("actions")
@connection_options
def actions(
    connection: Connection,
    events: BinaryIO | None,
    policy: Path | None,
    bot_config: str | None,
    remove: bool,
    calendar_id: UUID | None,
    start: datetime | None,
    end: datetime | None,
    limit: int | None,
) -> None:
    """Write the actions that `bulk` and `jobs submit` work on, one per line.

    EVENTS is what `recall-async events --json` printed; - is standard input. Without it, the events are listed. TIME is
    as in `events`. Events that are over, deleted or cancelled get no action.

    With EVENTS and without --policy, nothing is sent and no API key is needed.
    """
    if policy is not None and bot_config is not None:
        raise click.UsageError("--bot-config cannot be used with --policy, which has a bot_config of its own")
    from ..sync.policy import RecordingPolicy

    rules = None if policy is None else RecordingPolicy.from_toml(policy)
    config = read_config(bot_config) if bot_config else {}
    session = connection.session() if events is None or rules is not None else None

    async def write() -> tuple[int, int]:
        found = written = 0
        async with AsyncExitStack() as stack:
            recall = None if session is None else await stack.enter_async_context(session)
            calendars = {}
            if recall is not None and rules is not None:
                calendars = {calendar.id: calendar async for calendar in recall.calendars.list()}
            async for event in _events(recall, events, calendar_id, start, end):
                found += 1
                action = _action(event, _bot_for(event, rules, config, calendars), remove=remove)
                if action is not None:
                    print_json(action)
                    written += 1
                if written == limit or reader_gone():
                    break
        return found, written

    found, written = run(write())
    say(f"{written} actions for {found} events")


async def _events(
    recall: RecallSession | None,
    file: BinaryIO | None,
    calendar_id: UUID | None,
    start: datetime | None,
    end: datetime | None,
) -> AsyncIterator[CalendarEvent]:
    if file is None:
        assert recall is not None
        async for event in recall.calendar_events.list(
            calendar_id=calendar_id, start_time__gte=start, start_time__lte=end, is_deleted=False
        ):
            yield event
        return
    for event in _decoded(file):
        here = calendar_id is None or event.calendar_id == str(calendar_id)
        if here and (start is None or event.start_time >= start) and (end is None or event.start_time <= end):
            yield event


def _decoded(file: BinaryIO) -> Iterator[CalendarEvent]:
    from ..models import CalendarEvent

    check_kind("events", file)
    decoder = msgspec.json.Decoder(CalendarEvent)
    for number, text in enumerate(lines_of(file), 1):
        if not text.strip():
            continue
        try:
            yield decoder.decode(check_length(text).removeprefix(b"\xef\xbb\xbf"))
        except (ValueError, RecursionError) as error:
            raise click.UsageError(
                f"{getattr(file, 'name', '-')}:{number}: not an event of `recall-async events --json`: {error}"
            ) from None


def _bot_for(
    event: CalendarEvent, rules: RecordingPolicy | None, config: dict[str, Any], calendars: dict[str, Calendar]
) -> BotSpec | None:
    from ..sync.deduplication import Deduplication
    from ..sync.policy import BotSpec

    if rules is None:
        wanted = event.meeting_url is not None and not event.is_cancelled
        return BotSpec(Deduplication.MEETING(event), config) if wanted else None
    calendar = calendars.get(event.calendar_id)
    # Another workspace's event, or one of a calendar that is gone: nobody says whose policy holds.
    return None if calendar is None else rules(event, calendar)


def _action(event: CalendarEvent, bot: BotSpec | None, *, remove: bool) -> dict[str, Any] | None:
    if event.is_deleted or event.end_time <= datetime.now(UTC) or bot is None or (remove and not event.bots):
        return None
    when = {"start_time": event.start_time, "end_time": event.end_time}
    if remove:
        return {"action": "remove", "event_id": event.id, **when}
    return {
        "action": "schedule",
        "event_id": event.id,
        "deduplication_key": bot.deduplication_key,
        "bot_config": bot.bot_config,
        **when,
    }
