"""`calendars`: the accounts whose events are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click
import msgspec

from .command import Decorator, ListByDefault, json_option
from .connection import Connection, connection_options, option_of, read_text, secret_file_option
from .interrupt import UNCHANGED, run
from .listing import Listing, limit_option
from .removals import Limit, TooManyRemovals, may_remove, removal_options
from .requests import ask, change
from .status import Status
from .table import Column
from .text import line, moment, print_card, print_json, say

if TYPE_CHECKING:
    from ..models import Calendar
    from ..session import RecallSession

_COLUMNS = (Column("CALENDAR", 36), Column("STATUS", 12), Column("ADDRESS", 8))


@click.group(cls=ListByDefault)
def calendars() -> None:
    """List, show, connect, change and disconnect calendars. Without a subcommand, list them."""


@calendars.command("list")
@click.option("--email", metavar="ADDRESS", help="Only calendars of this address.")
@click.option("--platform", metavar="NAME", help="google_calendar or microsoft_outlook.")
@click.option("--status", metavar="NAME", help="connecting, connected or disconnected.")
@limit_option("calendars")
@json_option
@connection_options
def list_(connection: Connection, as_json: bool, limit: int | None, **filters: Any) -> None:
    """List calendars. With --json, one per line, with its secrets masked."""
    shown = Listing("calendars", _COLUMNS, _rows, _masked)
    shown.show(connection.session(), lambda recall: recall.calendars.list(**filters), limit, as_json=as_json)


@calendars.command("get")
@click.argument("calendar_id", type=click.UUID)
@json_option
@connection_options
def get(connection: Connection, calendar_id: UUID, as_json: bool) -> None:
    """Show the calendar CALENDAR_ID. Its secrets are masked."""
    _print(ask(connection.session(), lambda recall: recall.calendars.retrieve(calendar_id)), as_json)


def _fields(*, new: bool) -> Decorator:
    """Give a command the options for a calendar's fields; some are required for a new one."""

    def give(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--webhook-url", metavar="URL", help="Address that the calendar's webhooks are sent to."),
            click.option("--oauth-email", metavar="ADDRESS", help="Email address of the account."),
            secret_file_option(
                "--oauth-refresh-token-file", "File with it [the token itself in RECALL_OAUTH_REFRESH_TOKEN]."
            ),
            secret_file_option(
                "--oauth-client-secret-file", "File with it [the secret itself in RECALL_OAUTH_CLIENT_SECRET]."
            ),
            click.option("--oauth-client-id", metavar="ID", required=new, help="Id of your OAuth client."),
            click.option("--platform", metavar="NAME", required=new, help="google_calendar or microsoft_outlook."),
        ):
            command = option(command)
        return command

    return give


@calendars.command("create")
@_fields(new=True)
@json_option
@connection_options
def create(connection: Connection, as_json: bool, **fields: Any) -> None:
    """Connect a calendar. The OAuth secrets are read from files or from the environment."""
    given = _with_secrets(fields)
    for name in ("oauth_client_secret", "oauth_refresh_token"):
        if name not in given:
            raise click.UsageError(
                f"no {name.replace('_', ' ')}: use {option_of(name)}-file, or set RECALL_{name.upper()}"
            )
    then = "see `recall-async calendars` before you give the command again"
    _print(change(connection.session(), lambda recall: recall.calendars.create(**given), then), as_json)


@calendars.command("update")
@click.argument("calendar_id", type=click.UUID)
@_fields(new=False)
@json_option
@connection_options
def update(connection: Connection, calendar_id: UUID, as_json: bool, **fields: Any) -> None:
    """Change the calendar CALENDAR_ID. Fields that are not given stay as they are."""
    given = _with_secrets(fields)
    if not given:
        raise click.UsageError("nothing to change: give at least one field")
    then = f"see `recall-async calendars get {calendar_id}`, or give the same command again"
    updated = change(connection.session(), lambda recall: recall.calendars.update(calendar_id, **given), then)
    _print(updated, as_json)


@calendars.command("delete")
@click.argument("calendar_id", type=click.UUID)
@removal_options
@connection_options
def delete(connection: Connection, calendar_id: UUID, yes: bool, max_removals: Limit) -> Status:
    """Disconnect the calendar CALENDAR_ID, which removes the bots from its events.

    Asks first when it is run on a terminal; elsewhere it needs --yes if many bots would be removed.
    """
    if not yes:
        bots = ask(connection.session(), lambda recall: _count_bots(recall, calendar_id))
        try:
            what = f"Disconnect calendar {calendar_id}? "
            permitted = run(may_remove(bots, bots, yes=False, limit=max_removals, what=what))
        except TooManyRemovals as error:
            raise TooManyRemovals(f"calendar {calendar_id}: {error.message}") from None
        if not permitted:
            say(UNCHANGED)
            return Status.FAILED
    then = "see `recall-async calendars`"
    change(connection.session(), lambda recall: recall.calendars.delete(calendar_id), then)
    say(f"Calendar {calendar_id} is disconnected.")
    return Status.DONE


async def _count_bots(recall: RecallSession, calendar_id: UUID) -> int:
    """Count the events of a calendar that have a bot in the future."""
    now = datetime.now(UTC)
    listed = recall.calendar_events.list(
        calendar_id=calendar_id, start_time__gte=now - timedelta(days=1), is_deleted=False
    )
    return sum([any(bot.start_time > now for bot in event.bots) async for event in listed])


@calendars.command("token")
@click.argument("calendar_id", type=click.UUID)
@json_option
@connection_options
def token(connection: Connection, calendar_id: UUID, as_json: bool) -> None:
    """Print an access token for the platform's own API."""
    granted = ask(connection.session(), lambda recall: recall.calendars.create_access_token(calendar_id))
    if as_json:
        print_json(granted)
    else:
        click.echo(line(granted.token))
        say(f"The token expires at {moment(granted.expires_at)} UTC.")


def _with_secrets(fields: dict[str, Any]) -> dict[str, Any]:
    for name in ("oauth_client_secret", "oauth_refresh_token"):
        path: Path | None = fields.pop(f"{name}_file")
        given = read_text(f"{name}_file", path).strip() if path else os.environ.get(f"RECALL_{name.upper()}")
        fields[name] = given
    return {name: value for name, value in fields.items() if value is not None}


def _masked(calendar: Calendar) -> Calendar:
    from ..models import SECRET_FIELDS

    secrets = SECRET_FIELDS.intersection(calendar.__struct_fields__)
    return msgspec.structs.replace(calendar, **dict.fromkeys(secrets, "***"))


def _owner(calendar: Calendar) -> str | None:
    return calendar.platform_email or calendar.oauth_email


def _rows(calendar: Calendar) -> list[tuple[str, ...]]:
    return [(line(calendar.id), line(calendar.status), line(_owner(calendar)) or "-")]


def _print(calendar: Calendar, as_json: bool) -> None:
    if as_json:
        print_json(_masked(calendar))
        return
    rows = (
        ("id", calendar.id),
        ("platform", calendar.platform),
        ("status", calendar.status),
        ("client", calendar.oauth_client_id),
        ("webhooks", calendar.webhook_url),
        ("connected", f"{moment(calendar.created_at)} UTC"),
        ("changed", f"{moment(calendar.updated_at)} UTC"),
    )
    print_card(_owner(calendar) or "(no address)", rows)
