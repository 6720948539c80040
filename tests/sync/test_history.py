"""What was done is known to other processes and after a restart, if a history is kept."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from recall_async import CalendarSyncer, ConfigurationError, FileHistory, RecordingPolicy
from recall_async.sync import history
from recall_async.sync.decide import Decision
from recall_async.sync.memory import Change, Memory, memory_of
from tests.sync.api import Api
from tests.sync.test_converging import EVERYTHING, apply, talking_to

NOTHING = RecordingPolicy(title_includes=["no such title"])
starts = count()


def process(api: Api) -> Any:
    """A session of a program that remembers nothing of the ones before."""
    return talking_to(api, workspace=f"process {next(starts)}")


def elsewhere(url: str) -> str:
    return f"https://elsewhere.example/{hash(url)}"


def change(event_id: str = "e", *, days: float = 1, **fields: Any) -> Change:
    now = datetime.now(UTC)
    start = now + timedelta(days=days)
    known = {"calendar_id": "c", "start_time": start, "kind": "schedule", "target": "t", "planned_at": now}
    return Change(**{**known, "event_id": event_id, **fields})


async def test_a_change_that_does_not_last_is_known_to_the_next_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A program that a timer starts sends the same requests in each run, for ever."""
    path = tmp_path / "history.jsonl"
    async with Api(5, url=elsewhere) as api:
        rounds = []
        for _ in range(5):
            async with process(api) as recall:
                plan = await recall.plan(policy=EVERYTHING, history=path)
                rounds.append(len(plan))
                outcomes = await apply(recall, plan, history=FileHistory(path))
        assert rounds == [5, 5, 5, 0, 0]
        assert {outcome.status for outcome in outcomes} == {"skipped"}
        assert "did not last" in caplog.text
        event = next(iter(api.events.values()))
        api.touch(event, start=event.start + timedelta(hours=1))
        async with process(api) as recall:
            assert [each.event_id for each in await recall.plan(policy=EVERYTHING, history=path)] == [event.id]


async def test_a_syncer_that_is_restarted_again_and_again(tmp_path: Path) -> None:
    """A service that is deployed every hour sends the same requests after each start."""
    path = tmp_path / "history.jsonl"
    async with Api(5, 2, url=elsewhere) as api:
        for _ in range(6):
            async with process(api) as recall, CalendarSyncer(recall, EVERYTHING, history=path) as syncer:
                await syncer.drain()
        assert len([kind for kind, _ in api.asked if kind == "schedule"]) == 15


async def test_an_older_plan_does_not_undo_a_later_one_of_another_process(tmp_path: Path) -> None:
    """A plan that lay around removes nothing and schedules what a later plan removed."""
    path = tmp_path / "history.jsonl"
    async with Api(6) as api:
        async with process(api) as recall:
            old = await recall.plan(policy=EVERYTHING, history=path)
            await apply(recall, old, history=path)
        async with process(api) as recall:
            new = await recall.plan(policy=NOTHING, history=path)
            await apply(recall, new, history=path)
            assert not api.bots
        async with process(api) as recall:
            outcomes = await apply(recall, old, history=path)
        assert {outcome.status for outcome in outcomes} == {"skipped"}
        assert all("a later plan" in (outcome.reason or "") for outcome in outcomes)
        assert not api.bots


@pytest.mark.parametrize(
    "ahead", [timedelta(seconds=30), timedelta(minutes=4), timedelta(hours=3), timedelta(days=9000)]
)
@pytest.mark.parametrize("elsewhere", [False, True])
async def test_a_clock_that_was_ahead(tmp_path: Path, ahead: timedelta, elsewhere: bool) -> None:
    """Once a clock was ahead, no plan changes these events again until it has caught up: bots miss meetings that move."""
    path = tmp_path / "history.jsonl"
    async with Api(4) as api, process(api) as first, process(api) as second:
        plan = await first.plan(policy=EVERYTHING, history=path)
        await apply(first, replace(plan, made_at=plan.made_at + ahead), history=path)
        for event in api.events.values():
            api.touch(event, start=event.start + timedelta(hours=1))
        recall = second if elsewhere else first
        plan = await recall.plan(policy=EVERYTHING, history=path)
        outcomes = await apply(recall, plan, history=path)
        assert [outcome.reason for outcome in outcomes] == [None] * 4
        assert not await recall.plan(policy=EVERYTHING, history=path)


async def test_plans_keep_their_order_when_the_clock_is_set_back() -> None:
    """A plan that was made before the clock was set back undoes the one that was made after it."""
    async with Api(4) as api, talking_to(api) as recall:
        memory = memory_of(recall.workspace)
        ahead = datetime.now(UTC) + timedelta(minutes=3)
        old = replace(await recall.plan(policy=EVERYTHING), made_at=memory.time_of_plan(ahead))
        new = await recall.plan(policy=NOTHING)
        assert new.made_at >= old.made_at > datetime.now(UTC)


def test_a_bot_is_awaited_for_a_minute_only() -> None:
    """After the clock was set back by a day, no bot is scheduled on a meeting for a day."""
    now = datetime.now(UTC)
    fields = {"event_id": "e", "calendar_id": "c", "start_time": now, "end_time": now, "updated_at": now}
    decision = Decision(kind="schedule", deduplication_key="k", **fields)
    for away, kind in ((30, "keep"), (60, "keep"), (61, "schedule"), (86400, "schedule"), (-1, "schedule")):
        memory = Memory()
        memory.done(decision, now, awaited_until=now + timedelta(seconds=away))
        assert memory.reconsider(decision, now)[0] == kind


async def test_a_bot_that_another_process_waits_for(tmp_path: Path) -> None:
    """A bot that shows some seconds after its answer is scheduled again by the next run."""
    path = tmp_path / "history.jsonl"
    async with Api(3, delay=1e6) as api:
        for expected in (3, 0, 0):
            async with process(api) as recall:
                plan = await recall.plan(policy=EVERYTHING, history=path)
                assert len(plan) == expected
                await apply(recall, plan, history=path)
        assert len(api.asked) == 3


@pytest.mark.parametrize("tells_status", [True, False])
async def test_a_calendar_that_comes_back_is_not_flapping(tmp_path: Path, tells_status: bool) -> None:
    """Bots of a calendar that was connected again for the third time do not come back."""
    path = tmp_path / "history.jsonl"
    async with Api(3, tells_status=tells_status) as api:
        for _ in range(5):
            async with process(api) as recall:
                plan = await recall.plan(policy=EVERYTHING, history=path)
                assert len(plan) == 3
                await apply(recall, plan, history=path)
            for calendar_id in api.calendars:
                api.revoke(calendar_id)
                api.reconnect(calendar_id)


async def test_what_a_journal_knows_is_not_done_again(tmp_path: Path) -> None:
    """A job that is resumed counts as a second change, so that a bot that somebody removes later does not come back."""
    async with Api(3) as api, talking_to(api) as recall:
        plan = await recall.plan(policy=EVERYTHING)
        for _ in range(3):
            await apply(recall, plan, journal=tmp_path / "results.jsonl")
        assert len(api.asked) == 3
        for event in api.events.values():
            api.release(event)
        assert len(await recall.plan(policy=EVERYTHING)) == 3


@pytest.mark.parametrize("content", [b"garbage", b"\xff\xfe\n{}\n", b'{"event_id": "e"}\n', b"\n\n"])
async def test_a_file_that_holds_something_else(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A torn line, or one of a later version, ends every plan, or takes the next line with it."""
    path = tmp_path / "history.jsonl"
    path.write_bytes(content)
    history = FileHistory(path)
    history.add(change("one"))
    changes, place = await history.read(None)
    assert [each.event_id for each in changes] == ["one"]
    assert ("cannot be read" in caplog.text) is bool(content.strip())
    history.add(change("two"))
    assert [each.event_id for each in (await history.read(place))[0]] == ["two"]
    assert path.read_bytes().startswith(content)


async def test_old_changes_are_deleted(tmp_path: Path) -> None:
    """The file grows for ever, or a reader that was in the middle of the old file misses changes."""
    path = tmp_path / "history.jsonl"
    history = FileHistory(path)
    history.add(change("first"))
    _, place = await history.read(None)
    for number in range(1100):
        history.add(change(str(number), days=-3))
    history.add(change("last"))
    changes, _ = await FileHistory(path).read(None)
    assert [each.event_id for each in changes] == ["first", "last"]
    assert path.read_bytes().count(b"\n") == 2
    history.add(change("next"))
    assert {each.event_id for each in (await history.read(place))[0]} >= {"last", "next"}


async def test_lines_that_nobody_can_read_are_kept(tmp_path: Path) -> None:
    """The results of a job, passed as a history by mistake, or the changes of a later version, are deleted."""
    path = tmp_path / "results.jsonl"
    foreign = b"".join(b'{"event_id":"%d","status":"done"}\n' % number for number in range(1500))
    path.write_bytes(foreign)
    history = FileHistory(path)
    assert (await history.read(None))[0] == []
    assert path.read_bytes() == foreign
    for number in range(1700):
        history.add(change(str(number), days=-3))
    history.add(change("new"))
    changes, _ = await FileHistory(path).read(None)
    assert [each.event_id for each in changes] == ["new"]
    assert path.read_bytes().startswith(foreign)
    assert path.read_bytes().count(b"\n") == 1501


async def test_a_history_that_fails_harms_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk, or a folder that is gone, keeps all bots away."""
    caplog.set_level(logging.WARNING)
    async with Api(3) as api:
        for path in (tmp_path / "gone" / "history.jsonl", tmp_path):
            async with process(api) as recall:
                plan = await recall.plan(policy=EVERYTHING, history=path, refresh=True)
                assert {each.status for each in await apply(recall, plan, history=path)} == {"done"}
    assert "could not be read" in caplog.text
    assert caplog.text.count("could not be added") == 2  # once for each job, not for each of its changes


async def test_what_is_no_history(tmp_path: Path) -> None:
    """A mistake in the name of an argument is noticed when the history is needed."""
    async with Api(1) as api, talking_to(api) as recall:
        plan = await recall.plan(policy=EVERYTHING)
        for wrong in (7, True, object(), []):
            with pytest.raises(ConfigurationError, match="history must be a FileHistory"):
                await recall.plan(policy=EVERYTHING, history=wrong)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="history must be a FileHistory"):
                recall.apply(plan, history=wrong)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="history must be a FileHistory"):
                CalendarSyncer(recall, EVERYTHING, history=wrong)  # type: ignore[arg-type]


async def test_a_history_that_cannot_be_shortened_is_read_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk would stop a plan that only reads."""

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(history, "FEW", 1)
    monkeypatch.setattr(history, "replace_file", refuse)
    kept = FileHistory(tmp_path / "history.jsonl")
    for number in range(3):
        kept.add(change(f"old {number}", days=-400))
    kept.add(change("new"))
    before = (tmp_path / "history.jsonl").read_bytes()
    found, place = await kept.read(None)
    assert [each.event_id for each in found] == ["new"]
    assert "old changes could not be deleted: [Errno 28] No space left on device" in caplog.text
    assert (tmp_path / "history.jsonl").read_bytes() == before
    assert (await kept.read(place))[0] == []
