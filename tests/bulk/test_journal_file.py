"""The file of a journal: whose it is, what becomes of it while a job writes, and who holds its lock."""

# ruff: noqa: ASYNC240

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from io import FileIO
from pathlib import Path

import pytest

from recall_async import ConfigurationError, Journal, JournalError, Outcome, RecallSession, ScheduleBot
from recall_async.bulk import journal as journal_module
from recall_async.bulk.journal import JournalFile
from recall_async.bulk.records import Result, result_of
from recall_async.bulk.run import BulkRun
from tests.bulk.test_endings import lines
from tests.bulk.test_engine import schedule
from tests.bulk.world import World, event_id


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


async def test_a_plan_has_its_own_journal(world: World, recall: RecallSession, path: Path) -> None:
    """Would take what another plan did for done, and send nothing."""

    async def run(job: str | None) -> list[Outcome]:
        return [o async for o in BulkRun(recall._client, [schedule(n) for n in range(5)], journal=path, job=job)]

    assert len(await run("first")) == 5
    assert {line["job"] for line in lines(path)} == {"first"}
    before = path.read_bytes()
    for other in ("second", None):
        with pytest.raises(JournalError, match=r"belongs to the plan first: .*use another file"):
            await run(other)
    assert path.read_bytes() == before
    assert all(outcome.resumed for outcome in await run("first"))
    path.unlink()
    await run(None)
    with pytest.raises(JournalError, match="belongs to a job without a plan"):
        await run("first")


@pytest.mark.skipif(sys.platform == "win32", reason="files that are open cannot be deleted there")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: path.unlink(), "was deleted"),
        (lambda path: path.rename(path.with_name("moved")), "was deleted or moved"),
        (lambda path: os.truncate(path, 10), "was truncated"),
        (lambda path: path.write_bytes(path.read_bytes() + b"{}\n"), "was written by another process"),
        (lambda path: (path.with_name("x").write_bytes(b""), path.with_name("x").rename(path)), "was replaced"),
    ],
)
async def test_a_journal_that_is_changed_under_a_job(
    world: World, recall: RecallSession, path: Path, change: object, told: str
) -> None:
    """Would write on into a file that nobody will find again, and say that all is well."""
    run = recall.bulk((schedule(number) for number in range(100)), concurrency=1, journal=path)
    await anext(run)
    assert callable(change)
    change(path)
    with pytest.raises(JournalError, match=told):
        async for _ in run:
            pass
    assert len(world.asked) < 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_does_not_hold_the_lock(path: Path) -> None:
    """Would keep a journal locked when the job is dead, for as long as some child of it lives."""
    file = JournalFile(Journal(path))
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.write(tell, b"x")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(told, 1)
        with pytest.raises(JournalError, match="in use by another job"):
            JournalFile(Journal(path))
        file.abandon()  # as when the process is killed
        JournalFile(Journal(path)).close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no flock")
def test_file_systems_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would leave somebody on such a file system without a journal, or without a word about the risk."""
    import fcntl

    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(JournalError, match=r"Journal\(path, lock=False\) or --no-lock"):
        JournalFile(Journal(path))
    JournalFile(Journal(path, lock=False)).close()
    with pytest.raises(ConfigurationError, match=r"Journal\.lock must be"):
        Journal(path, lock=0)  # type: ignore[arg-type]


@pytest.mark.parametrize("tail", [b'{"event_id":"00', b'{"event_id":"x"}', b""])
async def test_looking_changes_nothing(recall: RecallSession, path: Path, tail: bytes) -> None:
    """Would mend a file that was only to be looked at."""
    assert len([outcome async for outcome in recall.bulk([schedule(0), schedule(1)], journal=path)]) == 2
    text = path.read_bytes()
    for content in (text + tail, text.removesuffix(b"\n")):
        path.write_bytes(content)
        file = JournalFile(Journal(path), readonly=True)
        try:
            found = list(file.results())
        except JournalError:
            assert tail == b'{"event_id":"x"}'
        else:
            assert len(found) == 2
        file.close()
        assert path.read_bytes() == content


@pytest.mark.parametrize("tail", [b'{"event_id":"x"} y', b'{"event_id":"x", y', b'{"event_id":"x"}'])
async def test_what_is_not_torn_is_not_cut_off(recall: RecallSession, path: Path, tail: bytes) -> None:
    """Would cut off the end of a file because it lacks a line break and is no journal's."""
    path.write_bytes(tail)
    with pytest.raises(JournalError, match="line 1, is not a line"):
        await anext(recall.bulk([schedule(0)], journal=path))
    assert path.read_bytes() == tail


async def test_a_meeting_that_was_postponed(world: World, recall: RecallSession, path: Path) -> None:
    """Would never put a bot on a meeting that was over when it was first looked at, and is tomorrow now."""
    world.statuses = lambda asked: 400
    (ended,) = [outcome async for outcome in recall.bulk([ScheduleBot(event_id(0), "key", {})], journal=path)]
    world.statuses = lambda asked: 200
    if ended.status == "skipped":
        (again,) = [outcome async for outcome in recall.bulk([ScheduleBot(event_id(0), "key", {})], journal=path)]
        assert (again.status, again.resumed) == ("skipped", True)  # nothing says that it was postponed
    start = datetime.now(UTC) + timedelta(days=1)
    postponed = ScheduleBot(event_id(0), "key", {}, start, start + timedelta(hours=1))
    (done,) = [o async for o in recall.bulk([postponed], journal=Journal(path, retry_failed=ended.status == "failed"))]
    assert done.status == "done"


def done(number: int) -> Result:
    return result_of(Outcome(schedule(number), None, None, 1, 0.0))


class Disk:
    """What is under a file: it writes `room` more bytes, some at a time, and then fails."""

    def __init__(self, raw: FileIO, room: int, *, at_once: int = 10, truncates: bool = True) -> None:
        self._raw, self.room, self._at_once, self._truncates = raw, room, at_once, truncates

    def write(self, data: bytes) -> int:
        part = data[: min(self.room, self._at_once)]
        if not part:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(part)
        return self._raw.write(part)

    def truncate(self, size: int) -> int:
        if not self._truncates:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return self._raw.truncate(size)

    def fileno(self) -> int:
        return self._raw.fileno()

    def close(self) -> None:
        self._raw.close()


def test_a_disk_that_takes_a_part_of_a_line(path: Path) -> None:
    """Would leave half a line in the middle of a journal, or take a line for written of which the disk took a part."""
    file = JournalFile(Journal(path))
    file.append(done(0))
    before = path.read_bytes()
    raw = file._raw
    file._raw = Disk(raw, 25)  # type: ignore[assignment]
    with pytest.raises(JournalError, match=r"cannot be written: No space left on device.*performs them again"):
        file.append(done(1))
    assert path.read_bytes() == before
    file._raw = Disk(raw, 10**6)  # type: ignore[assignment]
    file.append(done(2))
    assert [result.event_id for _, result in file.results()] == [event_id(0), event_id(2)]
    file.close()


def test_a_disk_that_fails_for_good(path: Path) -> None:
    """Would hide the reason behind the failure to undo the write, or begin on a file that cannot be mended."""
    file = JournalFile(Journal(path))
    file.append(done(0))
    file._raw = Disk(file._raw, 25, truncates=False)  # type: ignore[assignment]
    with pytest.raises(JournalError, match="cannot be written: No space left on device"):
        file.append(done(1))
    file.close()
    file = JournalFile(Journal(path))
    file._raw = Disk(file._raw, 25, truncates=False)  # type: ignore[assignment]
    with pytest.raises(JournalError, match="cannot be written: Read-only file system"):
        list(file.results())
    file.close()


@pytest.mark.skipif(sys.platform == "win32", reason="files that are open cannot be replaced there")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: path.unlink(), "cannot be read: No such file"),
        (lambda path: path.with_name("x").replace(path), "was replaced by another file"),
    ],
)
def test_a_journal_that_is_replaced_while_it_is_opened(
    path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object], told: str
) -> None:
    """Would read the results of one file and write those of the job to another."""
    path.with_name("x").write_bytes(b"")
    lock = JournalFile._lock

    def locked(self: JournalFile) -> None:
        lock(self)
        change(path)

    monkeypatch.setattr(JournalFile, "_lock", locked)
    with pytest.raises(JournalError, match=told):
        JournalFile(Journal(path))


@pytest.mark.parametrize("garbage", [b"#", b"\xff"])
def test_a_line_that_is_changed_under_a_job(path: Path, garbage: bytes) -> None:
    """Would trip over what another process wrote into the file, and not say that it was another process."""
    file = JournalFile(Journal(path))
    file.append(done(0))
    ((place, result),) = file.results()
    assert file.result(place) == result
    path.write_bytes(garbage * (path.stat().st_size - 1) + b"\n")
    with pytest.raises(JournalError, match="was changed by another process during the job"):
        file.result(place)
    file.close()


def test_a_torn_line_with_bytes_that_are_no_text(path: Path) -> None:
    """Would refuse a journal whose last line was cut off by a power failure, because the disk left garbage in it."""
    file = JournalFile(Journal(path))
    file.append(done(0))
    before = path.read_bytes()
    file.close()
    path.write_bytes(before + before[:20] + b'\xff","status')
    file = JournalFile(Journal(path))
    assert len(list(file.results())) == 1
    assert path.read_bytes() == before
    file.close()


def test_the_old_name_of_a_result_is_deprecated() -> None:
    """Would break programs that read journals, or not tell them of the new name."""
    with pytest.warns(DeprecationWarning, match=r"bulk\.records\.Result"):
        assert journal_module.Line is Result
    with pytest.raises(AttributeError, match="Lines"):
        journal_module.Lines  # noqa: B018
