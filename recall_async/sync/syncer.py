"""`CalendarSyncer`: webhooks in, bots where they belong.

A delivery only says from when on a calendar has changes, and deliveries are repeated, late, lost and out of order. So each
calendar has at most one sync at work and one waiting: what comes in the meantime makes the waiting one look further back.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol, Self

from ..bulk.actions import Outcome
from ..errors import (
    BadRequestError,
    BotAlreadyDispatchedError,
    ConfigurationError,
    NotFoundError,
    RecallError,
    SessionClosedError,
)
from ..retry import RetryPolicy
from ..webhooks import CalendarSyncEvents, CalendarUpdate, WebhookEvent
from .plan import Plan
from .policy import Policy
from .watermarks import MemoryWatermarks, WatermarkStore

logger = logging.getLogger("recall_async")

ALWAYS = datetime.min.replace(tzinfo=UTC)
"""Since when everything changed: look at all events."""
FINAL = (BadRequestError, NotFoundError, BotAlreadyDispatchedError, ConfigurationError)
"""Errors of an action that would be the same again, so that waiting for it would hold up the calendar for ever."""
HOPELESS = (NotFoundError, ConfigurationError, SessionClosedError)
"""Errors of a sync that would be the same again."""
AT_ONCE = 32
"""Calendars that are synced at the same time: more would only wait for the quota, with everything they hold."""


class PlansAndApplies(Protocol):
    """What a syncer needs of a `RecallSession`."""

    async def plan(self, *, policy: Policy, calendars: Iterable[str] | None, updated_since: datetime | None) -> Plan:
        """As `RecallSession.plan`."""

    def apply(self, plan: Plan, *, recheck: float | None) -> AsyncIterator[Outcome]:
        """As `RecallSession.apply`."""


class CalendarSyncer:
    """Keeps the bots of calendars where `policy` says, driven by webhooks.

    `await syncer.handle(event)` from a web handler returns at once. Use it with `async with`, or `await aclose()` it.

    - `watermarks`: remembers for each calendar until when all changes were applied; by default in memory.
    - `on_outcome`: is called with each `Outcome`, in the order in which requests are finished.
    - `on_error`: is called with a calendar's id and the exception that a sync of it ended with.
    - `backoff`: seconds until a sync that failed is tried again, at the most; twice as many after each further failure, up
      to `backoff_cap`. It never gives up, but on calendars that do not exist and when the session is closed.

    Events of calendars that are disconnected are left alone; `disconnected` names the calendars. docs/webhooks.md
    """

    def __init__(
        self,
        recall: PlansAndApplies,
        policy: Policy,
        *,
        watermarks: WatermarkStore | None = None,
        on_outcome: Callable[[Outcome], object] | None = None,
        on_error: Callable[[str, Exception], object] | None = None,
        backoff: float = 1.0,
        backoff_cap: float = 300.0,
    ) -> None:
        self._recall = recall
        self._policy = policy
        self._watermarks = watermarks or MemoryWatermarks()
        self._on_outcome = on_outcome
        self._on_error = on_error
        self._retry = RetryPolicy(backoff=backoff, backoff_cap=backoff_cap)
        self._waiting: dict[str, datetime] = {}
        """By calendar, from when on the next sync has to look."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._closing = asyncio.Event()
        self._disconnected: set[str] = set()

    @property
    def disconnected(self) -> frozenset[str]:
        """Calendars that were disconnected when they were last looked at: their owners must connect them again."""
        return frozenset(self._disconnected)

    @property
    def busy(self) -> frozenset[str]:
        """Calendars that have changes which are not applied yet."""
        return frozenset(self._tasks)

    async def handle(self, event: WebhookEvent) -> None:
        """Take a delivery; what it asks for is done in the background. Kinds that do not concern calendars are ignored.

        Raises `SessionClosedError` once the syncer is closed: answer with a 5xx, and the delivery will be repeated.
        """
        match event.data:
            case CalendarSyncEvents(calendar_id, last_updated_ts):
                self._want(calendar_id, last_updated_ts)
            case CalendarUpdate(calendar_id):
                # A calendar that was connected again has lost its bots, and nothing says so of each event.
                self._want(calendar_id, ALWAYS)

    async def catch_up(self, calendar_ids: Iterable[str]) -> None:
        """Look at these calendars without being asked: from their watermarks on, or at everything without one.

        For a start after a pause that was longer than deliveries are repeated.
        """
        for calendar_id in calendar_ids:
            self._want(calendar_id, await self._watermarks.get(calendar_id) or ALWAYS)

    async def drain(self) -> None:
        """Return once nothing is waiting or at work."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def aclose(self) -> None:
        """Take no more deliveries, and finish those that came. What fails now is logged and not tried again."""
        self._closing.set()
        try:
            await self.drain()
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            self._tasks.clear()  # of those that were cancelled before they began

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _want(self, calendar_id: str, since: datetime) -> None:
        if self._closing.is_set():
            raise SessionClosedError("the syncer is closed: it takes no more deliveries")
        self._waiting[calendar_id] = min(since, self._waiting.get(calendar_id, since))
        if calendar_id not in self._tasks:
            task = asyncio.create_task(self._work(calendar_id), name=f"sync of calendar {calendar_id}")
            self._tasks[calendar_id] = task

    async def _work(self, calendar_id: str) -> None:
        failures = 0
        try:
            while calendar_id in self._waiting:
                failures = 0 if await self._attempt(calendar_id) else failures + 1
                if failures and not await self._may_retry(failures):
                    return
        finally:
            del self._tasks[calendar_id]

    async def _attempt(self, calendar_id: str) -> bool:
        """Sync a calendar; whether there is nothing to try again."""
        async with self._slots:
            since = self._waiting.pop(calendar_id)
            try:
                await self._sync(calendar_id, since)
            except Exception as error:
                # Also what the policy, the store or a callback raises: nobody else would see it.
                logger.exception("calendar %s: the sync failed", calendar_id)
                self._report(calendar_id, error)
                if not isinstance(error, HOPELESS):
                    self._waiting[calendar_id] = min(since, self._waiting.get(calendar_id, since))
                    return False
            return True

    def _report(self, calendar_id: str, error: Exception) -> None:
        if self._on_error is not None:
            try:
                self._on_error(calendar_id, error)
            except Exception:
                logger.exception("calendar %s: on_error failed", calendar_id)

    async def _may_retry(self, failures: int) -> bool:
        """Wait; whether to try again."""
        if self._closing.is_set():
            return False
        try:
            async with asyncio.timeout(self._retry.delay(failures, random.random())):
                await self._closing.wait()
        except TimeoutError:
            pass
        return True

    async def _sync(self, calendar_id: str, since: datetime) -> None:
        watermark = await self._watermarks.get(calendar_id)
        if watermark is not None:
            since = min(since, watermark)
        plan = await self._recall.plan(
            policy=self._policy, calendars=[calendar_id], updated_since=None if since == ALWAYS else since
        )
        self._note_connection(calendar_id, connected=calendar_id not in plan.disconnected)
        unfinished: RecallError | None = None
        # Changes from here on come with a delivery of their own, so the run need not look for them.
        async for outcome in self._recall.apply(plan, recheck=None):
            if self._on_outcome is not None:
                self._on_outcome(outcome)
            if isinstance(outcome.error, FINAL):
                logger.warning("event %s: %s", outcome.action.event_id, outcome.error)
            else:
                unfinished = outcome.error or unfinished
        if unfinished is not None:
            raise unfinished
        if plan.watermark is not None and (watermark is None or plan.watermark > watermark):
            await self._watermarks.set(calendar_id, plan.watermark)

    def _note_connection(self, calendar_id: str, *, connected: bool) -> None:
        if connected:
            self._disconnected.discard(calendar_id)
        elif calendar_id not in self._disconnected:
            self._disconnected.add(calendar_id)
            logger.warning("calendar %s is disconnected: its owner must connect it again", calendar_id)
