"""Files that users keep: plans, journals, actions. A broken one is refused with one of our errors that names it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import click

from recall_async.bulk.journal import Journal, JournalFile
from recall_async.cli.actions_file import ActionsFile
from recall_async.errors import ConfigurationError, JournalError
from recall_async.sync.plan_file import decode_plan
from tests.fuzz.inputs import check_message

EVENT = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
_folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))


def seeds() -> list[bytes]:
    """One of each kind of file; the first byte says which."""
    schedule = {"action": "schedule", "event_id": EVENT, "deduplication_key": "k", "bot_config": {"bot_name": "N"}}
    remove = {"action": "remove", "event_id": EVENT, "start_time": "2030-01-01T00:00:00Z"}
    result = {
        "event_id": EVENT, "action": "schedule", "deduplication_key": "k", "status": "succeeded", "bots": [], "error": None,
        "attempts": 1, "at": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    lines = b"".join(json.dumps(line).encode() + b"\n" for line in (schedule, remove))
    results = b"".join(json.dumps(line).encode() + b"\n" for line in (result, {**result, "action": "remove"}))
    csv = f'action,event_id,deduplication_key,bot_config,start_time\nschedule,{EVENT},k,"{{""a"": 1}}",\nremove,{EVENT},,,\n'
    decision = {
        "kind": "schedule", "event_id": EVENT, "calendar_id": EVENT, "start_time": "2030-01-01T00:00:00Z",
        "end_time": "2030-01-01T01:00:00Z", "updated_at": "2029-01-01T00:00:00Z", "deduplication_key": "k", "config": 0,
        "title": "Weekly", "meeting_url": "https://zoom.us/j/1",
        "bots": [{"bot_id": EVENT, "start_time": "2030-01-01T00:00:00Z", "deduplication_key": "k"}],
    }  # fmt: skip
    plan = json.dumps(
        {
            "version": 2,
            "made_at": "2030-01-01T00:00:00Z",
            "calendars": [EVENT],
            "configs": [{"a": 1}],
            "decisions": [decision],
        }
    ).encode()
    return [b"\x00" + plan, b"\x01" + results, b"\x02" + lines, b"\x02" + csv.encode(), b"\x01" + results[:-20]]


def check(data: bytes) -> None:
    """Read a file; the first byte says as what."""
    kind, content = (data[0] if data else 0) % 3, data[1:]
    try:
        if kind == 0:
            decode_plan(content)
        elif kind == 1:
            _journal(content)
        else:
            _actions(content)
    except (ConfigurationError, JournalError) as error:
        check_message(error)
    except click.ClickException:
        pass  # the file as a whole is none of actions


def _journal(content: bytes) -> None:
    path = _folder / "journal"
    path.write_bytes(content)
    file = JournalFile(Journal(path, lock=False))
    try:
        for _, result in file.results():
            assert result.identity[0] == result.event_id
    finally:
        file.close()


def _actions(content: bytes) -> None:
    path = _folder / "actions"
    path.write_bytes(content)
    file = ActionsFile(str(path), {})
    try:
        if not list(file.check()):
            assert len(list(file)) == len(file)
    finally:
        file.close()
