"""Write `docs/cli.md`, `docs/demo.svg` and the README's table: help and screens of the command line, 80 columns wide.

python docs/generate.py              # needs the extra docs and redis-server; takes one or two minutes
python docs/generate.py --figures    # only the README's table, from docs/benchmarks.md
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import pty
import re
import shlex
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recall_async import RecallSession
from recall_async.cli.app import app
from recall_async.cli.command import CONNECTION, Context, commands
from recall_async.sandbox import RecallSandbox

if TYPE_CHECKING:
    from pyte import Screen

DOCS = Path(__file__).parent
COLUMNS, LINES = 80, 200
INTRODUCTION = """\
# The command line

<!-- Written by docs/generate.py: do not edit. -->

`pip install 'recall-async[cli]'` installs `recall-async`. `python -m recall_async` is the same.

| exit status | meaning |
| --- | --- |
| 0 | done |
| 1 | something failed; the message says what |
| 2 | invalid usage or input; nothing was sent |
| 3 | the API refused the key, the workspace has no credit, or a firewall blocked the request |
| 4 | the API was unavailable for longer than `--max-outage`; the job can be resumed |
| 10 | `plan`: there are changes to make |
| 130 | interrupted; the message says what was done. `sandbox` and `sync --watch` are ended by Ctrl-C, with status 0 |

Results go to standard output, messages and progress to standard error. `--json` prints JSON alone, one document per line. A
closed pipe (`| head`) does not change the exit status. Variables: [environment](environment.md).

## From events to actions

`recall-async events --json` prints one event per line, and `recall-async actions` turns events into the actions that
`bulk` and `jobs submit` perform, by a [policy](sync.md#who-gets-a-bot). You can read, filter or store the output of
each step:

```sh
recall-async events --from tomorrow --to +7d --json > events.jsonl
recall-async actions events.jsonl --policy policy.toml > actions.jsonl
recall-async bulk actions.jsonl --results results.jsonl
```

Without a file, `actions` lists the events itself. For bots that follow their meetings, and are removed if they should not
be there, use [`plan` and `apply`](sync.md) instead.

## Connection options

Every command that sends requests takes these:

```text
CONNECTION_HELP
```
"""
POLICY = """\
title_includes = ["roadmap"]

[bot_config]
bot_name = "Notes"
"""


class Terminal:
    """Runs commands in a terminal of 80 columns, and keeps what is on its screen at the end."""

    def __init__(self, sandbox: RecallSandbox, folder: str, redis: str) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith("RECALL_")}
        self._environment = own | {
            "RECALL_BASE_URL": sandbox.url,
            "RECALL_API_KEY": sandbox.api_key,
            "TERM": "xterm-256color",
            "COLUMNS": str(COLUMNS),
            "PATH": os.defpath,  # on which this program is not, so that commands to paste have no path of this machine
            "PYTHONPATH": str(DOCS.parent),
        }
        self._folder = folder
        self._redis = redis

    def run(self, command: str, *, stop_after: str | None = None) -> str:
        """The screen after `recall-async ...`; with `stop_after`, Ctrl-C is pressed once that text has appeared."""
        screen = self.screen(command, stop_after=stop_after)
        return "\n".join(line.rstrip() for line in screen.display).rstrip()

    def screen(self, command: str, *, stop_after: str | None = None) -> Screen:
        """As `run`, with colours."""
        import pyte

        screen = pyte.Screen(COLUMNS, LINES)
        screen.set_mode(pyte.modes.LNM)
        stream = pyte.Stream(screen)
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        environment = self._environment
        if command.startswith("recall-async jobs") or "$REDIS" in command:
            environment = environment | {"RECALL_REDIS_URL": self._redis}
            command = command.replace("$REDIS", self._redis)
        words = [sys.executable, "-c", "from recall_async.cli import main; main()", *shlex.split(command)[1:]]
        # The program is called by its name, as the shell would.
        words[2] = f"import sys; sys.argv[0] = 'recall-async'; {words[2]}"
        with subprocess.Popen(
            words, stdin=follower, stdout=follower, stderr=follower, env=environment, cwd=self._folder
        ) as process:
            os.close(follower)
            seen = ""
            while True:
                try:
                    text = os.read(leader, 65536).decode()
                except OSError:
                    break
                seen += text
                stream.feed(text)
                if stop_after is not None and stop_after in seen:
                    stop_after = None
                    process.terminate()
        os.close(leader)
        return screen


def examples(sandbox: RecallSandbox) -> dict[str, list[str]]:
    """Commands whose screens are shown, by the command that they belong to."""
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    events = [
        event
        for event in sandbox.snapshot()["events"]
        if event["start_time"] > soon and event["meeting_url"] and not event["is_deleted"]
    ]
    one = min(events, key=lambda event: str(event["start_time"]))["id"]
    calendar = sandbox.snapshot()["calendars"][0]["id"]
    return {
        "events": ["events --from tomorrow --to +2d --limit 8"],
        "schedule": [f'schedule {one} \\\n    --bot-config \'{{"bot_name": "Notes"}}\''],
        "event": [f"event {one} --json | cut -c -76"],
        "remove": [f"remove {one}"],
        "calendars list": ["calendars"],
        "calendars get": [f"calendars get {calendar}"],
        "actions": ["actions --policy policy.toml --from tomorrow \\\n    | head -2 | cut -c -76"],
        "plan": ["plan --policy policy.toml --out plan.json"],
        "apply": ["apply plan.json --results applied.jsonl"],
        "sync": ["sync --policy policy.toml"],
        "bulk": ["bulk actions.jsonl --results results.jsonl --dry-run", "bulk actions.jsonl --results results.jsonl"],
        "quota": ["quota", "quota --redis $REDIS"],
        "demo": ["demo"],
        "sandbox": ["sandbox --port 0 --events 200"],
        "calendars token": [f"calendars token {calendar}"],
        "calendars update": [f"calendars update {calendar} \\\n    --webhook-url https://notes.example/webhooks"],
        "calendars delete": [f"calendars delete {sandbox.snapshot()['calendars'][-1]['id']} --yes"],
        "calendars create": [
            "calendars create --platform google_calendar \\\n    --oauth-client-id 4711.apps.example \\\n"
            "    --oauth-client-secret-file secret --oauth-refresh-token-file token"
        ],
        "bots list": ["bots --limit 5"],
        "bots show": ["bots show BOT_ID"],
        "bots leave": ["bots leave BOT_ID --yes"],
        "jobs submit": ["jobs submit actions.jsonl --name tonight"],
        "jobs work": ["jobs work"],
        "jobs status": ["jobs status tonight"],
        "jobs list": ["jobs list"],
        "jobs results": ["jobs results tonight --out tonight.jsonl"],
        "jobs retry": ["jobs retry tonight"],
        "jobs cancel": ["jobs cancel tonight"],
    }


ORDER = (
    "bots list",
    "jobs submit",
    "jobs work",
    "jobs status",
    "jobs list",
    "jobs results",
    "jobs retry",
    "jobs cancel",
    "quota",
    "calendars delete",
    "bots show",
    "bots leave",
)
"""Commands whose screens come last, in this order, because each shows what the one before it did."""


def help_of(name: str, command: click.Command) -> str:
    """The help of a command at 80 columns."""
    names = app.context_settings["help_option_names"]
    ctx = Context(command, info_name=f"recall-async {name}", terminal_width=COLUMNS, help_option_names=names)
    return "\n".join(line.rstrip() for line in command.get_help(ctx).splitlines())


def page(terminal: Terminal, sandbox: RecallSandbox) -> Iterator[str]:
    """The parts of `docs/cli.md`."""
    helps = {name: help_of(name, command) for name, command in commands(app)}
    shared = helps["events"].partition(f"{CONNECTION}:\n")[2]
    yield INTRODUCTION.replace("CONNECTION_HELP", shared.rstrip())
    shown = examples(sandbox)
    order = {name: place for place, name in enumerate(ORDER)}
    screens: dict[str, list[str]] = {name: [] for name in helps}
    for name in sorted(helps, key=lambda name: order.get(name, -1)):
        for command in shown.get(name, []):
            if "BOT_ID" in command:
                command = command.replace("BOT_ID", asyncio.run(bot_in_a_call(sandbox)))
            screens[name].append(f"```text\n$ recall-async {command}\n{run(terminal, command)}\n```\n")
    for name, text in helps.items():
        own, _, connection = text.partition(f"\n{CONNECTION}:\n")
        takes_connection = connection == shared
        own = own if takes_connection else text
        remark = "\nand the [connection options](#connection-options).\n" if takes_connection else ""
        yield f"## {name}\n\n```text\n{own.rstrip()}\n```\n{remark}"
        yield from screens[name]


async def bot_in_a_call(sandbox: RecallSandbox) -> str:
    """Let time pass in the sandbox until a bot is in a call. Returns its id."""
    async with RecallSession(sandbox.api_key, base_url=sandbox.url) as recall:
        while True:
            async for bot in recall.bots.list(status="in_call_recording"):
                return bot.id
            sandbox.advance(600)


def run(terminal: Terminal, command: str) -> str:
    """The screen of a command, which may be followed by others of the shell."""
    assert max(map(len, f"$ recall-async {command}".splitlines())) <= COLUMNS, command
    first, *others = command.replace("\\\n", " ").split(" | ")
    stop_after = "Ctrl-C ends it" if first.startswith("sandbox") else None
    text = terminal.run(f"recall-async {first}", stop_after=stop_after) if not others else ""
    if others:
        line = f"{shlex.quote(sys.executable)} -m recall_async {first} 2>/dev/null | {' | '.join(others)}"
        text = subprocess.run(
            line,
            shell=True,
            check=True,
            capture_output=True,
            text=True,
            env=terminal._environment,
            cwd=terminal._folder,
        ).stdout
    text = re.sub(r"http://127\.0\.0\.1:\d+", "http://127.0.0.1:8765", text).rstrip()
    wide = [line for line in text.splitlines() if len(line) > COLUMNS]
    assert not wide, wide
    return text


def picture(terminal: Terminal) -> str:
    """The demo's screen as a picture."""
    from rich.console import Console
    from rich.text import Text

    screen = terminal.screen("recall-async demo --events 150")
    rows = [screen.buffer[number] for number in range(LINES)]
    last = max(number for number, row in enumerate(rows) if any(cell.data.strip() for cell in row.values()))
    console = Console(record=True, width=COLUMNS, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text("$ recall-async demo", style="bold"))
    for row in rows[: last + 1]:
        text = Text()
        for column in range(COLUMNS):
            cell = row[column]
            colour = (
                None if cell.fg == "default" else (f"#{cell.fg}" if re.fullmatch("[0-9a-f]{6}", cell.fg) else cell.fg)
            )
            text.append(re.sub(r"\d{5}", lambda port: port[0], cell.data), style=colour or "")
        text.rstrip()
        text.plain = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:8765", text.plain)
        console.print(text, highlight=False)
    # Without the fonts that it would load from elsewhere.
    return re.sub(
        r"@font-face \{.*?\}\s*", "", console.export_svg(title="recall-async demo", unique_id="demo"), flags=re.S
    )


def figures() -> str:
    """The README's table: how limiters fare at the real quota, as docs/benchmarks.md has it."""
    report = (DOCS / "benchmarks.md").read_text()
    title, table = re.findall(r"^([\d,]+ calls at 600 per 60 s \(ideal: [^)]*\)):\n\n((?:\|.*\n)+)", report, re.M)[0]
    rows = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]
    kept = [index for index, name in enumerate(rows[0]) if name != "over ideal"]
    lines = ["| " + " | ".join(row[index] or "limiter" for index in kept) + " |" for row in rows]
    machines = re.findall(
        r"^\* (.*?)(?: \((`.*`)\))?$", report.partition("Measured on:\n")[2].partition("\nwith ")[0], re.M
    )
    machine = next(name for name, benchmarks in machines if not benchmarks or "`quota`" in benchmarks)
    behind = "behind 0 to 200 ms of random delay each way"
    return (
        f"{title}, all asked for at once, against a server that counts in a strict sliding window, {behind}. "
        f"The server refuses more than 600 in 60 s.\n\n" + "\n".join(lines) + f"\n\n{machine}.\n"
    )


def write_figures() -> None:
    """Put them into the README."""
    readme = DOCS.parent / "README.md"
    begin, end = "<!-- figures: written by docs/generate.py --figures -->\n", "<!-- end of figures -->"
    before, _, rest = readme.read_text().partition(begin)
    readme.write_text(f"{before}{begin}{figures()}{end}{rest.partition(end)[2]}")


def main() -> None:
    """Write what is asked for."""
    write_figures()
    if "--figures" in sys.argv:
        return
    # As of midnight, so that a day's screens are the same whenever they are made.
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    with (
        RecallSandbox(events=300, calendars=4, seed=7, now=lambda: midnight) as sandbox,
        tempfile.TemporaryDirectory() as folder,
    ):
        (Path(folder) / "policy.toml").write_text(POLICY)
        for name in ("secret", "token"):
            (Path(folder) / name).write_text(name)
        write_actions(Path(folder) / "actions.jsonl", sandbox)
        with redis_server(folder) as redis:
            terminal = Terminal(sandbox, folder, redis)
            text = "\n".join(page(terminal, sandbox))
        (DOCS / "cli.md").write_text(text)
        (DOCS / "demo.svg").write_text(picture(terminal))


@contextmanager
def redis_server(folder: str) -> Iterator[str]:
    """The URL of a Redis server that runs meanwhile; `redis-server` must be on the PATH."""
    socket = f"{folder}/redis.sock"
    options = ("--port", "0", "--unixsocket", socket, "--save", "", "--dir", folder, "--maxmemory-policy", "noeviction")
    with subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL) as process:
        while not Path(socket).exists():
            time.sleep(0.02)
        try:
            yield f"unix://{socket}"
        finally:
            process.terminate()


def write_actions(path: Path, sandbox: RecallSandbox) -> None:
    """Forty actions, one of which fails."""
    events = [event for event in sandbox.snapshot()["events"] if event["meeting_url"] and not event["is_deleted"]]
    rows = [
        {
            "action": "schedule",
            "event_id": event["id"],
            "deduplication_key": f"{event['start_time']}-{event['meeting_url']}",
            "bot_config": {"bot_name": "Notes"},
            "start_time": event["start_time"],
            "end_time": event["end_time"],
        }
        for event in sorted(events, key=lambda event: str(event["start_time"]))[-40:]
    ]
    rows.append({"action": "remove", "event_id": "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
