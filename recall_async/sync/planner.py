"""Making a plan: read what is, ask the policy what should be, and note the difference."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from ..caller import Caller
from ..errors import ConfigurationError, NotFoundError
from ..limits.quota import Priority
from ..models import Calendar, CalendarEvent
from ..operations import REMOVE_BOT, SCHEDULE_BOT
from ..resources.calendar_events import CalendarEvents
from ..resources.calendars import Calendars
from ..resources.fields import check_id, encode_bot_config, parse_time
from .decide import CHANGES, Decision, decide
from .plan import Plan, watermark_of
from .policy import BotSpec, Policy, check_setting

LOOKBACK = timedelta(days=1)
"""Events of a calendar are kept up to date from so long ago on: https://docs.recall.ai/docs/scheduling-guide"""


class Planner:
    """Makes plans for one workspace."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._events = CalendarEvents(caller)
        self._calendars = Calendars(caller)

    async def plan(
        self,
        policy: Policy,
        *,
        calendars: Iterable[str | UUID | Calendar] | None,
        updated_since: datetime | str | None,
        lead_time: float | timedelta | None,
        refresh: bool,
    ) -> Plan:
        """What is to be done about every event. An event that cannot be listed fails the plan as a whole."""
        if not callable(policy):
            raise ConfigurationError(f"policy is {policy!r}: it is a RecordingPolicy, or a function")
        if lead_time is None:
            lead_time = getattr(policy, "lead_time", 0.0)
        lead = check_setting("lead_time", lead_time)
        now = datetime.now(UTC)
        scope, known = await self._known(calendars)
        decisions: dict[str, Decision] = {}
        newest: datetime | None = None
        async with aclosing(self._listed(scope, known, updated_since, now)) as listed:
            async for event in listed:
                # An event that moves while the list is read may come twice: the later version holds.
                if event.id in decisions and decisions[event.id].updated_at > event.updated_at:
                    continue
                newest = event.updated_at if newest is None else max(newest, event.updated_at)
                try:
                    decisions[event.id] = await self._decide(event, known, policy, now, lead, refresh)
                except Exception as error:
                    error.add_note(f"This was about event {event.id} of calendar {event.calendar_id}.")
                    raise
        ordered = tuple(sorted(decisions.values(), key=lambda decision: (decision.start_time, decision.event_id)))
        return Plan(
            decisions=ordered,
            made_at=now,
            watermark=watermark_of(newest, now) if newest is not None else _time(updated_since),
            calendars=None if scope is None else tuple(scope),
            disconnected=tuple(sorted(id for id, calendar in known.items() if not _is_connected(calendar))),
            seconds=self._seconds(ordered),
        )

    async def _decide(
        self,
        event: CalendarEvent,
        known: dict[str, Calendar | None],
        policy: Policy,
        now: datetime,
        lead_time: float,
        refresh: bool,
    ) -> Decision:
        calendar = await self._calendar(event.calendar_id, known)
        spec = None
        if calendar is not None and _is_connected(calendar) and not event.is_deleted and event.end_time > now:
            spec = await _ask(policy, event, calendar)
        kind, reason = decide(
            event, spec, now=now, lead_time=lead_time, connected=_is_connected(calendar), refresh=refresh
        )
        return Decision(
            kind=kind,
            reason=reason,
            event_id=event.id,
            calendar_id=event.calendar_id,
            start_time=event.start_time,
            end_time=event.end_time,
            updated_at=event.updated_at,
            title=event.title,
            deduplication_key=spec.deduplication_key if spec is not None else None,
            bot_config=_as_json(spec.bot_config) if spec is not None and kind in CHANGES else {},
        )

    async def _known(
        self, calendars: Iterable[str | UUID | Calendar] | None
    ) -> tuple[list[str] | None, dict[str, Calendar | None]]:
        """The ids of the calendars to look at (`None`: all), and the calendars that are known by then."""
        if calendars is None:
            listed = self._calendars.list(priority=Priority.BULK)
            return None, {calendar.id: calendar async for calendar in listed}
        if isinstance(calendars, str | UUID | Calendar):
            raise ConfigurationError("calendars is one calendar: write calendars=[...]")
        known: dict[str, Calendar | None] = {}
        for given in calendars:
            if isinstance(given, Calendar):
                known[given.id] = given
            elif (calendar_id := check_id(given, "calendars")) not in known:
                known[calendar_id] = await self._calendars.retrieve(calendar_id, priority=Priority.BULK)
        return list(known), known

    async def _listed(
        self,
        scope: list[str] | None,
        known: dict[str, Calendar | None],
        updated_since: datetime | str | None,
        now: datetime,
    ) -> AsyncGenerator[CalendarEvent, None]:
        """Every event that may matter, the deleted ones included: one that is not seen cannot be decided on."""
        since = now - LOOKBACK if updated_since is None else None
        for calendar_id in [None] if scope is None else scope:
            if calendar_id is None or _is_connected(known[calendar_id]):
                async for event in self._events.list(
                    calendar_id=calendar_id,
                    start_time__gte=since,
                    updated_at__gte=updated_since,
                    priority=Priority.BULK,
                ):
                    yield event

    async def _calendar(self, calendar_id: str, known: dict[str, Calendar | None]) -> Calendar | None:
        """The calendar of an event, which may be none of those that were listed: events change hands."""
        if calendar_id not in known:
            try:
                known[calendar_id] = await self._calendars.retrieve(calendar_id, priority=Priority.BULK)
            except NotFoundError:
                known[calendar_id] = None
        return known[calendar_id]

    def _seconds(self, decisions: tuple[Decision, ...]) -> float:
        """How long the requests take: schedule and remove have a quota each."""
        removed = sum(decision.kind == "remove" for decision in decisions)
        changed = sum(decision.kind in CHANGES for decision in decisions)
        times = [0.0]
        for operation, number in ((SCHEDULE_BOT, changed - removed), (REMOVE_BOT, removed)):
            quota = self._caller.lane(operation.name).quota
            times.append((number - quota.depth) * quota.per / quota.ceiling(Priority.BULK))
        return max(times)


async def _ask(policy: Policy, event: CalendarEvent, calendar: Calendar) -> BotSpec | None:
    answer = policy(event, calendar)
    spec = await answer if inspect.isawaitable(answer) else answer
    if spec is not None and not isinstance(spec, BotSpec):
        raise ConfigurationError(f"the policy answered {spec!r}: it answers a BotSpec or None")
    return spec


def _time(given: datetime | str | None) -> datetime | None:
    return None if given is None else parse_time(given, "updated_since")


def _is_connected(calendar: Calendar | None) -> bool:
    return calendar is not None and calendar.status != "disconnected"


def _as_json(config: Any) -> dict[str, Any]:
    """A copy as plain JSON, so that the plan does not change with what the policy gave."""
    document: dict[str, Any] = json.loads(encode_bot_config(config)) if config else {}
    return document
