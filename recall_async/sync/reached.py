"""Up to when a `CalendarSyncer` has applied the changes of each calendar."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from .. import checks
from .plan import ALWAYS, CLOCK_ERROR
from .watermarks import WatermarkStore

logger: logging.Logger = logging.getLogger("recall_async")


class Reached:
    """The watermarks of a syncer's calendars: until when all changes were applied.

    `resumes`: begin with the watermarks that an earlier process stored. Otherwise the first sync reads all events, because
    it is not certain what was applied before the start.
    """

    def __init__(self, store: WatermarkStore, *, resumes: bool) -> None:
        self._store = store
        self._resumes = resumes
        self._watermarks: dict[str, datetime] = {}

    async def watermark(self, calendar_id: str) -> datetime:
        """Return the time until which all changes were applied."""
        known = self._watermarks.get(calendar_id)
        return known or self._watermarks.setdefault(calendar_id, await self._stored(calendar_id))

    async def record(self, calendar_id: str, reached: datetime) -> None:
        """Store until when all changes were applied: earlier than before if an older change is undone."""
        if reached == self._watermarks.get(calendar_id):
            return
        self._watermarks[calendar_id] = reached
        if reached == ALWAYS:
            return
        try:
            await self._store.set(calendar_id, reached)
        except Exception:
            # Harmless: the first sync after the next start reads everything.
            logger.exception("calendar %s: its watermark could not be stored", calendar_id)

    def fall_behind(self, calendar_id: str, since: datetime) -> None:
        """Record changes since `since` that were given up. The next sync of the calendar reads them again."""
        self._watermarks[calendar_id] = min(since, self._watermarks.get(calendar_id, ALWAYS))

    def forget(self, calendar_id: str) -> None:
        """Forget a calendar that no longer exists."""
        self._watermarks.pop(calendar_id, None)

    async def _stored(self, calendar_id: str) -> datetime:
        if not self._resumes:
            return ALWAYS
        try:
            moment = checks.moment("a watermark", await self._store.get(calendar_id) or ALWAYS)
        except Exception:
            logger.exception("calendar %s: its watermark could not be read, so all its events are read", calendar_id)
            return ALWAYS
        if moment > datetime.now(UTC) + CLOCK_ERROR:
            logger.warning(
                "calendar %s: its watermark %s is in the future, so all its events are read", calendar_id, moment
            )
            return ALWAYS
        return moment
