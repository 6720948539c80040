"""Up to when a `CalendarSyncer` has applied the changes of each calendar."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from .. import checks
from .plan import CLOCK_ERROR
from .watermarks import WatermarkStore

logger: logging.Logger = logging.getLogger("recall_async")

ALWAYS = datetime.min.replace(tzinfo=UTC)
"""As the start of a sync: read all events."""


class Reached:
    """The watermarks of a syncer's calendars, and since when some changes are undecided or were refused.

    `resumes`: begin with the watermarks that an earlier process stored. Otherwise the first sync reads all events, because
    it is not certain what was applied before the start.
    """

    def __init__(self, store: WatermarkStore, *, resumes: bool) -> None:
        self._store = store
        self._resumes = resumes
        self._watermarks: dict[str, datetime] = {}
        """For each calendar that was fully read since the start, the time until which all changes were applied."""
        self._behind: dict[str, datetime] = {}
        """For each calendar, the time since which some changes are undecided or were refused."""

    async def watermark(self, calendar_id: str) -> datetime | None:
        """Return the time until which all changes were applied; `None` if all events must be read."""
        return self._watermarks.get(calendar_id) or await self._stored(calendar_id)

    def start(self, calendar_id: str, watermark: datetime | None, since: datetime) -> datetime:
        """Return from when on a sync must read, for changes since `since`."""
        return ALWAYS if watermark is None else min(since, watermark, self._behind.get(calendar_id, since))

    def behind(self, calendar_id: str) -> datetime:
        """Return the time since which some changes are undecided or were refused."""
        return self._behind.get(calendar_id, ALWAYS)

    def fall_behind(self, calendar_id: str, since: datetime) -> None:
        """Record changes since `since` that are undecided or were refused."""
        self._behind[calendar_id] = min(since, self._behind.get(calendar_id, since))

    def catch_up(self, calendar_id: str) -> None:
        """Record that every change was applied."""
        self._behind.pop(calendar_id, None)

    def forget(self, calendar_id: str) -> None:
        """Forget a calendar that no longer exists."""
        self._watermarks.pop(calendar_id, None)
        self._behind.pop(calendar_id, None)

    async def advance(self, calendar_id: str, watermark: datetime | None, reached: datetime) -> None:
        """Store until when all changes were applied. The watermark never moves back."""
        if watermark is not None and reached <= watermark:
            return
        self._watermarks[calendar_id] = reached
        if reached == ALWAYS:
            return
        try:
            await self._store.set(calendar_id, reached)
        except Exception:
            # Harmless: the first sync after the next start reads everything.
            logger.exception("calendar %s: its watermark could not be stored", calendar_id)

    async def _stored(self, calendar_id: str) -> datetime | None:
        if not self._resumes:
            return None
        try:
            moment = checks.moment("a watermark", await self._store.get(calendar_id) or ALWAYS)
        except Exception:
            logger.exception("calendar %s: its watermark could not be read, so all its events are read", calendar_id)
            return None
        if moment > datetime.now(UTC) + CLOCK_ERROR:
            logger.warning(
                "calendar %s: its watermark %s is in the future, so all its events are read", calendar_id, moment
            )
            return None
        return None if moment == ALWAYS else moment
