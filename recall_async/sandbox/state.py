"""Calendars, events and bots of the sandbox's workspace, and the rules by which bots come and go.

The rules, where the documentation leaves room:

* A bot has one deduplication key, and a live key has one bot: events scheduled with the same key share its `bot_id`.
* An entry of an event's `bots` is a snapshot of that event (or of what `bot_config` names instead) at its last schedule
  request, so that each event that shares a bot needs a request of its own when the meeting moves.
* Scheduling an event with another key replaces its bot. A bot whose start has passed is out already: it stays in
  `bots`, which is how an event that is moved forward again and again collects several.
* Bots are no part of the calendar event: `updated_at` does not change with them.
* A deleted event has no bots; a bot without events is gone.

Documentation: https://docs.recall.ai/docs/scheduling-guide
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .answers import coded_error, not_found
from .data import Generator
from .documents import BotReference, CalendarDocument, Event, MeetingURL, StatusChange
from .payloads import render

Position = tuple[datetime, str]
"""Where an event or a calendar stands in a listing: its time, then its id."""


@dataclass(slots=True)
class Bot:
    """A scheduled bot and the events it serves."""

    id: str
    key: str
    config: dict[str, Any]
    start_time: datetime
    end_time: datetime
    event_ids: set[str] = field(default_factory=set)


class State:
    """Everything one workspace holds."""

    def __init__(self, *, seed: int, now: datetime, events: int, calendars: int) -> None:
        self.generator = Generator(seed, now)
        self.calendars = {calendar.id: calendar for calendar in self.generator.calendars(calendars)}
        drawn = self.generator.events(events, list(self.calendars.values()))
        self.events = {event.document.id: event for event in drawn}
        self.event_order = sorted(_position(event) for event in drawn)
        self.bots: dict[str, Bot] = {}
        self.pool_exhausted_within = timedelta.min
        """Meetings that start sooner than this get no bot (507)."""
        self.pool_headers: dict[str, str] = {}
        self._live_bots: dict[str, str] = {}

    def calendar(self, calendar_id: str) -> CalendarDocument:
        """The calendar, or 404."""
        try:
            return self.calendars[calendar_id]
        except KeyError:
            raise not_found() from None

    def event(self, event_id: str) -> Event:
        """The event, or 404."""
        try:
            return self.events[event_id]
        except KeyError:
            raise not_found() from None

    def count_bots(self, now: datetime) -> int:
        """Distinct bots whose meeting is not over."""
        return sum(bot.end_time > now for bot in self.bots.values())

    def schedule(
        self,
        event: Event,
        key: str,
        config: dict[str, Any],
        *,
        start_time: datetime | None,
        meeting_url: MeetingURL,
        now: datetime,
    ) -> None:
        """Puts the bot of `key` on the event; `start_time` and `meeting_url` replace the event's own."""
        document = event.document
        start_time = start_time or document.start_time
        bot = self.bots.get(self._live_bots.get(key, ""))
        if bot is None or (bot.start_time <= now < start_time):
            bot = Bot(self.generator.identifier(), key, config, start_time, document.end_time)
            self.bots[bot.id] = bot
            self._live_bots[key] = bot.id
        bot.config, bot.start_time, bot.end_time = config, start_time, document.end_time
        for reference in document.bots:
            if reference.bot_id != bot.id and reference.start_time > now:
                self._release(reference.bot_id, document.id)
        kept = [entry for entry in document.bots if entry.bot_id != bot.id and entry.start_time <= now]
        document.bots = [*kept, BotReference(bot.id, start_time, key, meeting_url or document.meeting_url)]
        bot.event_ids.add(document.id)

    def remove(self, event: Event, now: datetime) -> None:
        """Takes the event's bot away, also if it has none; 405 if that bot was already sent into the meeting."""
        document = event.document
        if document.start_time <= now and any(entry.start_time <= now for entry in document.bots):
            raise coded_error(405, "cannot_delete_bot", "Cannot delete a bot that was already dispatched.")
        for entry in document.bots:
            if entry.start_time > now:
                self._release(entry.bot_id, document.id)
        document.bots = [entry for entry in document.bots if entry.start_time <= now]

    def add_event(self, event: Event) -> None:
        """One more event."""
        self.events[event.document.id] = event
        insort(self.event_order, _position(event))

    def move_event(self, event: Event, start_time: datetime, now: datetime) -> None:
        """The event starts at `start_time` and lasts as long as before; its bot stays where it was."""
        document = event.document
        del self.event_order[bisect_left(self.event_order, _position(event))]
        document.end_time += start_time - document.start_time
        document.start_time = start_time
        insort(self.event_order, _position(event))
        self.touch(event, now)

    def delete_event(self, event: Event, now: datetime) -> None:
        """Marks the event as deleted and removes its bots."""
        for entry in event.document.bots:
            self._release(entry.bot_id, event.document.id)
        event.document.bots = []
        event.document.is_deleted = True
        self.touch(event, now)

    def touch(self, event: Event, now: datetime) -> None:
        """The event changed in its calendar: `updated_at`, `sequence` and `raw` follow."""
        event.document.updated_at = now
        event.sequence += 1
        event.document.raw = render(event)

    def disconnect(self, calendar: CalendarDocument, now: datetime) -> None:
        """What deleting a calendar does: it stays as `disconnected`, its events become deleted ones."""
        self.set_status(calendar, "disconnected", now)
        for event in self.events.values():
            if event.document.calendar_id == calendar.id and not event.document.is_deleted:
                self.delete_event(event, now)

    def revoke(self, calendar: CalendarDocument, now: datetime) -> None:
        """What taking back the permission to read a calendar does: its events stay as they are, their bots go."""
        self.set_status(calendar, "disconnected", now)
        for event in self.events.values():
            document = event.document
            if document.calendar_id == calendar.id and document.start_time > now:
                self.remove(event, now)

    def set_status(self, calendar: CalendarDocument, status: str, now: datetime) -> None:
        """Moves the calendar to `status`, and remembers when."""
        if calendar.status != status:
            calendar.status = status
            calendar.status_changes.append(StatusChange(status, now))
            calendar.updated_at = now

    def _release(self, bot_id: str, event_id: str) -> None:
        bot = self.bots[bot_id]
        bot.event_ids.discard(event_id)
        if not bot.event_ids:
            del self.bots[bot_id]
            if self._live_bots.get(bot.key) == bot_id:
                del self._live_bots[bot.key]


def _position(event: Event) -> Position:
    return event.document.start_time, event.document.id
