"""Jobs in Redis: submitted, worked on, asked about."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any

import pytest

from recall_async import ConfigurationError, RecallSession, RemoveBot, ScheduleBot
from recall_async.bulk.records import conflict_keys, identity_of
from recall_async.jobs import JobQueue
from recall_async.jobs.chunks import groups_of, read_actions
from recall_async.resources.calendar_events import schedule_request
from recall_async.sandbox import RecallSandbox

EVENT_ID = "00000000-0000-4000-8000-000000000001"


def test_actions_are_read_as_they_were_written() -> None:
    """A bot whose name holds a line separator ends every worker that reads texts, not bytes, from Redis."""
    names = [f"one{character}two" for character in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\0"]
    given = [ScheduleBot(EVENT_ID, name, {"bot_name": name, name: [name]}) for name in names]
    (group,) = groups_of(given)
    for text in (b"\n".join(group.texts), b"\n".join(group.texts).decode()):
        assert read_actions(text) == given


@pytest.mark.parametrize("key", [None, 7, b"key", ["key"], object()])
def test_keys_that_are_no_text_are_refused_before_anything_is_written(key: Any) -> None:
    """All events whose key is missing share one bot, whose key is "None"."""
    with pytest.raises(ConfigurationError, match="deduplication_key must be a string, got "):
        groups_of([ScheduleBot(EVENT_ID, key)])


@pytest.mark.parametrize("time", [0, 1e9, float("nan"), date(2026, 12, 1), b"2026-12-01T00:00:00Z"])
def test_times_that_are_none_are_refused_before_anything_is_written(time: Any) -> None:
    """The worker does not know when the meeting begins, and works on it last, or after it is over."""
    for action in (ScheduleBot(EVENT_ID, "k", {}, time), RemoveBot(EVENT_ID, None, time)):
        with pytest.raises(ConfigurationError, match="_time must be a string, got "):
            groups_of([action])


class Text(str):
    """What a template engine or a parser of XML calls text."""


class Name(str, Enum):  # noqa: UP042  # a StrEnum has its value as text
    """Its `str()` is not its value."""

    KEY = "key"


class Moment(datetime):
    """What pendulum, pandas and freezegun call a time."""


def test_subclasses_of_what_an_action_holds() -> None:
    """A job has another key than the same action by itself, or cannot be written at all."""
    start = Moment(2026, 12, 1, tzinfo=UTC)
    plain = ScheduleBot(EVENT_ID, "key", {"at": "2026-12-01T00:00:00Z"}, "2026-12-01T00:00:00Z")
    for key in (Text("key"), Name.KEY):
        given = ScheduleBot(Text(EVENT_ID), key, {"at": start}, start)
        (group,) = groups_of([given])
        assert read_actions(group.texts[0]) == [plain]
        assert conflict_keys(given) == conflict_keys(plain)
        assert identity_of(given) == identity_of(plain)
        assert schedule_request(EVENT_ID, key).body == schedule_request(EVENT_ID, "key").body


async def test_job_is_done_and_accounted_for(
    jobs: JobQueue, session: Callable[..., RecallSession], actions: list[ScheduleBot], sandbox: RecallSandbox
) -> None:
    """Would not do what was submitted, or tell something else of it."""
    status = await jobs.submit("tonight", actions, chunk_size=20)
    assert (status.total, status.done, status.submitted, status.finished) == (len(actions), 0, True, False)
    assert status.chunks_open == -(-len(actions) // 20)
    async with session() as recall:
        worked = await jobs.work(recall)
    assert worked.done == len(actions)
    assert worked.chunks == status.chunks_open
    status = await jobs.status("tonight")
    assert (status.done, status.failed, status.skipped) == (len(actions), 0, 0)
    assert (status.chunks_open, status.chunks_in_work, status.chunks_dead, status.finished) == (0, 0, 0, True)
    lines = [line async for line in jobs.results("tonight")]
    starts = {action.event_id: action.start_time for action in actions}
    assert [starts[line.event_id] for line in lines] == sorted(starts.values())
    assert {line.status for line in lines} == {"done"}
    assert len(sandbox.snapshot()["bots"]) == len(actions)
