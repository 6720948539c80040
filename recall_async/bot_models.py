"""The API's bots as msgspec structs: a bot's status and its recordings.

Decoding tolerates additions and omissions of the API. Status changes and recordings are decoded only when they are
accessed, and an invalid entry does not hide the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from msgspec import UNSET, Raw, Struct, UnsetType, field

from .lenient import at, list_of, objects_of, text_of, time_of
from .models import MeetingURL, Shown, Time

OVER = frozenset({"call_ended", "recording_done", "done", "fatal", "analysis_done", "analysis_failed", "media_expired"})
"""Statuses of a bot that is no longer in a call."""
IN_CALL = frozenset(
    {"in_call_not_recording", "recording_permission_allowed", "recording_permission_denied", "in_call_recording"}
)
"""Statuses of a bot that was admitted to its meeting."""


class BotStatusChange(Struct, frozen=True, kw_only=True):
    """A status of a bot, and when it began. https://docs.recall.ai/docs/bot-status-change-events"""

    code: str
    """`joining_call`, `in_waiting_room`, `in_call_recording`, `done`, `fatal`, or a newer status."""
    created_at: datetime | None = None
    sub_code: str | None = None
    """The reason, such as `meeting_not_started`; `None` if there is none."""
    message: str | None = None


class Recording(Shown, frozen=True, kw_only=True):
    """A recording of a bot. Download its media from `download_urls`, which expire."""

    id: str
    created_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    expires_at: datetime | None = None
    """When the API deletes the recording; `None` if it does not."""
    status: str | None = None
    """`processing`, `paused`, `done`, `failed`, `deleted`, or a newer status."""
    sub_code: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    media: Mapping[str, Any] = field(default_factory=dict)
    """The API's data of the recording's media, by name, such as `video_mixed` and `transcript`."""

    @property
    def download_urls(self) -> dict[str, str]:
        """The download URLs of the finished media, by name. Keep them secret: they work without an API key."""
        urls = {name: text_of(at(medium, "data", "download_url")) for name, medium in self.media.items()}
        return {name: url for name, url in urls.items() if url is not None}

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = [(name, getattr(self, name)) for name in self.__struct_fields__ if name != "media"]
        return [*shown, ("media", sorted(self.media))]


class Bot(Shown, frozen=True, kw_only=True):
    """A bot: its meeting and its status. https://docs.recall.ai/reference/bot_retrieve"""

    id: str
    meeting_url: str | MeetingURL | None = None
    bot_name: str | None = None
    join_at: Time | None = None
    """When the bot is scheduled to join; `None` for a bot that was sent immediately."""
    raw_metadata: dict[str, Any] | None = field(default=None, name="metadata")
    raw_status_changes: Raw | UnsetType = field(default=UNSET, name="status_changes")
    raw_recordings: Raw | UnsetType = field(default=UNSET, name="recordings")

    _VIEWS: ClassVar = ("raw_status_changes", "raw_recordings")  # copied when the object outlives its `Page`

    def __hash__(self) -> int:  # a Raw has none
        return hash(self.id)

    @property
    def metadata(self) -> dict[str, Any]:
        """The `metadata` of the `bot_config`; empty if there is none."""
        return self.raw_metadata or {}

    @property
    def status_changes(self) -> tuple[BotStatusChange, ...]:
        """All statuses of the bot, the oldest first."""
        changes = [
            BotStatusChange(
                code=text_of(entry.get("code")) or "unknown",
                created_at=time_of(entry.get("created_at")),
                sub_code=text_of(entry.get("sub_code")),
                message=text_of(entry.get("message")),
            )
            for entry in objects_of(list_of(self.raw_status_changes))
        ]
        # A stable sort: entries without a time stay next to their neighbours.
        latest = _EARLIEST
        keyed = []
        for change in changes:
            latest = change.created_at or latest
            keyed.append((latest, change))
        return tuple(change for _, change in sorted(keyed, key=lambda pair: pair[0]))

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """The bot's recordings."""
        return tuple(
            Recording(
                id=str(entry.get("id") or ""),
                created_at=time_of(entry.get("created_at")),
                started_at=time_of(entry.get("started_at")),
                completed_at=time_of(entry.get("completed_at")),
                expires_at=time_of(entry.get("expires_at")),
                status=text_of(at(entry, "status", "code")),
                sub_code=text_of(at(entry, "status", "sub_code")),
                metadata=_mapping(entry.get("metadata")),
                media=_mapping(entry.get("media_shortcuts")),
            )
            for entry in objects_of(list_of(self.raw_recordings))
        )

    @property
    def status(self) -> str:
        """The status at the time of the response; `ready` for a bot that waits for its meeting."""
        changes = self.status_changes
        return changes[-1].code if changes else "ready"

    @property
    def sub_code(self) -> str | None:
        """The reason for the status, if there is one: for `fatal`, what went wrong."""
        changes = self.status_changes
        return changes[-1].sub_code if changes else None

    @property
    def joined_at(self) -> datetime | None:
        """When the bot was admitted to its meeting; `None` if it was not, or not yet."""
        return next((change.created_at for change in self.status_changes if change.code in IN_CALL), None)

    @property
    def is_over(self) -> bool:
        """True if the bot's call has ended or the bot failed."""
        return self.status in OVER

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        names = ("id", "status", "sub_code", "join_at", "bot_name", "meeting_url", "metadata", "recordings")
        return [(name, getattr(self, name)) for name in names]


_EARLIEST = datetime.min.replace(tzinfo=UTC)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
