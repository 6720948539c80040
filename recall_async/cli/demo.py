"""`demo`: a job on a sandbox at the real quotas, and what its server says of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import click

from .command import Command, json_option
from .connection import Connection
from .drawing import display, draw_failures
from .interrupt import run
from .numbers import Whole
from .sandbox import requests_in
from .status import Status
from .table import Column, Table
from .text import duration, print_json, say

if TYPE_CHECKING:
    from ..bulk.actions import ScheduleBot
    from ..models import Calendar, CalendarEvent
    from ..session import RecallSession

SCHEDULE = "calendar_events.schedule_bot"
LABELS = {
    "events": "events seen",
    "bots": "bots scheduled",
    "sharing": "events sharing the bot of another",
    "requests": "requests",
    "throttled": "of them answered 429",
    "peak": "most schedule requests in any 60 s, of {limit}",
}


@click.command(cls=Command)
@click.option("--events", default=150, show_default=True, type=Whole(0), help="Calendar events in the sandbox.")
@click.option("--seed", default=7, show_default=True, type=Whole(), help="The same seed makes the same events.")
@click.option("--pace", type=click.Choice(["auto", "smooth", "greedy"]), default="auto", show_default=True,
              help="auto: 300 at once, then paced. smooth: 10 a second. greedy: 600 at once.")  # fmt: skip
@json_option
def demo(events: int, seed: int, pace: str, as_json: bool) -> Status:
    """Schedule bots on a local sandbox at the API's real quotas, and compare what server and client have counted.

    The exit status is 0 only if both agree and no request was answered 429.
    """
    from ..sandbox import RecallSandbox
    from ..session import RecallSession

    quotas = Connection().quotas(pace)
    with RecallSandbox(events=events, seed=seed) as sandbox:
        say(f"A sandbox on {sandbox.url} serves {events} events, at the API's real quotas.")
        session = RecallSession(sandbox.api_key, base_url=sandbox.url, workspace="demo", quotas=quotas)
        client, seconds = run(_schedule_all(session))
        with urlopen(f"{sandbox.url}/_sandbox/report") as answer:
            server = _of_report(json.load(answer))
    limit = quotas[SCHEDULE].limit
    # The client keeps no count of its busiest window: it promises that none holds more than the limit.
    agree = all(server[name] == client[name] for name in client) and not server["throttled"] and server["peak"] <= limit
    if as_json:
        print_json({"agree": agree, "seconds": round(seconds, 3), "limit": limit, "server": server, "client": client})
        return Status.DONE if agree else Status.FAILED
    table = Table(Column("What the server saw", 50), Column("server", 8, right=True), Column("client", 8, right=True))
    click.echo(f"\n{table.head()}")
    for name, label in LABELS.items():
        click.echo(table.row((f"  {label.format(limit=limit)}", str(server[name]), str(client.get(name, "")))))
    click.echo(table.row(("  time", duration(seconds), "")))
    click.echo("\nServer and client agree." if agree else "\nServer and client do NOT agree.")
    return Status.DONE if agree else Status.FAILED


async def _schedule_all(session: RecallSession) -> tuple[dict[str, int], float]:
    """Schedule all bots. Returns the client's own counts, and the seconds that it took."""
    from .job import Job

    async with session as recall:
        calendars = {calendar.id: calendar async for calendar in recall.calendars.list()}
        events = [event async for event in recall.calendar_events.list()]
        actions = list(_actions(events, calendars))
        say(f"{len(actions)} of them get a bot; the others are over, deleted or without a meeting URL.")
        with display("scheduling") as shown:
            job = Job(recall, recall.bulk(actions), shown)
            outcomes = [outcome async for outcome in job.work()]
        draw_failures(job.failures, err=True)
        if job.error is not None:
            raise job.error
        done = [outcome.event for outcome in outcomes if outcome.event is not None]
        bots = {bot.bot_id for event in done for bot in event.bots}
        return {
            "events": len(events),
            "bots": len(bots),
            "sharing": len(done) - len(bots),
            "requests": job.requests,
            "throttled": job.throttled,
        }, job.seconds


def _of_report(report: dict[str, Any]) -> dict[str, int]:
    schedule = report["operations"][SCHEDULE]
    return {
        "events": report["events"],
        "bots": report["bots"],
        "sharing": schedule["accepted"] - report["bots"],
        "requests": requests_in(report),
        "throttled": sum(row["throttled"] for row in report["operations"].values()),
        "peak": schedule["peak"],
    }


def _actions(events: Iterable[CalendarEvent], calendars: dict[str, Calendar]) -> Iterable[ScheduleBot]:
    """Return a bot for each event that should have one. Events of one meeting share a bot."""
    from ..bulk.actions import ScheduleBot
    from ..sync.deduplication import Deduplication

    now = datetime.now(UTC)
    for event in events:
        if event.meeting_url and not event.is_deleted and event.end_time > now:
            key = Deduplication.MEETING(event, calendars[event.calendar_id])
            yield ScheduleBot(event.id, key, {"bot_name": "Notes"}, event.start_time, event.end_time)
