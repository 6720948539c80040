"""The journal: its lines, what a second run makes of them, and what becomes of files that are none."""

# ruff: noqa: ASYNC240  (the files are small, and nobody else is waiting)

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recall_async import (
    BadRequestError,
    ConfigurationError,
    Journal,
    JournalError,
    NotFoundError,
    Outcome,
    RecallSession,
    RemoveBot,
    RetryPolicy,
    ScheduleBot,
    ServerError,
    errors,
)
from recall_async.bulk.actions import Action
from tests.bulk.test_endings import lines
from tests.bulk.test_engine import schedule
from tests.bulk.world import Asked, World, event_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl"


@pytest.fixture
def run(recall: RecallSession, path: Path, world: World) -> Callable[..., Any]:
    """Runs a job with the journal; returns its outcomes and the events that were asked for."""

    async def run(*actions: Action, stream: bool = False, **options: Any) -> tuple[list[Outcome], list[Asked]]:
        before = len(world.asked)
        job = recall.bulk(iter(actions) if stream else actions, journal=Journal(path, **options))
        return [outcome async for outcome in job], world.asked[before:]

    return run


async def test_lines(world: World, run: Callable[..., Any], path: Path) -> None:
    """Would change the documented form of a line, which other programs read."""
    world.statuses = lambda asked: {2: 404, 3: 400}.get(asked.event, 200)
    past = datetime.now(UTC) - timedelta(days=1)
    await run(schedule(0), RemoveBot(event_id(1)), schedule(2), schedule(3), schedule(4, start_time=past))
    named = ["event_id", "action", "deduplication_key", "status", "bots", "error", "attempts", "at"]
    by_event = {line["event_id"]: line for line in lines(path)}
    for line in by_event.values():
        assert list(line)[:8] == named
        assert datetime.now(UTC) - datetime.fromisoformat(line["at"]) < timedelta(minutes=1)
    first, second, third, fourth, fifth = (by_event[event_id(number)] for number in range(5))
    assert (first["action"], first["deduplication_key"], first["status"]) == ("schedule", "key-0", "done")
    assert (first["error"], first["attempts"], [bot["deduplication_key"] for bot in first["bots"]]) == (
        None,
        1,
        ["key-0"],
    )
    assert (second["action"], second["deduplication_key"], second["bots"]) == ("remove", None, [])
    assert (third["status"], third["error"]["type"], third["error"]["status"]) == ("failed", "NotFoundError", 404)
    assert (fourth["status"], fourth["error"]["type"]) == ("skipped", "EventEndedError")
    assert (fifth["status"], fifth["error"], fifth["attempts"]) == ("skipped", None, 0)


async def test_lines_come_before_outcomes(world: World, recall: RecallSession, path: Path) -> None:
    """Would hand out an outcome that a crash in the next moment forgets."""
    seen = 0
    async for outcome in recall.bulk([schedule(number) for number in range(50)], journal=str(path)):
        seen += 1
        written = [line["event_id"] for line in lines(path)]
        assert outcome.action.event_id in written
        assert len(written) >= seen


async def test_what_is_done_is_not_done_again(world: World, run: Callable[..., Any]) -> None:
    """Would pay a second time for everything when a job is started again."""
    actions = [schedule(number) for number in range(20)] + [RemoveBot(event_id(number)) for number in range(20, 30)]
    await run(*actions[:12])
    outcomes, asked = await run(*actions)
    assert len(outcomes) == 30
    assert sorted(request.event for request in asked) == list(range(12, 30))
    outcomes, asked = await run(*actions, stream=True)
    assert asked == []
    assert {(o.status, o.resumed, o.attempts, o.event) for o in outcomes} == {("done", True, 0, None)}


async def test_what_changed_is_done_again(world: World, run: Callable[..., Any], path: Path) -> None:
    """Would keep the old bot where the key or the configuration of an event was changed, or changed back."""
    job: Callable[..., list[Action]] = lambda key, config: [ScheduleBot(event_id(0), key, config), schedule(1)]  # noqa: E731
    steps: list[tuple[str, dict[str, Any], int]] = [
        ("a", {"x": 1, "y": 2}, 2),
        ("a", {"y": 2, "x": 1}, 0),
        ("b", {"x": 1, "y": 2}, 1),
        ("b", {"x": 1, "y": 3}, 1),
        ("b", {"x": 1, "y": 2}, 1),
        ("b", {"x": 1, "y": 2}, 0),
        ("a", {"x": 1, "y": 2}, 1),
    ]
    for key, config, requests in steps:
        _, asked = await run(*job(key, config))
        assert len(asked) == requests, (key, config)
    _, asked = await run(RemoveBot(event_id(0)))
    assert len(asked) == 1
    _, asked = await run(*job("a", {"x": 1, "y": 2}))
    assert asked == [Asked(0, "a")]
    assert len(lines(path)) == 8


async def test_what_was_changed_back_is_not_put_off(world: World, run: Callable[..., Any]) -> None:
    """Would read the whole input before it does an action that is in the journal, but was overtaken by another one."""
    for config in ({"x": 1}, {"x": 2}, {"x": 1}):
        await run(ScheduleBot(event_id(0), "key", config), stream=True)
    job = [ScheduleBot(event_id(0), "key", {"x": 2}), schedule(1)]
    _, asked = await run(*job, stream=True)
    assert [request.event for request in asked] == [0, 1]


async def test_times_do_not_make_another_action(run: Callable[..., Any]) -> None:
    """Would do everything again because a script passes the start as text today, and did not yesterday."""
    start = datetime.now(UTC) + timedelta(days=1)
    await run(schedule(0))
    for again in (schedule(0, start_time=start), schedule(0, start_time=start.isoformat(), end_time=start)):
        assert (await run(again))[1] == []


@pytest.mark.parametrize("stream", [False, True])
async def test_several_actions_on_one_event(world: World, run: Callable[..., Any], stream: bool) -> None:
    """Would leave another state behind than the job says, because something like its actions was done once."""
    on, off, other = schedule(0), RemoveBot(event_id(0)), schedule(0, "other")
    for job in ([on, off, on, schedule(1)], [on, off], [on, off, other], [off, on]):
        for _ in range(2):
            outcomes, _ = await run(*job, stream=stream)
            assert len(outcomes) == len(job)
            last = [action for action in job if action.event_id == event_id(0)][-1]
            expected = set() if last is off else {getattr(last, "deduplication_key", None)}
            assert set(world.bots[0]) >= expected
            assert not (last is off and world.bots[0])
    outcomes, asked = await run(on, stream=stream)
    assert asked == []


async def test_interrupted_between_actions_on_one_event(
    world: World, run: Callable[..., Any], recall: RecallSession, path: Path
) -> None:
    """Would take the third action on an event for the first, which was done, and leave out what follows it."""
    on, off = schedule(0), RemoveBot(event_id(0))
    for done in (1, 2):
        async with recall.bulk([on, off, on], concurrency=1, journal=path) as job:
            for _ in range(done):
                await anext(job)
        outcomes, _ = await run(on, off, on)
        assert len(outcomes) == 3
        assert [line["action"] for line in lines(path)][-2:] == ["remove", "schedule"]
        assert set(world.bots[0]) == {"key-0"}
        path.unlink()


@pytest.mark.parametrize(
    ("status", "repeated"),
    [(500, True), (429, True), (409, True), (507, True), (404, False), (405, False)],
)
async def test_which_failures_are_repeated(
    world: World, connect: Callable[..., RecallSession], path: Path, status: int, repeated: bool
) -> None:
    """Would give up on what may pass, or meet the same refusal at every start."""
    recall = connect(retry=RetryPolicy(attempts=1))
    world.statuses = lambda asked: status
    (failed,) = [outcome async for outcome in recall.bulk([schedule(0)], journal=path)]
    world.statuses = lambda asked: 200
    if not repeated:
        (again,) = [outcome async for outcome in recall.bulk([schedule(0)], journal=path)]
        assert (again.status, again.resumed, again.attempts) == ("failed", True, 0)
        assert type(again.error) is type(failed.error)
        assert str(again.error) == str(failed.error)
        assert getattr(again.error, "status", None) == status
        assert len(world.asked) == 1
    job = recall.bulk([schedule(0)], journal=Journal(path, retry_failed=not repeated))
    (again,) = [outcome async for outcome in job]
    assert (again.status, again.resumed) == ("done", False)
    assert len(world.asked) == 2


def test_final_errors_exist() -> None:
    """Would repeat for ever what cannot succeed, after an error was given another name."""
    assert not any(kind.may_pass for kind in (NotFoundError, BadRequestError, errors.RequestBlockedError))


async def test_what_took_no_request_is_looked_at_again(world: World, run: Callable[..., Any], path: Path) -> None:
    """Would pass over an event for ever because its time was written wrongly once, or repeat its line at every start."""
    past, later = datetime.now(UTC) - timedelta(days=1), datetime.now(UTC) + timedelta(days=1)
    await run(schedule(0, start_time=past), schedule(1, start_time="soon"))
    outcomes, _ = await run(schedule(0, start_time=past))
    assert [(o.status, o.resumed, o.reason is not None) for o in outcomes] == [("skipped", True, True)]
    assert len(lines(path)) == 2
    outcomes, _ = await run(schedule(0, start_time=later), schedule(1, start_time=later))
    assert {outcome.status for outcome in outcomes} == {"done"}
    assert len(world.asked) == 2


async def test_meetings_that_the_api_knows_to_be_over(world: World, run: Callable[..., Any]) -> None:
    """Would ask for the same meeting of the past at every start."""
    world.statuses = lambda asked: 400
    await run(schedule(0))
    (again,), asked = await run(schedule(0))
    assert (again.status, again.resumed, asked) == ("skipped", True, [])
    assert "has ended" in again.reason


@pytest.mark.parametrize("cut", [1, 30, -1, "newline", "zeros"])
async def test_a_torn_last_line(world: World, run: Callable[..., Any], path: Path, cut: int | str) -> None:
    """Would refuse, or lose, a journal because the process was killed while it wrote."""
    actions = [schedule(number) for number in range(3)]
    await run(*actions)
    whole = path.read_bytes().splitlines(keepends=True)
    torn = {"newline": whole[2][:-1], "zeros": whole[2][:40] + bytes(500)}
    rest = torn[cut] if isinstance(cut, str) else whole[2].rstrip()[:cut]
    path.write_bytes(b"".join(whole[:2]) + rest)
    outcomes, asked = await run(*actions)
    assert len(asked) == (0 if cut == "newline" else 1)
    assert len(outcomes) == len(lines(path)) == 3
    assert path.read_bytes().splitlines(keepends=True)[:2] == whole[:2]
    assert (await run(*actions))[1] == []


@pytest.mark.parametrize(
    "content",
    [
        b'{"action": "schedule", "event_id": "00000000-0000-0000-0000-000000000001", "deduplication_key": "key"}\n',
        b'{"action": "schedule", "event_id": "00000000-0000-0000-0000-000000000001", "deduplication_key": "key"}',
        b'{"event_id":"00000000-0000-0000-0000-000000000001","deduplication_key":"key"}',
        b"action,event_id\nremove,00000000-0000-0000-0000-000000000001\n",
        b"precious notes",
        b"[]",
        b"\x89PNG\r\n\x1a\n\x00\x00",
        b'{"event_id":"1","action":"jump","deduplication_key":null,"status":"done","bots":[],"error":null,"attempts":1,"at":""}\n',
    ],
)
async def test_a_file_that_is_no_journal(world: World, run: Callable[..., Any], path: Path, content: bytes) -> None:
    """Would write results into somebody's file of another kind, or cut it."""
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"results\.jsonl, line 1"):
        await run(schedule(0))
    assert path.read_bytes() == content
    assert world.asked == []


async def test_an_endless_line(
    world: World, run: Callable[..., Any], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would read a file of any size into memory, or take the beginning of a long line for a torn one and cut the file."""
    await run(schedule(0), schedule(1))
    content = path.read_bytes()
    monkeypatch.setattr("recall_async.bulk.journal.MAX_LINE", 100)
    with pytest.raises(JournalError, match="line 1"):
        await run(schedule(2))
    assert path.read_bytes() == content


async def test_garbage_in_the_middle(world: World, run: Callable[..., Any], path: Path) -> None:
    """Would forget what was done because a line in the middle cannot be read."""
    await run(*[schedule(number) for number in range(3)])
    whole = path.read_bytes().splitlines(keepends=True)
    for garbage in (whole[1][:50] + b"\n", whole[1][:50], bytes(30) + b"\n"):
        path.write_bytes(whole[0] + garbage + whole[2])
        before = path.read_bytes()
        with pytest.raises(JournalError, match=r"results\.jsonl, line 2"):
            await run(schedule(5))
        assert path.read_bytes() == before
    path.write_bytes(whole[0] + b"\n\r\n" + whole[1].replace(b"\n", b"\r\n") + whole[2])
    assert (await run(*[schedule(number) for number in range(3)]))[1] == []


@pytest.mark.parametrize("stream", [False, True])
async def test_another_jobs_journal(
    world: World, run: Callable[..., Any], path: Path, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    """Would mix the results of two jobs without a word, or lose those of one."""
    await run(schedule(0), schedule(1))
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING, "recall_async"):
        await run(schedule(1), schedule(2), stream=stream)
        assert caplog.messages == []
        await run(schedule(8), schedule(9), stream=stream)
    assert len(caplog.messages) == 1
    assert "has results of 3 events, none of which are in this job" in caplog.text
    assert path.read_bytes().startswith(before)
    assert len(lines(path)) == 5


async def test_two_jobs_on_one_journal(
    world: World, recall: RecallSession, run: Callable[..., Any], path: Path
) -> None:
    """Would let two jobs write into one file, each without knowing what the other does."""
    async with recall.bulk([schedule(0), schedule(1)], concurrency=1, journal=path) as first:
        await anext(first)
        with pytest.raises(JournalError, match="in use by another job"):
            await run(schedule(2))
    assert {asked.event for asked in world.asked} <= {0, 1}
    await run(schedule(2))


async def test_files_that_cannot_be_journals(world: World, recall: RecallSession, tmp_path: Path) -> None:
    """Would fail with an error of the operating system, or after the first request."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "no" / "such", tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(JournalError, match=str(path)):
            await anext(recall.bulk([schedule(0)], journal=path))
    assert world.asked == []
    for options in ({"fsync_every": 0}, {"fsync_every": True}, {"path": 3}):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            Journal(**{"path": "x", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(("every", "least"), [(1, 20), (7, 3), (100, 1)])
async def test_fsync(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, every: int, least: int, path: Path
) -> None:
    """Would lose more than was agreed on when the power goes."""
    synced: list[int] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size if os.fstat(descriptor).st_nlink == 1 else -1)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    await run(*[schedule(number) for number in range(20)], fsync_every=every)
    files = [size for size in synced if size != -1]
    assert len(files) == least
    assert files[-1] == path.stat().st_size


async def test_a_disk_that_fails(world: World, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Would report as safely written what the disk did not take."""

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(JournalError, match="Input/output error"):
        await run(*[schedule(number) for number in range(20)], fsync_every=5)


async def test_errors_keep_their_kind(world: World, run: Callable[..., Any], path: Path) -> None:
    """Would fail on a journal that a newer version wrote, with errors that this one does not know."""
    world.statuses = lambda asked: 404
    await run(schedule(0))
    for text in (b'"type":"NoSuchError"', b'"type":"Mapping"', b'"news":1,"type":"NotFoundError"'):
        content = path.read_bytes()
        path.write_bytes(content.replace(b'"type":"NotFoundError"', text))
        (again,), _ = await run(schedule(0), retry_failed=False)
        assert again.status == "failed"
        assert not isinstance(again.error, ServerError)
        path.write_bytes(content)


async def test_a_long_journal_does_not_block_the_loop(
    recall: RecallSession, run: Callable[..., Any], path: Path
) -> None:
    """Would stop a web server for as long as it takes to read a file of results."""
    await run(schedule(0))
    line = path.read_text()
    with path.open("w") as file:
        for number in range(20_000):
            file.write(line.replace(event_id(0), event_id(number)))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    started = time.monotonic()
    await anext(recall.bulk(iter([schedule(0)]), journal=path))
    counting.cancel()
    assert turns > 70, f"{turns} turns in {time.monotonic() - started:.2f} s"


async def test_actions_that_cannot_be_sent_are_told_of_again(run: Callable[..., Any]) -> None:
    """Would end a job that is started again with an action that is no JSON, or has a time that is none."""
    over = RemoveBot(event_id(0), "2001-01-01T00:00:00Z")
    wrong = ScheduleBot(event_id(1), "key", {"meeting": object()})
    (first, second), asked = await run(over, wrong)
    assert (first.status, second.status, asked) == ("skipped", "failed", [])
    (first, second), asked = await run(RemoveBot(event_id(0), "soon"), wrong)
    assert (first.status, second.status, asked) == ("failed", "failed", [])
    assert isinstance(second.error, ConfigurationError)
