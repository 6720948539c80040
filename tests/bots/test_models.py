"""Bots as they come over the wire: odd parts do not hide the others, and nothing that is private is shown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from recall_async import Bot, BotStatusChange, MeetingURL, Page
from tests.bots.documents import BOT

WHEN = datetime(2025, 1, 29, 23, 49, 58, 570998, UTC)


def decoded(**changes: Any) -> Bot:
    return msgspec.json.decode(json.dumps({**BOT, **changes}).encode(), type=Bot)


def test_a_documented_bot() -> None:
    """A field of the documented answer is lost, or mistaken for another."""
    bot = decoded()
    assert bot.id == "3fa85f64-5717-4562-b3fc-2c963f66afa6"
    assert bot.meeting_url == MeetingURL(platform="zoom", meeting_id="81234567890", meeting_password="secret")
    assert (bot.bot_name, bot.metadata, bot.join_at) == (
        "Notes",
        {"team": "sales"},
        datetime(2025, 1, 29, 23, tzinfo=UTC),
    )
    assert bot.status_changes[0] == BotStatusChange(
        code="joining_call", created_at=datetime(2025, 1, 29, 23, tzinfo=UTC)
    )
    assert (bot.status, bot.sub_code) == ("call_ended", "call_ended_by_host")
    assert bot.joined_at == datetime(2025, 1, 29, 23, 0, 10, tzinfo=UTC)
    (recording,) = bot.recordings
    assert recording.status == "done"
    assert recording.expires_at == datetime(2025, 2, 5, tzinfo=UTC)
    assert recording.download_urls == {"video_mixed": "https://media.example/v.mp4?token=private"}
    assert set(recording.media) == {"video_mixed", "transcript", "audio_mixed"}


def test_metadata_that_are_null() -> None:
    """A bot without metadata makes a whole page unreadable."""
    assert decoded(metadata=None).metadata == {}


def test_a_page_of_bots_decodes() -> None:
    """A page with its `count`, and bots of which most fields are missing, fails."""
    page = msgspec.json.decode(b'{"count":1,"next":null,"results":[{"id":"b","added":{}}]}', type=Page[Bot])
    (bot,) = page.results
    assert (bot.status, bot.recordings, bot.status_changes, bot.metadata) == ("ready", (), (), {})


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        (None, []),
        ({}, []),
        ("done", []),
        ([None, 7, "x", {"code": "done"}], ["done"]),
        ([{"code": 7}, {"code": "done", "created_at": "never", "sub_code": 9, "message": []}], ["unknown", "done"]),
        (
            [{"code": "b", "created_at": "2025-01-02T00:00:00Z"}, {"code": "a", "created_at": "2025-01-01T00:00:00"}],
            ["a", "b"],
        ),
        ([{"code": "a", "created_at": "9999-12-31T23:59:59-23:59"}, {"code": "b", "at": [[[[]]]]}], ["a", "b"]),
        ([{"code": "a"}, {"code": "brand_new", "message": {}}], ["a", "brand_new"]),
    ],
)
def test_odd_status_changes(changes: Any, codes: list[str]) -> None:
    """One odd entry makes a bot, or a page of a hundred, unreadable."""
    bot = decoded(status_changes=changes)
    assert [change.code for change in bot.status_changes] == codes
    assert bot.status == (codes[-1] if codes else "ready")
    assert repr(bot)


@pytest.mark.parametrize(
    "recordings",
    [
        None,
        [None],
        [{}],
        [{"id": 7, "status": None}],
        [{"media_shortcuts": [], "status": "done"}],
        [{"media_shortcuts": {"video_mixed": None, "transcript": {"data": None}}}],
        [{"media_shortcuts": {"video_mixed": {"data": {"download_url": 7}}}}],
    ],
)
def test_odd_recordings(recordings: Any) -> None:
    """A recording that is not ready, or of an odd form, makes its bot unreadable."""
    for recording in decoded(recordings=recordings).recordings:
        assert recording.download_urls == {}


def test_download_urls_are_not_shown() -> None:
    """A URL with which anybody can fetch a recording stands in a log."""
    bot = decoded()
    assert "private" not in f"{bot!r}{bot.recordings!r}"
    assert hash(bot) == hash(decoded())
    assert bot == decoded()


def test_a_bot_does_not_keep_its_page() -> None:
    """One bot out of a list keeps all of the list's bytes in memory."""
    body = json.dumps({"results": [BOT]}).encode()
    (bot,) = msgspec.json.decode(body, type=Page[Bot]).results
    size = len(json.dumps(BOT))
    assert len(bytes(bot.raw_status_changes)) < size  # type: ignore[arg-type]
    assert bytes(memoryview(bot.raw_status_changes).obj) != body  # type: ignore[arg-type]
