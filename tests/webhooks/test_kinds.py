"""Every kind of delivery that the API documents, from its documented example to its typed payload."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from recall_async import WebhookDecodeError
from recall_async.webhooks import (
    BotChange,
    BotLog,
    CalendarSyncEvents,
    CalendarUpdate,
    RecordingChange,
    Subject,
    TranscriptChange,
    WebhookEvent,
    WebhookVerifier,
    sign,
)

SECRET = "whsec_c2VjcmV0LW9mLXRoaXMtZXhhbXBsZQ=="
KINDS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent.parent / "data" / "webhooks.json").read_text())
"""By kind: the `example` and the JSON `schema` that the API documents."""
TYPES = {"bot": BotChange, "recording": RecordingChange, "transcript": TranscriptChange}
WHEN = datetime(2025, 1, 29, 23, 49, 58, 570998, UTC)


def delivered(document: dict[str, Any]) -> WebhookEvent:
    body = json.dumps(document).encode()
    return WebhookVerifier(SECRET).verify(sign(body, SECRET), body)


def type_of(kind: str) -> type:
    if kind.endswith("log"):
        return BotLog
    return {"calendar.sync_events": CalendarSyncEvents, "calendar.update": CalendarUpdate}.get(
        kind, TYPES.get(kind.partition(".")[0], dict)
    )


def test_all_kinds_are_there() -> None:
    """A documented kind is tested by nobody."""
    rooms = [kind.partition(".")[0] for kind in KINDS]
    assert {room: rooms.count(room) for room in rooms} == {"bot": 12, "calendar": 2, "recording": 5, "transcript": 4}


@pytest.mark.parametrize("kind", KINDS)
def test_a_documented_kind_is_typed(kind: str) -> None:
    """A handler finds a bare JSON object, or an error, where the API says what comes."""
    event = delivered(KINDS[kind]["example"])
    assert event.event == kind
    assert type(event.data) is type_of(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_more_fields_and_codes_do_not_hurt(kind: str) -> None:
    """A field or a code that the API adds makes every delivery fail."""
    document = json.loads(json.dumps(KINDS[kind]["example"]))

    def grow(part: Any) -> None:
        if isinstance(part, dict):
            for name, inner in list(part.items()):
                grow(inner)
                if name in ("code", "sub_code", "level"):
                    part[name] = "brand_new"
            part["added"] = {"since": [1, None]}

    grow(document["data"])
    document["more"] = True
    data: Any = delivered(document).data
    assert type(data) is type_of(kind)
    if hasattr(data, "code"):
        assert (data.code, data.sub_code) == ("brand_new", "brand_new")


def test_what_a_bot_change_says() -> None:
    """A field of the payload is lost, or mistaken for another."""
    document = {
        "event": "bot.fatal",
        "data": {
            "bot": {"id": "b1", "metadata": {"team": "sales"}},
            "data": {"code": "fatal", "sub_code": "bot_kicked", "updated_at": "2025-01-29T23:49:58.570998+00:00"},
        },
    }
    expected = BotChange(bot=Subject("b1", {"team": "sales"}), code="fatal", sub_code="bot_kicked", updated_at=WHEN)
    assert delivered(document).data == expected


def test_what_an_old_bot_change_says() -> None:
    """Accounts that get `bot.status_change` need a second handler."""
    expected = BotChange(bot=Subject("a31e78b3-b67e-4dcf-af63-631e7548c40f"), code="done", updated_at=WHEN)
    assert delivered(KINDS["bot.status_change"]["example"]).data == expected


def test_what_logs_recordings_and_transcripts_say() -> None:
    """A field of the payload is lost, or mistaken for another."""
    log = delivered(KINDS["bot.output_log"]["example"]).data
    assert isinstance(log, BotLog)
    assert (log.bot_id, log.level, log.output_id, log.created_at) == (
        "a31e78b3-b67e-4dcf-af63-631e7548c40f", "info", "output_123", WHEN,
    )  # fmt: skip
    transcript = delivered(KINDS["transcript.failed"]["example"]).data
    assert isinstance(transcript, TranscriptChange)
    assert transcript.transcript == Subject("fc8fcbb5-2795-48ca-a273-caf0bfe01dea")
    assert transcript.recording == Subject("4cff97e4-f0c7-4915-b5a0-983238758f28")
    assert transcript.bot == Subject("e4b22b2d-d490-4874-a086-322922f07950")
    recording = delivered(KINDS["recording.done"]["example"]).data
    assert isinstance(recording, RecordingChange)
    assert recording.recording == transcript.recording
    assert recording.bot == transcript.bot


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("calendar.")])
def test_null_metadata_and_missing_optional_parts(kind: str) -> None:
    """A bot without metadata, or a recording without its bot, makes the delivery fail."""
    document = json.loads(json.dumps(KINDS[kind]["example"]))
    for subject in document["data"].values():
        if isinstance(subject, dict) and "metadata" in subject:
            subject["metadata"] = None
    if kind.startswith("recording."):
        del document["data"]["bot"]
    assert type(delivered(document).data) is type_of(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_payload_is_an_error_of_its_own(kind: str) -> None:
    """A delivery without its payload passes for one that was understood."""
    with pytest.raises(WebhookDecodeError) as error:
        delivered({"event": kind, "data": {}})
    assert error.value.event == kind
