"""Check a decision before its request is sent: compare the time, the event and its bots with those in the plan."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime

from ..errors import NotFoundError
from ..limits.quota import Priority
from ..models import CalendarEvent, CalendarEventBot
from ..resources.calendar_events import CalendarEvents
from .decide import Decision, bots_to_come, is_right
from .meetings import is_same_meeting
from .plan import Plan
from .policy import BotSpec

PAGE = 100
"""Number of events in a page of a list, and of decisions whose events are read together."""
COST_OF_LISTING = 5
"""Listing one page takes as much quota time as retrieving this number of events one by one."""
RESENDS = ("refresh", "new configuration")
"""Reasons to schedule a bot again although it looks right."""
PLAN_AGAIN = "plan again"
"""The end of the `reason` of outcomes whose events the next plan must decide on again."""
ALREADY = "the event is already as planned"


class Recheck:
    """Finds out which events changed since the plan was made.

    Each event is read shortly before its request is sent: in a list if the plan has many changes close together,
    otherwise alone. An event that was listed more than `recheck` seconds ago is read again. With `None`, only the
    clock is checked.
    """

    def __init__(self, plan: Plan, events: CalendarEvents, recheck: float | None) -> None:
        self._plan = plan
        self._events = events
        self._recheck = recheck
        self._changes = list(plan)
        self._places = {decision.event_id: place for place, decision in enumerate(self._changes)}
        self._starts = sorted(decision.start_time for decision in plan.decisions)
        self._chunk: set[str] = set()
        """The events that were to be listed together."""
        self._listed: dict[str, CalendarEvent] = {}
        self._listed_until = -math.inf
        """Until when the listed events serve, by the event loop's clock."""

    async def why_outdated(self, decision: Decision) -> str | None:
        """Return why a decision is outdated; `None` if no reason is known."""
        if self._recheck is None:
            return self._why_too_late(decision, datetime.now(UTC))
        event = await self._read(decision, self._recheck)
        now = datetime.now(UTC)
        return _why_changed(decision, event, now) or self._why_too_late(decision, now)

    async def _read(self, decision: Decision, recheck: float) -> CalendarEvent | None:
        """Return the event as it is now, or `None` if it no longer exists."""
        clock = asyncio.get_running_loop().time
        if decision.event_id not in self._chunk or clock() >= self._listed_until:
            began = clock()
            place = self._places[decision.event_id]
            chunk = self._changes[place : place + PAGE]
            self._chunk = {each.event_id for each in chunk}
            self._listed = await self._list(chunk)
            # A list that takes longer than `recheck` must still serve for a while, or each event would need one.
            self._listed_until = began + max(recheck, 2 * (clock() - began))
        listed = self._listed.pop(decision.event_id, None)
        if listed is not None:
            return listed
        try:
            return await self._events.retrieve(decision.event_id, priority=Priority.BULK)
        except NotFoundError:
            return None

    async def _list(self, chunk: Sequence[Decision]) -> dict[str, CalendarEvent]:
        """List the events of a chunk, unless reading them one by one is cheaper."""
        wanted = {decision.event_id for decision in chunk}
        seen: dict[str, CalendarEvent] = {}
        calendars: list[str | None] = [None]
        if self._plan.calendars is not None:
            calendars = [*sorted({decision.calendar_id for decision in chunk})]
        first, last = chunk[0].start_time, chunk[-1].start_time
        pages = sum(first <= start <= last for start in self._starts) / PAGE
        if len(wanted) < COST_OF_LISTING * max(math.ceil(pages), len(calendars)):
            return seen
        for calendar_id in calendars:
            listed = self._events.list(
                calendar_id=calendar_id, start_time__gte=first, start_time__lte=last, priority=Priority.BULK
            )
            async for event in listed:
                if event.id in wanted:
                    seen[event.id] = event
        return seen

    def _why_too_late(self, decision: Decision, now: datetime) -> str | None:
        coming = [bot for bot in decision.bots if bot.start_time > now]
        if decision.kind == "remove":
            return "the bot was already dispatched" if decision.bots and not coming else None
        if coming:
            return None  # a scheduled bot can be changed until the meeting ends
        left = (decision.start_time - now).total_seconds()
        if left <= 0:
            # The job itself reports a meeting that has ended.
            return "the meeting has begun" if decision.end_time > now else None
        if left < self._plan.lead_time:
            return f"the meeting begins in {left:.0f} s, within the lead time of {self._plan.lead_time:g} s"
        return None


def _why_changed(decision: Decision, event: CalendarEvent | None, now: datetime) -> str | None:
    if event is None:
        return f"the event no longer exists: {PLAN_AGAIN}"
    if event.is_deleted:
        return f"the event was deleted at {event.updated_at.isoformat()}, after the plan was made: {PLAN_AGAIN}"
    coming = bots_to_come(event, now)
    same_event = (
        event.start_time == decision.start_time
        and event.end_time == decision.end_time
        and event.calendar_id == decision.calendar_id
        and is_same_meeting(event.meeting_url, decision.meeting_url)
    )
    if same_event and decision.reason not in {*RESENDS, "twin bot"} and _is_as_planned(decision, event, coming):
        return ALREADY
    if not same_event or event.updated_at > decision.updated_at:
        return f"the event changed at {event.updated_at.isoformat()}, after the plan was made: {PLAN_AGAIN}"
    if decision.detach and not coming:
        return None  # an earlier run ended between the two requests
    if _identities(coming) != _identities(tuple(bot for bot in decision.bots if bot.start_time > now)):
        return f"the event's bots changed after the plan was made: {PLAN_AGAIN}"
    return None


def _is_as_planned(decision: Decision, event: CalendarEvent, coming: tuple[CalendarEventBot, ...]) -> bool:
    if decision.kind == "remove":
        there = {bot.bot_id for bot in event.bots}
        return not coming and there.isdisjoint(bot.bot_id for bot in decision.bots)  # otherwise it was dispatched
    spec = BotSpec(decision.deduplication_key or "", decision.bot_config)
    return any(is_right(bot, event, spec) for bot in coming)


def _identities(bots: tuple[CalendarEventBot, ...]) -> set[tuple[str, str, datetime]]:
    return {(bot.bot_id, bot.deduplication_key, bot.start_time) for bot in bots}
