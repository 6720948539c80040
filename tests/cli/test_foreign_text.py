"""Texts that strangers wrote: every command prints them without what a terminal would obey, on any encoding."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from recall_async.cli.app import app
from recall_async.cli.command import commands
from recall_async.sandbox import RecallSandbox
from tests.redis.conftest import prefix, shared_redis
from tests.redis.server import RedisProcess

__all__ = ["prefix", "shared_redis"]
pytestmark = pytest.mark.recall_sandbox(events=5, calendars=1)

HOSTILE = "a\x1b]0;owned\x07\x9d0;x\x9c\x1b[2J \u202egnp.exe\u2066\u200f \r\n\x00\x7f\x85\u2028 🤖 Łódź é"
"""An OSC sequence, C0 and C1 controls, marks of direction, line breaks, and characters that encodings lack."""
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
ID = "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"
SOON = (datetime.now(UTC) + timedelta(hours=3)).isoformat()
LATER = (datetime.now(UTC) + timedelta(hours=4)).isoformat()
URL = {"platform": HOSTILE, "meeting_id": HOSTILE, "meeting_password": HOSTILE}
EVENT = {
    "id": ID, "start_time": SOON, "end_time": LATER, "calendar_id": ID, "platform": HOSTILE, "platform_id": HOSTILE,
    "ical_uid": HOSTILE, "meeting_platform": HOSTILE, "meeting_url": URL, "created_at": SOON, "updated_at": SOON,
    "is_deleted": False,
    "raw": {"summary": HOSTILE, "organizer": {"email": HOSTILE}, "recurringEventId": HOSTILE,
            "attendees": [{"email": HOSTILE, "responseStatus": HOSTILE}]},
    "bots": [{"bot_id": ID, "start_time": SOON, "deduplication_key": HOSTILE, "meeting_url": URL}],
}  # fmt: skip
CALENDAR = {
    "id": ID, "platform": "google_calendar", "platform_email": HOSTILE, "oauth_email": HOSTILE, "status": HOSTILE,
    "oauth_client_id": HOSTILE, "oauth_client_secret": "x", "oauth_refresh_token": "x", "webhook_url": HOSTILE,
    "created_at": SOON, "updated_at": SOON, "metadata": {HOSTILE: HOSTILE},
}  # fmt: skip
BOT = {
    "id": ID, "bot_name": HOSTILE, "meeting_url": URL, "join_at": SOON, "metadata": {HOSTILE: HOSTILE},
    "status_changes": [{"code": HOSTILE, "sub_code": HOSTILE, "message": HOSTILE, "created_at": SOON}],
    "recordings": [{"id": HOSTILE, "status": {"code": HOSTILE},
                    "media_shortcuts": {"video_mixed": {"data": {"download_url": HOSTILE}}}}],
}  # fmt: skip
ANSWERS: dict[str, Any] = {
    "calendar_events.retrieve": EVENT, "calendar_events.schedule_bot": EVENT, "calendar_events.remove_bot": EVENT,
    "calendar_events.list": {"next": None, "previous": None, "results": [EVENT]},
    "calendars.retrieve": CALENDAR, "calendars.create": CALENDAR, "calendars.update": CALENDAR,
    "calendars.list": {"next": None, "previous": None, "results": [CALENDAR]},
    "calendars.create_access_token": {"token": HOSTILE, "expires_at": LATER},
    "bots.retrieve": BOT, "bots.leave_call": BOT,
    "bots.list": {"count": 1, "next": None, "previous": None, "results": [BOT]},
}  # fmt: skip
COMMANDS = {
    "schedule": [ID, "--deduplication-key", "key"],
    "remove": [ID],
    "events": ["--bots"],
    "event": [ID, "--bots"],
    "actions": [],
    "calendars list": [],
    "calendars get": [ID],
    "calendars create": ["--platform", "google_calendar", "--oauth-client-id", "x"],
    "calendars update": [ID, "--webhook-url", "https://x.example"],
    "calendars delete": [ID],
    "calendars token": [ID],
    "bots list": [],
    "bots show": [ID],
    "bots leave": [ID, "--yes"],
    "bulk": ["ACTIONS", "--results", "RESULTS"],
    "plan": ["--policy", "POLICY"],
    "apply": ["PLAN"],
    "sync": ["--policy", "POLICY", "--yes"],
    "jobs submit": ["ACTIONS", "--name", "job"],
    "jobs work": [],
    "jobs list": [],
    "jobs status": ["job"],
    "jobs results": ["job", "--out", "-"],
    "jobs retry": ["job"],
    "jobs cancel": ["job"],
    "quota": ["--workspace", HOSTILE],
}
"""The arguments of every command that prints what others wrote, jobs in the order of a job's life."""
LOCAL = {"demo", "sandbox"}
JSON_ONLY, PLAIN_ONLY = {"actions"}, {"calendars delete", "jobs results"}


def test_every_command_is_tried() -> None:
    """A new command would print what strangers wrote, and nobody would have looked."""
    assert {name for name, _ in commands(app)} == COMMANDS.keys() | LOCAL


@pytest.fixture
def typed(
    recall_sandbox: RecallSandbox, environment: dict[str, str], tmp_path: Path, shared_redis: RedisProcess, prefix: str
) -> Callable[..., Result]:
    """Types a command of the table. Its output is written in an encoding."""
    action = {"action": "schedule", "event_id": ID, "deduplication_key": HOSTILE, "bot_config": {"bot_name": HOSTILE}}
    files = {name: tmp_path / name.lower() for name in ("ACTIONS", "RESULTS", "POLICY", "PLAN")}
    files["ACTIONS"].write_text(json.dumps(action | {"start_time": SOON, "end_time": LATER}))
    files["POLICY"].write_text('[bot_config]\nbot_name = "Notes"\n')
    settings = {
        "RECALL_OAUTH_CLIENT_SECRET": "secret", "RECALL_OAUTH_REFRESH_TOKEN": "token",
        "RECALL_REDIS_URL": shared_redis.url,
    }  # fmt: skip

    def type_in(name: str, *more: str, encoding: str = "utf-8") -> Result:
        words = [str(files.get(word, word)) for word in (*COMMANDS[name], *more)]
        if name not in LOCAL:
            words += ["--prefix", prefix]
        if name == "apply":
            files["PLAN"].write_text(type_in("plan", "--json").stdout)
        files["RESULTS"].unlink(missing_ok=True)
        runner = CliRunner(charset=encoding, env=environment | settings)
        result = runner.invoke(app, [*name.split(), *words], prog_name="recall-async")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return type_in


def set_up(sandbox: RecallSandbox, status: int) -> None:
    """Answer all operations with what is hostile: objects, or errors."""
    sandbox.clear_faults()
    for operation, answer in ANSWERS.items():
        if status == 200:
            sandbox.fault(operation, status=200, body=answer, times=None, counted=False)
        else:
            body = {"code": HOSTILE, "message": HOSTILE, "detail": HOSTILE, "errors": {HOSTILE: [HOSTILE]}}
            sandbox.fault(operation, status=status, body=body, times=None, counted=False)


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252", "ascii"])
@pytest.mark.parametrize("status", [200, 400])
def test_nothing_is_obeyed(typed, recall_sandbox: RecallSandbox, encoding: str, status: int) -> None:
    """A stranger's invitation would rewrite the screen, turn a line around, or end a listing in a traceback."""
    set_up(recall_sandbox, status)
    for name in COMMANDS:
        for option in ("", "--json"):
            if (name in JSON_ONLY and option) or (name in PLAIN_ONLY and option):
                continue
            result = typed(name, *([option] if option else []), encoding=encoding)
            said = result.stdout + result.stderr
            found = OBEYED.findall(said)
            assert found == [], (name, option, said)
            assert "Traceback" not in said
            if option and result.exit_code in (0, 10) and encoding == "utf-8":
                [json.loads(text) for text in result.stdout.splitlines()]
