"""`CalendarSyncer`: receive webhooks, and keep the bots of the calendars as the policy says.

A delivery only says from when on a calendar has changes, and deliveries can be repeated, late, lost and out of order.
So each calendar has at most one running sync and one waiting sync: further deliveries make the waiting sync look
further back. Full rounds, one after each start and one every few hours, find what deliveries missed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, Self

from .. import checks
from ..bulk.actions import Outcome
from ..callbacks import Callback
from ..errors import (
    ConfigurationError,
    InsufficientCreditError,
    NotFoundError,
    RecallError,
    RequestBlockedError,
    SessionClosedError,
)
from ..limits.quota import Priority
from ..models import Calendar
from ..stopping import end_tasks, wait_at_most
from ..webhooks import CalendarSyncEvents, CalendarUpdate, WebhookEvent
from .connections import is_connected
from .guarded import GuardedPolicy
from .history import history_of
from .memory import ChangeHistory
from .plan import ALWAYS, Plan
from .policy import Policy, check_policy
from .reached import Reached
from .watermarks import MemoryWatermarks, WatermarkStore

logger: logging.Logger = logging.getLogger("recall_async")

AT_ONCE = 32
"""Number of calendars that are synced at the same time. More would only wait for the quota and use memory."""
FULL_EVERY = 6 * 3600.0
CLOSE_FOR = 10.0
"""Seconds for which a syncer that closes finishes the accepted deliveries."""
CANCEL_FOR = 2.0
"""Seconds for which `aclose(timeout)` waits for cancelled syncs that do not end."""


class PlansAndApplies(Protocol):
    """The methods of a `RecallSession` that a syncer uses. If it has `calendars`, full rounds read all calendars."""

    async def plan(self, *, policy: Policy, calendars: Iterable[str] | None, updated_since: datetime | None) -> Plan:
        """Make a plan, as `RecallSession.plan` does."""

    def apply(self, plan: Plan, *, recheck: float | None) -> AsyncIterator[Outcome]:
        """Apply a plan, as `RecallSession.apply` does."""


class CalendarSyncer:
    """Keep the bots of calendars as `policy` says, driven by webhooks.

    `await syncer.handle(event)` returns at once, so a web handler can await it. Use `async with`, or call `await
    aclose()` at the end: both finish the accepted deliveries, for at most ten seconds.

    - `watermarks`: stores for each calendar until when all changes were applied; by default in memory.
    - `on_outcome`: called with each `Outcome`, in the order in which the requests finish.
    - `on_error`: called with a calendar's id and the exception that its sync or the policy raised.
    - `backoff`: the most seconds before a failed sync is retried. It doubles after each further failure, up to
      `backoff_cap`. The syncer retries until the calendar no longer exists or the session is closed.
    - `full_every`: seconds between full rounds, which read every event of every calendar. The first follows the
      start. With `None` there are no full rounds, and a calendar's first sync begins at its stored watermark.
    - `remove_foreign`, `tag`: as in `RecallSession.plan`. With `tag`, full rounds also list the bots of the workspace,
      and reschedule those whose tags show another `bot_config`.
    - `history`: as in `RecallSession.plan`.

    If the policy raises for an event, the syncer leaves that event as it is and continues with the others. It leaves
    alone the events of disconnected calendars, which `disconnected` names. docs/webhooks.md
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
        full_every: float | None = FULL_EVERY,
        remove_foreign: bool = False,
        tag: bool = False,
        history: ChangeHistory | str | os.PathLike[str] | None = None,
    ) -> None:
        self._recall = recall
        self._policy = check_policy(policy)
        self._reached = Reached(watermarks or MemoryWatermarks(), resumes=full_every is None)
        self._on_outcome = None if on_outcome is None else Callback("on_outcome", on_outcome, "an Outcome")
        self._on_error = None if on_error is None else Callback("on_error", on_error, "an id and an exception")
        self._backoff = checks.backoff("backoff", backoff, backoff_cap)
        self._full_every = None if full_every is None else checks.seconds("full_every", full_every)
        flags = {"remove_foreign": remove_foreign, "tag": tag}
        self._options: dict[str, Any] = {name: True for name, value in flags.items() if checks.flag(name, value)}
        given = history_of(history)
        self._history: dict[str, Any] = {} if given is None else {"history": given}
        self._options |= self._history
        self._waiting: dict[str, datetime] = {}
        """For each calendar, the time from which the next sync must read changes."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._closing = asyncio.Event()
        self._disconnected: set[str] = set()
        self._known: set[str] = set()
        self._round: asyncio.Task[None] | None = None
        self._next_round: asyncio.TimerHandle | None = None

    @property
    def disconnected(self) -> frozenset[str]:
        """Calendars that were disconnected when they were last read: their owners must reconnect them."""
        return frozenset(self._disconnected)

    @property
    def busy(self) -> frozenset[str]:
        """Calendars with changes that are not applied yet."""
        return frozenset(self._tasks)

    async def handle(self, event: WebhookEvent) -> None:
        """Accept a delivery and sync its calendar in the background. Events that do not concern calendars are ignored.

        Raises `SessionClosedError` once the syncer is closed: respond with a 5xx, and the delivery will be repeated.
        """
        match event.data:
            case CalendarSyncEvents(calendar_id, last_updated_ts):
                self._want(calendar_id, last_updated_ts)
            case CalendarUpdate(calendar_id):
                # A reconnected calendar has lost its bots, but its events' `updated_at` did not change.
                self._want(calendar_id, ALWAYS)

    async def catch_up(self, calendar_ids: Iterable[str]) -> None:
        """Sync these calendars without a delivery: all events the first time, later those that changed since."""
        for calendar_id in calendar_ids:
            self._want(calendar_id, await self._reached.watermark(calendar_id))

    async def drain(self) -> None:
        """Wait until no sync is waiting or running."""
        while tasks := self._running():
            await asyncio.wait(tasks)

    async def aclose(self, timeout: float | None = CLOSE_FOR) -> None:
        """Accept no more deliveries, and finish the accepted ones. Failures are logged and not retried.

        After `timeout` seconds, unfinished syncs are cancelled and their calendars logged: the next start syncs them
        all. `None` waits without a bound, however long the API does not respond.
        """
        limit = None if timeout is None else checks.seconds("timeout", timeout, zero=True)
        self._closing.set()
        if self._next_round is not None:
            self._next_round.cancel()
        try:
            # Not asyncio.timeout: it could not distinguish its own cancellation from one by the caller.
            if tasks := self._running():
                await asyncio.wait(tasks, timeout=limit)
            if left := self._running():
                names = ", ".join(sorted(task.get_name() for task in left))
                logger.warning(
                    "closed after %g s with unapplied changes, which the next start applies: %s", limit, names
                )
        finally:
            left = await end_tasks(self._running(), math.inf if limit is None else CANCEL_FOR)
            if left:
                logger.error("%s: cancelled repeatedly, but still running", ", ".join(map(str, left)))
            self._tasks.clear()  # tasks that were cancelled before they began do not remove themselves

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _running(self) -> set[asyncio.Task[None]]:
        return {task for task in (*self._tasks.values(), self._round) if task is not None and not task.done()}

    def _start(self) -> None:
        """Begin the first full round, unless it has begun."""
        if self._full_every is not None and self._round is None:
            self._begin_round()

    def _begin_round(self) -> None:
        if self._closing.is_set() or self._full_every is None:
            return
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._look_at_all(), name="full round of a CalendarSyncer")
        self._next_round = asyncio.get_running_loop().call_later(self._full_every, self._begin_round)

    async def _look_at_all(self) -> None:
        """Request a sync of all events of all calendars."""
        failures = 0
        while not await self._list_calendars():
            failures += 1
            if not await self._may_retry(failures):
                return
        for calendar_id in sorted(self._known):
            if not self._closing.is_set():
                self._want(calendar_id, ALWAYS)

    async def _list_calendars(self) -> bool:
        """Note the workspace's calendars, and whether they are connected. Return False if that failed."""
        listed: Any = getattr(self._recall, "calendars", None)
        if listed is None:
            return True
        try:
            calendars: list[Calendar] = [calendar async for calendar in listed.list(priority=Priority.BULK)]
        except Exception:
            logger.exception("a full round failed: the calendars could not be listed")
            return False
        for calendar in calendars:
            self._note_connection(calendar.id, connected=is_connected(calendar))
            if is_connected(calendar):
                self._known.add(calendar.id)
        return True

    def _want(self, calendar_id: str, since: datetime) -> None:
        if self._closing.is_set():
            raise SessionClosedError("the syncer is closed: it accepts no more deliveries")
        self._known.add(calendar_id)
        self._wait_from(calendar_id, since)
        if calendar_id not in self._tasks:
            task = asyncio.create_task(self._work(calendar_id), name=f"sync of calendar {calendar_id}")
            self._tasks[calendar_id] = task
        self._start()

    def _wait_from(self, calendar_id: str, since: datetime) -> None:
        """Let the next sync of a calendar read the changes since `since`, too."""
        self._waiting[calendar_id] = min(since, self._waiting.get(calendar_id, since))

    async def _work(self, calendar_id: str) -> None:
        failures = 0
        try:
            while calendar_id in self._waiting:
                failures = 0 if await self._attempt(calendar_id) else failures + 1
                if failures and not await self._may_retry(failures):
                    return
        finally:
            if self._tasks.get(calendar_id) is asyncio.current_task():
                del self._tasks[calendar_id]

    async def _attempt(self, calendar_id: str) -> bool:
        """Sync a calendar. Return False if it must be retried."""
        async with self._slots:
            since = self._waiting.pop(calendar_id)
            try:
                return await self._sync(calendar_id, since)
            except Exception as error:
                # This task has no caller that would see the exception.
                logger.exception("calendar %s: the sync failed", calendar_id)
                self._report(calendar_id, error)
                if not _is_hopeless(error):
                    self._wait_from(calendar_id, since)
                    return False
                self._reached.fall_behind(calendar_id, since)
                if isinstance(error, NotFoundError):
                    self._forget(calendar_id)
            return True

    def _report(self, calendar_id: str, error: Exception) -> None:
        if self._on_error is not None:
            self._on_error(calendar_id, error, about=f"calendar {calendar_id}")

    async def _may_retry(self, failures: int) -> bool:
        """Wait for the backoff. Return whether to retry."""
        if self._closing.is_set():
            return False
        await wait_at_most(self._closing, self._backoff.delay(failures, random.random()))
        return True

    async def _sync(self, calendar_id: str, since: datetime) -> bool:
        """Plan and apply the changes. Return False if the sync must be retried."""
        watermark = await self._reached.watermark(calendar_id)
        since = min(since, watermark)
        policy = GuardedPolicy(self._policy)
        plan = await self._recall.plan(
            policy=policy, calendars=[calendar_id], updated_since=None if since == ALWAYS else since, **self._options
        )
        connected_again = self._note_connection(calendar_id, connected=calendar_id not in plan.disconnected)
        undone = policy.failures.keys() | await self._apply(calendar_id, plan)
        reached = max(watermark, plan.watermark or since)
        reached = min([reached, *(each.updated_at for each in plan.decisions if each.event_id in undone)])
        await self._reached.record(calendar_id, reached)
        if connected_again and since != ALWAYS:
            # The calendar has lost its bots, but its events' `updated_at` did not change.
            self._wait_from(calendar_id, ALWAYS)
        self._report_failures(calendar_id, policy.failures)
        if all(isinstance(error, ConfigurationError) for error in policy.failures.values()):
            return True  # asking the policy again would change nothing
        self._wait_from(calendar_id, reached)
        return False

    def _report_failures(self, calendar_id: str, failures: Mapping[str, Exception]) -> None:
        """Report what the policy raised, by event."""
        if failures:
            logger.error(
                "calendar %s: the policy failed for %d events, which are not changed, first for %s",
                calendar_id, len(failures), next(iter(failures)), exc_info=next(iter(failures.values())),
            )  # fmt: skip
        for error in failures.values():
            self._report(calendar_id, error)

    async def _apply(self, calendar_id: str, plan: Plan) -> set[str]:
        """Apply a plan. Return the events that a firewall refused to change, and raise the last temporary error."""
        unfinished: RecallError | None = None
        refused = set[str]()
        # Later changes have deliveries of their own, so the run need not recheck events.
        run: Any = self._recall.apply(plan, recheck=None, **self._history)
        try:
            async for outcome in run:
                if self._on_outcome is not None:
                    self._on_outcome(outcome, about=f"event {outcome.action.event_id}")
                error = outcome.error
                if error is None or outcome.status != "failed":
                    continue
                if error.may_pass or isinstance(error, InsufficientCreditError):
                    unfinished = error
                else:
                    logger.warning("calendar %s, event %s: %s", calendar_id, outcome.action.event_id, error)
                if isinstance(error, RequestBlockedError):
                    refused.add(outcome.action.event_id)
        finally:
            # After a cancellation, the run must send nothing more.
            if hasattr(run, "aclose"):
                await run.aclose()
        if unfinished is not None:
            raise unfinished
        return refused

    def _forget(self, calendar_id: str) -> None:
        """Forget a calendar that no longer exists. If its owner connects again, it is a new calendar."""
        self._known.discard(calendar_id)
        self._disconnected.discard(calendar_id)
        self._reached.forget(calendar_id)

    def _note_connection(self, calendar_id: str, *, connected: bool) -> bool:
        """Record whether a calendar is connected. Return True if it was reconnected."""
        if connected:
            again = calendar_id in self._disconnected
            self._disconnected.discard(calendar_id)
            return again
        if calendar_id not in self._disconnected:
            self._disconnected.add(calendar_id)
            logger.warning("calendar %s is disconnected: its owner must reconnect it", calendar_id)
        return False


def _is_hopeless(error: Exception) -> bool:
    """Return whether a retry of the sync would fail with the same error."""
    if isinstance(error, NotFoundError):
        return error.operation != "calendar_events.list"  # there it means that the server dropped the cursor
    return isinstance(error, ConfigurationError | SessionClosedError)
