"""Where watermarks are kept: one contract for every store, and what is special about files and Redis."""

from __future__ import annotations

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from recall_async import FileWatermarks, MemoryWatermarks, RedisWatermarks
from recall_async.sync.memory import Memory
from recall_async.sync.plan import ALWAYS
from recall_async.sync.reached import Reached

WHEN = datetime(2025, 6, 10, 18, 54, 18, 951234, UTC)


class FakeRedis:
    """What redis.asyncio.Redis does with two commands, with and without `decode_responses`."""

    def __init__(self, *, decode: bool = False) -> None:
        self.values: dict[str, str] = {}
        self._decode = decode

    async def get(self, name: str) -> bytes | str | None:
        value = self.values.get(name)
        return value if value is None or self._decode else value.encode()

    async def set(self, name: str, value: str) -> bool:
        self.values[name] = value
        return True


STORES = {
    "memory": lambda path: MemoryWatermarks(),
    "file": lambda path: FileWatermarks(path / "watermarks.json"),
    "redis": lambda path: RedisWatermarks(FakeRedis()),
    "redis, decoded": lambda path: RedisWatermarks(FakeRedis(decode=True), prefix="p:"),
}


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
async def test_what_was_set_is_there(make, tmp_path: Path):
    """A calendar is looked at from another moment on than the one that was remembered, or from another calendar's."""
    store = make(tmp_path)
    assert await store.get("a") is None
    await store.set("a", WHEN)
    await store.set("b", WHEN.astimezone(timezone(timedelta(hours=2))))
    await store.set("a", WHEN + timedelta(microseconds=1))
    assert await store.get("a") == WHEN + timedelta(microseconds=1)
    assert await store.get("b") == WHEN
    assert await store.get("c") is None


async def test_a_file_outlives_the_process(tmp_path: Path):
    """After a restart every calendar starts from nothing."""
    path = tmp_path / "watermarks.json"
    await FileWatermarks(path).set("a", WHEN)
    assert await FileWatermarks(str(path)).get("a") == WHEN
    assert json.loads(path.read_text()) == {"a": "2025-06-10T18:54:18.951234+00:00"}


async def test_many_calendars_at_once(tmp_path: Path):
    """Two calendars that are in order at the same moment overwrite each other's watermark."""
    path = tmp_path / "watermarks.json"
    store = FileWatermarks(path)
    await asyncio.gather(*(store.set(str(number), WHEN) for number in range(20)))
    assert len(json.loads(path.read_text())) == 20


async def test_a_write_that_fails_leaves_the_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk takes all watermarks with it."""
    path = tmp_path / "watermarks.json"
    store = FileWatermarks(path)
    await store.set("a", WHEN)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        await store.set("b", WHEN)
    monkeypatch.undo()
    assert await store.get("b") is None
    assert await FileWatermarks(path).get("a") == WHEN
    assert os.listdir(tmp_path) == ["watermarks.json"]


CORRUPT = [
    b"[]", b"{", b"7", b"", b"\x00", b"\xff\xfe", b'{"a": 7}', b'{"a": "yesterday"}', b'{"a": null}',
    b'{"a": "0001-01-01T00:00:00+23:59"}', b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("content", CORRUPT, ids=lambda content: repr(content[:20]))
async def test_a_corrupt_file_is_set_aside(tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture):
    """A file that was cut off, or is another program's, keeps a service from starting, or is overwritten."""
    path = tmp_path / "watermarks.json"
    path.write_bytes(content)
    store = FileWatermarks(path)
    assert "did not contain watermarks" in caplog.text
    assert "watermarks.json.corrupt" in caplog.text
    assert await store.get("a") is None
    await store.set("a", WHEN)
    assert await FileWatermarks(path).get("a") == WHEN
    assert (tmp_path / "watermarks.json.corrupt").read_bytes() == content


async def test_a_corrupt_file_that_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """A folder without write permission and a corrupt file together keep a service from starting."""
    path = tmp_path / "watermarks.json"
    path.write_text("{")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert await FileWatermarks(path).get("a") is None
    assert "cannot be renamed" in caplog.text


async def test_what_was_never_read_is_not_stored():
    """A calendar of which nothing was applied would be skipped up to now after the next start."""
    store = MemoryWatermarks()
    reached = Reached(store, resumes=True)
    await reached.record("a", ALWAYS)
    assert await store.get("a") is None
    assert await reached.watermark("a") == ALWAYS
    await reached.record("a", WHEN)
    assert await store.get("a") == WHEN
    reached.fall_behind("a", WHEN - timedelta(hours=1))
    assert await reached.watermark("a") == WHEN - timedelta(hours=1)


def test_events_of_the_past_are_forgotten():
    """A service would keep every event that it ever planned."""
    memory = Memory()
    memory.in_order("old", "key", "bot 1", WHEN)
    memory.in_order("new", "key", "bot 2", WHEN + timedelta(days=2))
    memory.forget(WHEN + timedelta(days=1))
    assert memory.holders("key") == {"new": "bot 2"}
