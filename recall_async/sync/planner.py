"""Make a plan: read the events, ask the policy which bots they should have, and record the difference."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from .. import checks
from ..caller import Client
from ..errors import NotFoundError
from ..events import PlanMade
from ..limits.quota import Priority
from ..models import Calendar, CalendarEvent, CalendarEventBot
from ..operations import REMOVE_BOT, SCHEDULE_BOT
from ..resources.bots import Bots
from ..resources.calendar_events import CalendarEvents
from ..resources.calendars import Calendars
from ..resources.fields import encode_bot_config
from ..resources.tags import CONFIG, digest_of
from .connections import connected_since, is_connected, was_connected_since
from .decide import CHANGES, Decision, bots_to_come, decide, is_right
from .memory import MAX_REPEATS, ChangeHistory, memory_of
from .plan import ALWAYS, Plan, watermark_of
from .policy import UNDECIDED, BotSpec, Policy, Undecided, ask, check_policy, check_setting
from .recheck import RESENDS

logger: logging.Logger = logging.getLogger("recall_async")

LOOKBACK = timedelta(days=1)
"""The API keeps events up to date from this long ago on: https://docs.recall.ai/docs/scheduling-guide"""

LIST_MAX_AGE = 60.0
"""Seconds for which plans of single calendars use the same list of bots."""


class Planner:
    """Makes one plan for one workspace."""

    def __init__(
        self,
        caller: Client,
        policy: Policy,
        *,
        refresh: bool = False,
        lead_time: float | timedelta | None = None,
        remove_foreign: bool = False,
        tag: bool = False,
        history: ChangeHistory | None = None,
    ) -> None:
        self._policy = check_policy(policy)
        if lead_time is None:
            lead_time = getattr(policy, "lead_time", 0.0)
        self._refresh = checks.flag("refresh", refresh)
        self._tag = checks.flag("tag", tag)
        self._remove_foreign = checks.flag("remove_foreign", remove_foreign)
        self._lead_time: float = check_setting("lead_time", lead_time)
        self._could_make = getattr(getattr(policy, "deduplication", None), "could_make", None)
        self._history = history
        self._caller = caller
        self._events = CalendarEvents(caller)
        self._calendars = Calendars(caller)
        self._memory = memory_of(caller.workspace)
        self._now = datetime.now(UTC)
        self._scope: list[str] | None = None
        self._known: dict[str, Calendar | None] = {}
        self._configs: dict[bytes, dict[str, Any]] = {}
        self._right: dict[str, set[str]] = {}
        """For each bot that is right, the events that have it."""
        self._kept: dict[str, list[tuple[CalendarEvent, BotSpec]]] = {}
        """For each upcoming bot that is kept, the events that have it, with the bot that each should have."""

    async def plan(
        self,
        calendars: Iterable[str | UUID | Calendar] | None = None,
        updated_since: datetime | str | None = None,
    ) -> Plan:
        """Decide what to do about each event. If an event cannot be listed, the whole plan fails."""
        since = None if updated_since is None else checks.moment("updated_since", updated_since)
        if self._history is not None:
            await self._memory.read(self._history)
        self._memory.forget(self._now - LOOKBACK)
        self._scope = await self._read_calendars(calendars)
        decisions: dict[str, Decision] = {}
        newest: datetime | None = None
        async with aclosing(self._listed(since)) as listed:
            async for event in listed:
                # An event that moves while the list is read may appear twice: the later version counts.
                if event.id in decisions and decisions[event.id].updated_at > event.updated_at:
                    continue
                newest = event.updated_at if newest is None else max(newest, event.updated_at)
                try:
                    decisions[event.id] = await self._decide(event)
                except Exception as error:
                    error.add_note(f"This was about event {event.id} of calendar {event.calendar_id}.")
                    raise
        if self._tag and since is None:
            await self._note_new_configurations(decisions)
        ordered = sorted(decisions.values(), key=lambda decision: (decision.start_time, decision.event_id))
        ordered = [self._reconsidered(decision) for decision in ordered]
        watermark = since
        if newest is not None:
            watermark = max(watermark_of(newest, self._now), since or ALWAYS)
        plan = Plan(
            decisions=tuple(ordered),
            made_at=self._memory.time_of_plan(self._now),
            watermark=watermark,
            calendars=None if self._scope is None else tuple(self._scope),
            disconnected=tuple(sorted(key for key, calendar in self._known.items() if not is_connected(calendar))),
            lead_time=self._lead_time,
            seconds=self._seconds(ordered),
        )
        report = self._caller.report
        if report.wants(logging.INFO):
            took = (datetime.now(UTC) - self._now).total_seconds()
            workspace = self._caller.workspace
            report.tell(PlanMade(workspace=workspace, events=len(ordered), requests=len(plan), duration=took))
        return plan

    async def _decide(self, event: CalendarEvent) -> Decision:
        calendar = await self._calendar(event.calendar_id)
        connected = is_connected(calendar)
        spec: BotSpec | Undecided | None = None
        if calendar is not None and connected and not event.is_deleted and event.end_time > self._now:
            spec = await ask(self._policy, event, calendar)
        decision = Decision(
            kind="skip",
            reason="policy failed",
            event_id=event.id,
            calendar_id=event.calendar_id,
            start_time=event.start_time,
            end_time=event.end_time,
            updated_at=event.updated_at,
            title=event.title,
        )
        if spec is UNDECIDED:
            return decision
        kind, reason = decide(
            event,
            spec,
            now=self._now,
            lead_time=self._lead_time,
            connected=connected,
            refresh=self._refresh,
            is_ours=None if self._could_make is None else partial(self._could_make, event=event),
            remove_foreign=self._remove_foreign,
        )
        right = next((bot for bot in event.bots if spec is not None and is_right(bot, event, spec)), None)
        if right is None or spec is None:
            self._memory.not_in_order(event.id)
        else:
            self._right.setdefault(right.bot_id, set()).add(event.id)
            self._memory.in_order(event.id, right.deduplication_key, right.bot_id, event.start_time)
            if kind == "keep" and right.start_time > self._now:
                if await self._has_twin(event.id, right):
                    kind, reason = "reschedule", "twin bot"
                else:
                    self._kept.setdefault(right.bot_id, []).append((event, spec))
        takes_request = kind in CHANGES
        return replace(
            decision,
            kind=kind,
            reason=reason,
            deduplication_key=spec.deduplication_key if spec is not None else None,
            bot_config=self._config(spec) if spec is not None and takes_request else {},
            meeting_url=event.meeting_url if takes_request else None,
            bots=bots_to_come(event, self._now) if takes_request else (),
            tag=self._tag and kind in ("schedule", "reschedule"),
        )

    async def _note_new_configurations(self, decisions: dict[str, Decision]) -> None:
        """Reschedule bots whose tags show a configuration that none of their events should have.

        One event per bot is rescheduled: the API updates the bot for all its events. Bots without tags are kept.
        """
        digests = await self._digests()
        for bot_id, events in self._kept.items():
            kept = [(event, spec) for event, spec in events if decisions[event.id].kind == "keep"]
            digest = digests.get(bot_id)
            if not kept or digest is None or digest in {digest_of(spec.bot_config) for _, spec in kept}:
                continue
            event, spec = min(kept, key=lambda pair: (pair[0].start_time, pair[0].id))
            decisions[event.id] = replace(
                decisions[event.id],
                kind="reschedule",
                reason="new configuration",
                bot_config=self._config(spec),
                meeting_url=event.meeting_url,
                bots=bots_to_come(event, self._now),
                tag=True,
            )

    async def _digests(self) -> Mapping[str, str]:
        """Return for each tagged upcoming bot the digest of its configuration.

        Bots can only be listed for a whole workspace, so plans of single calendars share a recent list.
        """
        memory, clock = self._memory, asyncio.get_running_loop().time
        async with memory.listing:
            if self._scope is None or clock() - memory.listed_at >= LIST_MAX_AGE:
                bots = Bots(self._caller).list(join_at_after=self._now, priority=Priority.BULK)
                memory.digests = {bot.id: bot.metadata[CONFIG] async for bot in bots if CONFIG in bot.metadata}
                memory.listed_at = clock()
        return memory.digests

    def _reconsidered(self, decision: Decision) -> Decision:
        """Decide again about an event, considering all other events and earlier changes."""
        if decision.kind not in CHANGES:
            return decision
        kind, reason = self._memory.reconsider(decision, datetime.now(UTC))
        if reason == "flapping":
            logger.warning(
                "event %s is flapping: the change %s was made %d times because of %r and did not last; the event is skipped "
                "until it changes",
                decision.event_id, decision.kind, MAX_REPEATS, decision.reason or "no bot",
            )  # fmt: skip
        if kind != decision.kind:
            return replace(decision, kind=kind, reason=reason, meeting_url=None, bots=())
        if kind == "reschedule" and reason not in RESENDS:
            # Some deployments change a bot in place, for all events that share it.
            bots = {bot.bot_id for bot in decision.bots}
            shared = any(self._right.get(bot_id, set()) - {decision.event_id} for bot_id in bots)
            holders = self._memory.holders(decision.deduplication_key or "")
            apart = self._memory.in_place and not bots.issuperset(holders.values())
            twin = decision.reason == "twin bot"
            return replace(decision, detach=shared or apart or twin or self._memory.is_repeated(decision))
        return decision

    async def _has_twin(self, event_id: str, bot: CalendarEventBot) -> bool:
        """Return whether another event has a second bot with the same key. The bot with the greater id is removed."""
        for other, twin in self._memory.holders(bot.deduplication_key).items():
            if twin < bot.bot_id and (other in self._right.get(twin, ()) or await self._still_has(other, twin)):
                return True
        return False

    async def _still_has(self, event_id: str, bot_id: str) -> bool:
        """Return whether an event of an earlier plan still has a bot."""
        bots: Sequence[CalendarEventBot] = ()
        with suppress(NotFoundError):
            bots = (await self._events.retrieve(event_id, priority=Priority.BULK)).bots
        key = self._memory.key_of(event_id)
        if any(bot.bot_id == bot_id and bot.deduplication_key == key for bot in bots):
            return True
        self._memory.not_in_order(event_id)
        return False

    async def _read_calendars(self, calendars: Iterable[str | UUID | Calendar] | None) -> list[str] | None:
        """Read the calendars to plan for. Return their ids, or `None` for all."""
        if calendars is None:
            async for calendar in self._calendars.list(priority=Priority.BULK):
                self._note(calendar.id, calendar)
            return None
        if isinstance(calendars, str | UUID | Calendar):
            raise checks.invalid("calendars", "a list of calendars", calendars)
        for given in calendars:
            if isinstance(given, Calendar):
                self._note(given.id, given)
            else:
                await self._calendar(checks.uuid("calendars", given), must_exist=True)
        return list(self._known)

    async def _listed(self, since: datetime | None) -> AsyncGenerator[CalendarEvent, None]:
        """Yield every event that may need a decision, including deleted ones.

        A calendar that was connected after `since` has lost its bots, but its events' `updated_at` did not change:
        all its events are listed.
        """
        connected = [calendar for calendar in self._known.values() if calendar is not None and is_connected(calendar)]
        anew = {each.id for each in connected if since is not None and was_connected_since(each, since)}
        places: list[str | None] = [None, *sorted(anew)] if self._scope is None else [each.id for each in connected]
        for calendar_id in places:
            whole = since is None or calendar_id in anew
            listed = self._events.list(
                calendar_id=calendar_id,
                start_time__gte=self._now - LOOKBACK if whole else None,
                updated_at__gte=None if whole else since,
                priority=Priority.BULK,
            )
            async for event in listed:
                yield event

    async def _calendar(self, calendar_id: str, *, must_exist: bool = False) -> Calendar | None:
        """Return the calendar of an event. It may not have been listed: events can change calendars."""
        if calendar_id not in self._known:
            try:
                self._note(calendar_id, await self._calendars.retrieve(calendar_id, priority=Priority.BULK))
            except NotFoundError:
                if must_exist:
                    raise
                self._known[calendar_id] = None
        return self._known[calendar_id]

    def _note(self, calendar_id: str, calendar: Calendar) -> None:
        self._known[calendar_id] = calendar
        self._memory.connection(calendar_id, connected_since(calendar), connected=is_connected(calendar))

    def _config(self, spec: BotSpec) -> dict[str, Any]:
        """Return a copy as plain JSON, so that changes of the policy's object do not reach the plan.

        Equal configurations share one copy.
        """
        if not spec.bot_config:
            return {}
        encoded = encode_bot_config(spec.bot_config)
        if encoded not in self._configs:
            self._configs[encoded] = json.loads(encoded)
        return self._configs[encoded]

    def _seconds(self, decisions: Iterable[Decision]) -> float:
        """Return how long the requests take. Schedule and remove have separate quotas."""
        numbers = {SCHEDULE_BOT.name: 0, REMOVE_BOT.name: 0}
        for decision in decisions:
            if decision.kind in CHANGES:
                numbers[REMOVE_BOT.name] += decision.kind == "remove" or decision.detach
                numbers[SCHEDULE_BOT.name] += decision.kind != "remove"
        return max(self._caller.quota(name).seconds_for(number) for name, number in numbers.items())
