"""`Latest`: whatever the order in which deliveries come, the newest status is the last one that is accepted."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recall_async import ConfigurationError, FileLatest, Latest, MemoryLatest, RedisLatest, WebhookEvent
from recall_async.webhooks import BotChange, BotLog, CalendarUpdate, RecordingChange, Subject, TranscriptChange, latest
from recall_async.webhooks.latest import STORED_FOR, LatestStore

WHEN = datetime(2025, 6, 10, 18, 54, 18, 951234, UTC)


class FakeRedis:
    """What a server does with the one script, for a client of any kind."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {}

    async def eval(self, script: str, numkeys: int, *keys_and_args: str) -> int:
        name, moment, _ = keys_and_args
        if self.values.get(name, 0) > int(moment):
            return 0
        self.values[name] = int(moment)
        return 1


STORES: dict[str, Callable[[Path], LatestStore]] = {
    "memory": lambda path: MemoryLatest(),
    "file": lambda path: FileLatest(path / "latest.json"),
    "redis": lambda path: RedisLatest(FakeRedis()),
}


def change(seconds: float, code: str = "done", bot: str = "b1") -> WebhookEvent:
    moment = WHEN + timedelta(seconds=seconds)
    return WebhookEvent(f"bot.{code}", BotChange(bot=Subject(bot), code=code, updated_at=moment))


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
async def test_what_is_older_is_dropped(make: Callable[[Path], LatestStore], tmp_path: Path) -> None:
    """A late delivery overwrites a newer status, or a bot's time drops the deliveries of another bot."""
    latest = Latest(make(tmp_path))
    assert await latest.accepts(change(10))
    assert not await latest.accepts(change(9.999999))
    assert await latest.accepts(change(-5, bot="b2"))
    assert await latest.accepts(change(10.000001))
    assert not await latest.accepts(change(10))


@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
async def test_a_repeat_is_accepted(make: Callable[[Path], LatestStore], tmp_path: Path) -> None:
    """A delivery whose handler failed is lost, because it was noted before it was handled."""
    latest = Latest(make(tmp_path))
    assert await latest.accepts(change(1))
    assert await latest.accepts(change(1))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("make", STORES.values(), ids=STORES)
async def test_any_order_ends_with_the_newest(make: Callable[[Path], LatestStore], seed: int, tmp_path: Path) -> None:
    """Some order of deliveries, handled at the same time, ends with an old status."""
    rng = random.Random(seed)
    latest, known = Latest(make(tmp_path)), dict[str, datetime]()
    events = [change(number, bot=f"b{rng.randrange(3)}") for number in range(30)] * 2
    rng.shuffle(events)

    async def handle(event: WebhookEvent) -> None:
        assert isinstance(event.data, BotChange)
        if await latest.accepts(event):
            known[event.data.bot.id] = event.data.updated_at

    for start in range(0, len(events), 7):
        await asyncio.gather(*map(handle, events[start : start + 7]))
    assert known == {
        event.data.bot.id: event.data.updated_at
        for event in sorted(events, key=lambda event: event.data.updated_at)  # type: ignore[union-attr]
        if isinstance(event.data, BotChange)
    }


async def test_recordings_and_transcripts_have_an_order_of_their_own() -> None:
    """A transcript's delivery is dropped for the later one of its bot, or none of them is dropped at all."""
    latest, bot = Latest(), Subject("b1")
    assert await latest.accepts(change(10))
    for make in (
        lambda moment: RecordingChange(recording=bot, bot=bot, code="done", updated_at=moment),
        lambda moment: TranscriptChange(transcript=bot, bot=bot, code="done", updated_at=moment),
    ):
        assert await latest.accepts(WebhookEvent("kind", make(WHEN)))
        assert not await latest.accepts(WebhookEvent("kind", make(WHEN - timedelta(seconds=1))))


async def test_kinds_without_an_order_pass() -> None:
    """Lines of a log, calendars, and kinds that are new get lost."""
    latest = Latest()
    log = BotLog(bot_id="b1", level="info", message="", created_at=WHEN)
    for data in (log, CalendarUpdate("c"), {"updated_at": "2000-01-01T00:00:00Z"}):
        for _ in range(2):
            assert await latest.accepts(WebhookEvent("kind", data))


async def test_a_file_outlives_the_process(tmp_path: Path) -> None:
    """After a restart, a late delivery overwrites a newer status."""
    path = tmp_path / "latest.json"
    await asyncio.gather(*(Latest(FileLatest(path)).accepts(change(1)) for _ in range(2)))
    latest = Latest(FileLatest(path))
    await asyncio.gather(*(latest.accepts(change(number, bot=f"b{number}")) for number in range(20)))
    again = Latest(FileLatest(str(path)))
    assert not await again.accepts(change(0))
    assert not await again.accepts(change(18, bot="b19"))
    assert len(json.loads(path.read_text())) == 20


async def test_a_cancelled_handler_leaves_the_file_in_order(tmp_path: Path) -> None:
    """A write that goes on after its handler was cancelled overwrites a later one."""
    path = tmp_path / "latest.json"
    latest = Latest(FileLatest(path))
    first = asyncio.create_task(latest.accepts(change(1)))
    await asyncio.sleep(0)
    first.cancel()
    assert await latest.accepts(change(2, bot="b2"))
    assert len(json.loads(path.read_text())) == 2


async def test_a_file_that_cannot_be_written_drops_nothing(tmp_path: Path) -> None:
    """A full disk makes the repeat of a delivery look old, so that it is lost."""
    store = FileLatest(tmp_path / "missing" / "latest.json")
    with pytest.raises(OSError):
        await Latest(store).accepts(change(1))
    (tmp_path / "missing").mkdir()
    assert await Latest(store).accepts(change(1))
    assert not await Latest(FileLatest(tmp_path / "missing" / "latest.json")).accepts(change(0))


@pytest.mark.parametrize("content", ["", "[]", "7", '{"a": "b"}', "{", "\udcff"])
def test_a_file_of_something_else_is_refused(content: str, tmp_path: Path) -> None:
    """A file that belongs to something else is overwritten."""
    path = tmp_path / "latest.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigurationError, match=r"latest\.json"):
        FileLatest(path)


async def test_memory_does_not_grow_for_ever() -> None:
    """A server that runs for a year keeps every bot it ever had."""
    store = MemoryLatest()
    latest = Latest(store)
    per_bot = STORED_FOR.total_seconds() / 500
    for number in range(10_000):
        await latest.accepts(change(number * per_bot, bot=f"b{number}"))
    assert len(store._moments) < 2500
    assert not await latest.accepts(change(9_600 * per_bot - 1, bot="b9600"))


async def test_deliveries_at_once_share_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst of deliveries would write the whole file once for each of them, and answer the last one late."""
    writes = []
    replace_file = latest.replace_file

    def counted(path: Path, content: bytes) -> None:
        writes.append(path)
        replace_file(path, content)

    monkeypatch.setattr(latest, "replace_file", counted)
    store = FileLatest(tmp_path / "latest.json")
    assert all(await asyncio.gather(*(store.advance(f"subject {number}", 1) for number in range(20))))
    assert len(writes) < 20
    assert len(json.loads((tmp_path / "latest.json").read_bytes())) == 20
