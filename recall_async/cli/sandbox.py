"""`sandbox`: the embedded server, in the foreground."""

from __future__ import annotations

import errno
import shlex
from contextlib import suppress
from typing import Any

import click

from .command import Command, json_option
from .interrupt import run
from .numbers import Number, Whole
from .text import print_json, say

_REASONS: dict[int, str] = {
    errno.EADDRINUSE: "the port is taken",
    errno.EADDRNOTAVAIL: "it is not an address of this machine",
    errno.EACCES: "permission denied; use a port above 1023",
}


@click.command(cls=Command)
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option(
    "--port",
    default=8765,
    show_default=True,
    type=Whole(0, 65535),
    help="Port to listen on; 0 takes a free one.",
)
@click.option("--events", default=500, show_default=True, type=Whole(0), help="Calendar events to make up.")
@click.option("--calendars", default=5, show_default=True, type=Whole(1), help="Calendars to make up.")
@click.option("--seed", default=7, show_default=True, type=Whole(), help="The same seed makes the same data.")
@click.option("--api-key", default="sandbox-key", show_default=True, metavar="KEY", help="API key that it accepts.")
@click.option(
    "--quota-scale",
    default=1.0,
    show_default=True,
    type=Number(above=0),
    help="Enforce F times the API's quotas.",
    metavar="F",
)
@click.option("--webhook-url", metavar="URL", help="Send signed webhooks about every change to this URL.")
@click.option("--svix", is_flag=True, help="Name the webhooks' headers svix-*, as for accounts before December 2025.")
@click.option("--unusual", default=0.0, show_default=True, metavar="SHARE", type=Number(0, 1),
              help="Share of events with unusual invitations: aliases, placeholders, odd text.")  # fmt: skip
@click.option("--text-urls", is_flag=True, help="Make every meeting URL a text; some are objects otherwise.")
@click.option("--documented", is_flag=True,
              help="Send only what the API's reference documents, for strict clients. Implies --text-urls.")  # fmt: skip
@click.option("--shared-bots", type=click.Choice(["detach", "update"]), default="detach", show_default=True,
              help="What a new key on one of the events that share a bot does.")  # fmt: skip
@json_option
def sandbox(svix: bool, text_urls: bool, as_json: bool, **settings: Any) -> None:
    """Run a local server that behaves like the API, until Ctrl-C.

    Bots join and leave when their time has come; POST /_sandbox/advance?seconds=600 makes it come sooner.

    Ctrl-C is how it ends, so the exit status is then 0. With --json it prints its `url` and `api_key`.
    """
    from ..sandbox import RecallSandbox, serve

    try:
        server = RecallSandbox(webhook_headers="svix" if svix else "webhook", url_objects=not text_urls, **settings)
    except ValueError as error:
        raise click.UsageError(str(error)) from None

    listening = False

    def announce(started: RecallSandbox) -> None:
        nonlocal listening
        listening = True
        if as_json:
            print_json({"url": started.url, "api_key": started.api_key})
            return
        click.echo(f"A sandbox with {settings['events']} events serves on {started.url}. In another terminal:\n")
        click.echo(f"  export RECALL_BASE_URL={started.url} RECALL_API_KEY={shlex.quote(started.api_key)}")
        click.echo("  recall-async events\n")
        if settings["webhook_url"]:
            click.echo(
                f"Webhooks go to {settings['webhook_url']}, signed with {started.webhook_secret}. To make twenty changes:\n"
            )
            click.echo(f"  curl -X POST '{started.url}/_sandbox/mutate?n=20'\n")
        click.echo(f"What it saw: {started.url}/_sandbox/report. Ctrl-C ends it.")

    try:
        with suppress(KeyboardInterrupt):
            run(serve(server, announce))
    except OSError as error:
        if listening:
            raise
        number = error.errno or errno.EADDRNOTAVAIL  # for which asyncio has no number from Python 3.13 on
        reason = _REASONS.get(number, "the address cannot be used")
        where = f"{settings['host']} port {settings['port']}"
        raise click.UsageError(f"cannot listen on {where}: {reason}") from None
    if listening:
        say(f"\nIt answered {requests_in(server.report())} requests.")


def requests_in(report: dict[str, Any]) -> int:
    """Return the number of requests in a sandbox's report."""
    kinds = ("accepted", "throttled", "conflicted", "rejected")
    return sum(row[kind] for row in report["operations"].values() for kind in kinds)
