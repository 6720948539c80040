"""The life of a bot: it waits, joins, records, leaves and is done, or fails in the waiting room.

A bot joins at its start time and leaves when its meeting ends; the steps between take seconds. `fail_bot` makes a bot
fail in the waiting room. Each step is a status change with `bot.*`, `recording.*` and, if a transcript was requested,
`transcript.*` webhooks.

Documentation: https://docs.recall.ai/docs/bot-status-change-events
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from msgspec import Struct

from .documents import MeetingURL

OVER = frozenset({"done", "fatal"})
IN_CALL = frozenset(
    {"in_call_not_recording", "recording_permission_allowed", "recording_permission_denied", "in_call_recording"}
)
_STEPS = {
    "joining_call": ("in_waiting_room", 5),
    "in_waiting_room": ("in_call_not_recording", 5),
    "in_call_not_recording": ("recording_permission_allowed", 2),
    "recording_permission_allowed": ("in_call_recording", 3),
    "call_ended": ("done", 30),
}
"""The status that follows each status, and after how many seconds."""
_ASYNC_PROVIDERS = (
    "assembly_ai_async", "deepgram_async", "gladia_v2_async", "recallai_async", "rev_async", "speechmatics_async",
)  # fmt: skip
"""Providers of transcripts that are always named, as null unless they made it."""


class BotStatus(Struct, gc=False):
    """An entry of a bot's `status_changes`."""

    code: str
    message: str
    created_at: datetime
    sub_code: str


class RecordingStatus(Struct, gc=False):
    """The status of a recording."""

    code: str
    sub_code: str | None
    updated_at: datetime


class Recording(Struct):
    """An entry of a bot's `recordings`."""

    id: str
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime | None
    status: RecordingStatus
    media_shortcuts: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(slots=True)
class Bot:
    """A bot and the events it serves."""

    id: str
    key: str
    config: dict[str, Any]
    start_time: datetime
    end_time: datetime
    created_at: datetime
    meeting_url: MeetingURL = None
    event_ids: set[str] = field(default_factory=set)
    status_changes: list[BotStatus] = field(default_factory=list)
    recordings: list[Recording] = field(default_factory=list)
    fails_with: str | None = None
    """The `sub_code` with which the bot will fail; `None` if it will not fail."""

    @property
    def code(self) -> str:
        """The current status."""
        return self.status_changes[-1].code if self.status_changes else "ready"

    @property
    def metadata(self) -> dict[str, Any]:
        """The `metadata` of `bot_config`."""
        return self.config.get("metadata") or {}

    @property
    def is_transcribed(self) -> bool:
        """True if `bot_config` requests a transcript."""
        recording = self.config.get("recording_config")
        return isinstance(recording, dict) and bool(recording.get("transcript"))


class Notice(NamedTuple):
    """An event for which a webhook is sent. One about a calendar also goes to the calendar's own `webhook_url`."""

    event: str
    data: dict[str, Any]
    calendar_id: str | None = None


class Step(NamedTuple):
    """A status, and when a bot gets it."""

    moment: datetime
    code: str
    sub_code: str | None = None


def next_step(bot: Bot) -> Step | None:
    """Return the next step of a bot, or `None` if it has finished."""
    code = bot.code
    if code in OVER:
        return None
    if code == "ready":
        # A bot that is scheduled for a time that has passed joins at once.
        return Step(max(bot.start_time, bot.created_at), "joining_call")
    since = bot.status_changes[-1].created_at
    if code == "in_waiting_room" and bot.fails_with is not None:
        return Step(since + timedelta(seconds=5), "fatal", bot.fails_with)
    if code == "in_call_recording":
        return Step(max(since, bot.end_time), "call_ended", "call_ended_by_host")
    code, seconds = _STEPS[code]
    return Step(since + timedelta(seconds=seconds), code)


def take(bot: Bot, step: Step, identify: Callable[[], str]) -> list[Notice]:
    """Take a step of a bot, and return its webhooks. `identify` makes the id of a recording that starts."""
    bot.status_changes.append(BotStatus(step.code, "", step.moment, step.sub_code or ""))
    notices = [_notice("bot", step.code, bot, step.moment, step.sub_code)]
    if step.code == "in_call_recording":
        status = RecordingStatus("processing", None, step.moment)
        media = dict.fromkeys(("audio_mixed", "meeting_metadata", "participant_events", "transcript", "video_mixed"))
        bot.recordings.append(Recording(identify(), step.moment, step.moment, None, None, status, media, {}))
        notices.append(_notice("recording", "processing", bot, step.moment))
    elif step.code == "call_ended" and bot.recordings:
        bot.recordings[-1].completed_at = step.moment
    elif step.code == "done" and bot.recordings:
        recording = bot.recordings[-1]
        recording.status = RecordingStatus("done", None, step.moment)
        recording.expires_at = step.moment + timedelta(days=7)
        recording.media_shortcuts["video_mixed"] = _medium(recording, step.moment, "mp4") | {"format": "mp4"}
        notices.append(_notice("recording", "done", bot, step.moment))
        if bot.is_transcribed:
            recording.media_shortcuts["transcript"] = _transcript(bot, recording, step.moment)
            notices += [_notice("transcript", code, bot, step.moment) for code in ("processing", "done")]
    return notices


def _medium(recording: Recording, moment: datetime, form: str) -> dict[str, Any]:
    """Return the common fields of a finished video or transcript."""
    return {
        "id": str(uuid5(UUID(recording.id), form)),
        "created_at": recording.created_at,
        "status": RecordingStatus("done", None, moment),
        "metadata": {},
        "data": {"download_url": f"https://media.example/{recording.id}.{form}"},
    }


def _transcript(bot: Bot, recording: Recording, moment: datetime) -> dict[str, Any]:
    """Return a finished transcript, by the provider that `bot_config` names."""
    transcript = _medium(recording, moment, "json")
    transcript["data"]["provider_data_download_url"] = f"https://media.example/{recording.id}.provider.json"
    wanted = bot.config["recording_config"]["transcript"]
    provider = wanted.get("provider") if isinstance(wanted, dict) else None
    if not isinstance(provider, dict):
        provider = {"recallai_streaming": {}}
    return transcript | {"diarization": None, "provider": {**dict.fromkeys(_ASYNC_PROVIDERS), **provider}}


def _notice(subject: str, code: str, bot: Bot, moment: datetime, sub_code: str | None = None) -> Notice:
    """Return the webhook of a status, that of the bot or of its latest recording or transcript."""
    status = {"code": code, "sub_code": sub_code, "updated_at": moment}
    data: dict[str, Any] = {"bot": {"id": bot.id, "metadata": bot.metadata}, "data": status}
    if subject != "bot":
        recording = bot.recordings[-1]
        data["recording"] = {"id": recording.id, "metadata": recording.metadata}
        if subject == "transcript":
            data["transcript"] = {"id": recording.media_shortcuts["transcript"]["id"], "metadata": {}}
    return Notice(f"{subject}.{code}", data)
