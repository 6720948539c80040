"""The fields of our models as pydantic models, as their users would write them."""

from __future__ import annotations

from typing import Any

from pydantic import AwareDatetime, BaseModel


class PydanticBot(BaseModel):
    bot_id: str
    start_time: AwareDatetime
    deduplication_key: str
    meeting_url: str | dict[str, Any] | None = None


class PydanticEvent(BaseModel):
    id: str
    start_time: AwareDatetime
    end_time: AwareDatetime
    calendar_id: str
    raw: dict[str, Any] | None = None
    platform: str
    platform_id: str | None = None
    ical_uid: str | None = None
    meeting_platform: str | None = None
    meeting_url: str | dict[str, Any] | None = None
    created_at: AwareDatetime
    updated_at: AwareDatetime
    is_deleted: bool = False
    bots: list[PydanticBot] = []


class PydanticPage(BaseModel):
    next: str | None = None
    previous: str | None = None
    results: list[PydanticEvent]
