"""Calendars, events and bots of the sandbox's workspace, and the rules for scheduling and removing bots.

The rules where the documentation is not precise:

* A bot has one deduplication key, and a key in use has one bot: events scheduled with the same key share its `bot_id`.
* An entry of an event's `bots` is a snapshot of the event's values (or of those in `bot_config`) at its last schedule
  request. So when a meeting moves, each event that shares its bot needs a request.
* Scheduling an event with another key replaces its bot, or updates it in place (`SharedBots`). A bot whose start has
  passed has been dispatched and stays in `bots`, so an event that is moved forward repeatedly collects several.
* Bots are not part of the calendar event: `updated_at` does not change with them.
* A deleted event has no bots. A bot without events is deleted.

Documentation: https://docs.recall.ai/docs/scheduling-guide
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Mapping
from datetime import datetime, timedelta
from heapq import heappop, heappush
from typing import Any, TypeVar

from . import life
from .data import Generator
from .documents import BotReference, CalendarDocument, Event, MeetingURL, StatusChange
from .life import Bot, Notice
from .payloads import render
from .replies import coded_error, not_found
from .settings import Settings

T = TypeVar("T")
Position = tuple[datetime, str]
"""The position of an event or a calendar in a list: its time, then its id."""


class State:
    """The data of one workspace."""

    def __init__(self, settings: Settings) -> None:
        self.generator: Generator = Generator(
            settings.seed,
            settings.now(),
            url_objects=settings.url_objects,
            unusual=settings.unusual,
            documented=settings.documented,
        )
        drawn_calendars = self.generator.calendars(settings.calendars)
        self.calendars: dict[str, CalendarDocument] = {calendar.id: calendar for calendar in drawn_calendars}
        drawn = self.generator.events(settings.events, drawn_calendars)
        self.events: dict[str, Event] = {event.document.id: event for event in drawn}
        self.event_order: list[Position] = sorted(_position(event) for event in drawn)
        self.bots: dict[str, Bot] = {}
        self.pool_exhausted_within: timedelta = timedelta.min
        """Meetings that start sooner than this get no bot (507)."""
        self.pool_headers: dict[str, str] = {}
        self._live_bots: dict[str, str] = {}
        self._shared_bots = settings.shared_bots
        self._events_of_a_calendar = settings.events // settings.calendars
        self._due: list[tuple[datetime, str]] = []
        """A heap of times with the ids of the bots and calendars that are due. Some entries are outdated."""
        self.notices: list[Notice] = []
        """Events for which no webhook has been sent yet."""

    def calendar(self, calendar_id: str) -> CalendarDocument:
        """Return a calendar. Raises a refusal: 404."""
        return _found(self.calendars, calendar_id)

    def event(self, event_id: str) -> Event:
        """Return an event. Raises a refusal: 404."""
        return _found(self.events, event_id)

    def count_bots(self, now: datetime) -> int:
        """Return the number of bots whose meeting has not ended."""
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
        """Schedule the bot of `key` on the event. `start_time` and `meeting_url` replace those of the event."""
        document = event.document
        start_time, meeting_url = start_time or document.start_time, meeting_url or document.meeting_url
        bot = self.bots.get(self._live_bots.get(key, ""))
        if bot is None and self._shared_bots == "update":
            bot = self._renamed(event, key, now)
        if bot is None or bot.start_time <= now < start_time or bot.code in life.OVER:
            bot = Bot(self.generator.identifier(), key, config, start_time, document.end_time, now)
            self.bots[bot.id] = bot
            self._live_bots[key] = bot.id
        bot.config, bot.start_time, bot.end_time = config, start_time, document.end_time
        bot.meeting_url = meeting_url
        self._look_at_bot(bot, now)
        for reference in document.bots:
            if reference.bot_id != bot.id and reference.start_time > now:
                self._release(reference.bot_id, document.id)
        kept = [entry for entry in document.bots if entry.bot_id != bot.id and entry.start_time <= now]
        document.bots = [*kept, BotReference(bot.id, start_time, key, meeting_url)]
        bot.event_ids.add(document.id)
        if self._shared_bots == "update":
            for other in bot.event_ids - {document.id}:
                entries = self.events[other].document.bots
                entries[:] = [
                    BotReference(bot.id, start_time, key, meeting_url) if entry.bot_id == bot.id else entry
                    for entry in entries
                ]

    def keys_of(self, event_id: str) -> frozenset[str]:
        """Return the deduplication keys of the event's bots."""
        event = self.events.get(event_id)
        return frozenset(entry.deduplication_key for entry in event.document.bots) if event else frozenset()

    def bot(self, bot_id: str) -> Bot:
        """Return a bot. Raises a refusal: 404."""
        return _found(self.bots, bot_id)

    def leave_call(self, bot: Bot, now: datetime) -> None:
        """Make a bot leave its call. Raises a refusal: 400 if it has not started, or its call has ended."""
        if bot.code == "ready":
            message = "Cannot send a command to a bot which has not been started."
            raise coded_error(400, "cannot_command_unstarted_bot", message)
        if bot.code in life.OVER or bot.code == "call_ended":
            message = "Cannot send a command to a bot which has completed a call."
            raise coded_error(400, "cannot_command_completed_bot", message)
        self._take(bot, life.Step(now, "call_ended", "bot_received_leave_call"))

    def connect_later(self, calendar: CalendarDocument, moment: datetime) -> None:
        """Connect a `connecting` calendar at `moment`."""
        heappush(self._due, (moment, calendar.id))

    def next_due(self) -> datetime | None:
        """Return when the next step is due for `tick`, or `None`."""
        return self._due[0][0] if self._due else None

    def tick(self, now: datetime) -> None:
        """Perform every step that is due by `now`, each at its own time: bots take steps, calendars connect."""
        while self._due and self._due[0][0] <= now:
            moment, identifier = heappop(self._due)
            if (bot := self.bots.get(identifier)) is not None:
                step = life.next_step(bot)
                if step is not None and step.moment <= moment:
                    self._take(bot, step._replace(moment=moment))
            elif (calendar := self.calendars.get(identifier)) is not None and calendar.status == "connecting":
                self._connect(calendar, moment)

    def tell(self, calendar: CalendarDocument) -> None:
        """Queue a `calendar.update` webhook."""
        self.notices.append(Notice("calendar.update", {"calendar_id": calendar.id}, calendar.id))

    def tell_of_events(self, calendar_id: str, moment: datetime) -> None:
        """Queue a `calendar.sync_events` webhook: events changed at `moment`."""
        data = {"calendar_id": calendar_id, "last_updated_ts": moment}
        self.notices.append(Notice("calendar.sync_events", data, calendar_id))

    def _take(self, bot: Bot, step: life.Step) -> None:
        self.notices += life.take(bot, step, self.generator.identifier)
        self._look_at_bot(bot, step.moment)

    def _look_at_bot(self, bot: Bot, now: datetime) -> None:
        if (step := life.next_step(bot)) is not None:
            heappush(self._due, (max(step.moment, now), bot.id))

    def _connect(self, calendar: CalendarDocument, now: datetime) -> None:
        """Connect a calendar: set its address, add its events, and queue the first `calendar.sync_events` webhook."""
        calendar.platform_email = self.generator.address_of(calendar)
        self.set_status(calendar, "connected", now)
        for event in self.generator.events_of(calendar, self._events_of_a_calendar, now):
            self.add_event(event)
        self.tell(calendar)
        self.tell_of_events(calendar.id, now)

    def _renamed(self, event: Event, key: str, now: datetime) -> Bot | None:
        """Give the event's current bot the new key, and return it."""
        for entry in event.document.bots:
            if entry.start_time > now:
                bot = self.bots[entry.bot_id]
                if self._live_bots.get(bot.key) == bot.id:
                    del self._live_bots[bot.key]
                bot.key = key
                self._live_bots[key] = bot.id
                return bot
        return None

    def remove(self, event: Event, now: datetime) -> None:
        """Remove the event's bot, if it has one. Raises a refusal: 405 if the bot has been dispatched."""
        document = event.document
        if document.start_time <= now and any(entry.start_time <= now for entry in document.bots):
            raise coded_error(405, "cannot_delete_bot", "Cannot delete a bot that was already dispatched.")
        for entry in document.bots:
            if entry.start_time > now:
                self._release(entry.bot_id, document.id)
        document.bots = [entry for entry in document.bots if entry.start_time <= now]

    def add_event(self, event: Event) -> None:
        """Add an event."""
        self.events[event.document.id] = event
        insort(self.event_order, _position(event))

    def move_event(self, event: Event, start_time: datetime, now: datetime) -> None:
        """Move an event to `start_time`. Its length and its bot do not change."""
        document = event.document
        del self.event_order[bisect_left(self.event_order, _position(event))]
        document.end_time += start_time - document.start_time
        document.start_time = start_time
        insort(self.event_order, _position(event))
        self.touch(event, now)

    def delete_event(self, event: Event, now: datetime) -> None:
        """Mark an event as deleted and remove its bots."""
        for entry in event.document.bots:
            self._release(entry.bot_id, event.document.id)
        event.document.bots = []
        event.document.is_deleted = True
        self.touch(event, now)

    def touch(self, event: Event, now: datetime) -> None:
        """Update `updated_at`, `sequence` and `raw` after an event has changed in its calendar."""
        event.document.updated_at = now
        event.sequence += 1
        event.document.raw = render(event)

    def disconnect(self, calendar: CalendarDocument, now: datetime) -> None:
        """Delete a calendar: it becomes `disconnected`, and its events are marked as deleted."""
        self.set_status(calendar, "disconnected", now)
        for event in self.events.values():
            if event.document.calendar_id == calendar.id and not event.document.is_deleted:
                self.delete_event(event, now)

    def revoke(self, calendar: CalendarDocument, now: datetime) -> None:
        """Withdraw the permission to read a calendar: its events stay, their bots are removed."""
        self.set_status(calendar, "disconnected", now)
        for event in self.events.values():
            document = event.document
            if document.calendar_id == calendar.id and document.start_time > now:
                self.remove(event, now)

    def set_status(self, calendar: CalendarDocument, status: str, now: datetime) -> None:
        """Set the status of a calendar, and record when it changed."""
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


def _found(objects: Mapping[str, T], identifier: str) -> T:
    if identifier not in objects:
        raise not_found()
    return objects[identifier]


def _position(event: Event) -> Position:
    return event.document.start_time, event.document.id
