"""`CalendarSyncer`: webhooks in, bots where they belong.

A delivery only says from when on a calendar has changes, and deliveries are repeated, late, lost and out of order. So each
calendar has at most one sync at work and one waiting: what comes in the meantime makes the waiting one look further back.
Whatever was missed is found by full rounds: one after each start, and one every few hours.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self

from .. import checks
from ..bulk.actions import Outcome
from ..errors import ConfigurationError, InsufficientCreditError, NotFoundError, RecallError, SessionClosedError
from ..limits.quota import Priority
from ..models import Calendar, CalendarEvent
from ..webhooks import CalendarSyncEvents, CalendarUpdate, WebhookEvent
from .connections import is_connected
from .plan import Plan
from .policy import UNDECIDED, BotSpec, Policy, Undecided, ask
from .watermarks import MemoryWatermarks, WatermarkStore

logger: logging.Logger = logging.getLogger("recall_async")

ALWAYS = datetime.min.replace(tzinfo=UTC)
"""Since when everything changed: look at all events."""
AT_ONCE = 32
"""Calendars that are synced at the same time: more would only wait for the quota, with everything they hold."""
FULL_EVERY = 6 * 3600.0
AGAIN_AFTER = 0.5
"""Seconds after which a sync that was cancelled and goes on is cancelled again."""


class PlansAndApplies(Protocol):
    """What a syncer needs of a `RecallSession`; with its `calendars`, full rounds look at all of them."""

    async def plan(self, *, policy: Policy, calendars: Iterable[str] | None, updated_since: datetime | None) -> Plan:
        """As `RecallSession.plan`."""

    def apply(self, plan: Plan, *, recheck: float | None) -> AsyncIterator[Outcome]:
        """As `RecallSession.apply`."""


class CalendarSyncer:
    """Keeps the bots of calendars where `policy` says, driven by webhooks.

    `await syncer.handle(event)` from a web handler returns at once. Use it with `async with`, or `await aclose()` it.

    - `watermarks`: remembers for each calendar until when all changes were applied; by default in memory.
    - `on_outcome`: is called with each `Outcome`, in the order in which requests are finished.
    - `on_error`: is called with a calendar's id and the exception that a sync of it met, or a policy that it asked.
    - `backoff`: seconds until a sync that failed is tried again, at the most; twice as many after each further failure, up
      to `backoff_cap`. It is tried until the calendar no longer exists or the session is closed.
    - `full_every`: seconds between full rounds, which look at every event of every calendar. There is one after each start,
      too. With `None` there are none, and a calendar is first looked at from its stored watermark on.
    - `remove_foreign`: as in `RecallSession.plan`.

    A policy that raises leaves its event as it is, and no other. Events of calendars that are disconnected are left alone;
    `disconnected` names the calendars. docs/webhooks.md
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
    ) -> None:
        if not callable(policy):
            raise checks.invalid("policy", "a RecordingPolicy, or a function", policy)
        self._recall = recall
        self._policy = policy
        self._store = watermarks or MemoryWatermarks()
        self._on_outcome = on_outcome
        self._on_error = on_error
        self._backoff = checks.backoff("backoff", backoff, backoff_cap)
        self._full_every = None if full_every is None else checks.seconds("full_every", full_every)
        self._options = {"remove_foreign": True} if checks.flag("remove_foreign", remove_foreign) else {}
        self._waiting: dict[str, datetime] = {}
        """By calendar, from when on the next sync has to look."""
        self._watermarks: dict[str, datetime] = {}
        """By calendar that was looked at as a whole since the start, until when all changes were applied."""
        self._behind: dict[str, datetime] = {}
        """By calendar, since when changes could not be decided on."""
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._closing = asyncio.Event()
        self._disconnected: set[str] = set()
        self._known: set[str] = set()
        self._round: asyncio.Task[None] | None = None
        self._next_round: asyncio.TimerHandle | None = None

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
        """Look at these calendars without being asked: at everything the first time, and later at what changed since."""
        for calendar_id in calendar_ids:
            self._want(calendar_id, self._watermarks.get(calendar_id) or await self._stored(calendar_id) or ALWAYS)

    async def drain(self) -> None:
        """Return once nothing is waiting or at work."""
        while tasks := self._all_tasks():
            await asyncio.wait(tasks)

    async def aclose(self, timeout: float | None = None) -> None:
        """Take no more deliveries, and finish those that came. What fails now is logged and not tried again.

        After `timeout` seconds what is unfinished is cut short, and a log line names its calendars: the next start looks at
        all of them.
        """
        limit = None if timeout is None else checks.seconds("timeout", timeout, zero=True)
        self._closing.set()
        if self._next_round is not None:
            self._next_round.cancel()
        try:
            # Not asyncio.timeout, which could not tell its own cancellation from one that comes from outside.
            if limit is None:
                await self.drain()
            elif tasks := self._all_tasks():
                await asyncio.wait(tasks, timeout=limit)
            if self._tasks:
                logger.warning(
                    "closed after %g s with changes that were not applied, in the calendars %s: the next start does that",
                    limit,
                    ", ".join(sorted(self._tasks)),
                )
        finally:
            await self._end(bounded=limit is not None)

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def _all_tasks(self) -> set[asyncio.Task[None]]:
        return {task for task in (*self._tasks.values(), self._round) if task is not None and not task.done()}

    async def _end(self, *, bounded: bool) -> None:
        """Cancel what is at work and wait for its end. A cancellation may be swallowed on its way, and is repeated."""
        left, rounds = self._all_tasks(), 0
        while left and not (bounded and rounds == 4):
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=AGAIN_AFTER)
            rounds += 1
        if left:
            logger.error("%s: cancelled %d times, and still at work", ", ".join(map(str, left)), rounds)
        self._tasks.clear()  # of those that were cancelled before they began

    def _start(self) -> None:
        """Begin the first full round, once."""
        if self._full_every is not None and self._round is None:
            self._begin_round()

    def _begin_round(self) -> None:
        if self._closing.is_set() or self._full_every is None:
            return
        if self._round is None or self._round.done():
            self._round = asyncio.create_task(self._look_at_all(), name="full round of a CalendarSyncer")
        self._next_round = asyncio.get_running_loop().call_later(self._full_every, self._begin_round)

    async def _look_at_all(self) -> None:
        """Want all events of all calendars to be looked at."""
        listed: Any = getattr(self._recall, "calendars", None)
        failures = 0
        while listed is not None:
            try:
                calendars: list[Calendar] = [calendar async for calendar in listed.list(priority=Priority.BULK)]
            except Exception:
                logger.exception("a full round failed: the calendars could not be listed")
                failures += 1
                if self._closing.is_set() or not await self._may_retry(failures):
                    return
                continue
            for calendar in calendars:
                self._note_connection(calendar.id, connected=is_connected(calendar))
                if is_connected(calendar):
                    self._known.add(calendar.id)
            break
        for calendar_id in sorted(self._known):
            if not self._closing.is_set():
                self._want(calendar_id, ALWAYS)

    def _want(self, calendar_id: str, since: datetime) -> None:
        if self._closing.is_set():
            raise SessionClosedError("the syncer is closed: it takes no more deliveries")
        self._known.add(calendar_id)
        self._waiting[calendar_id] = min(since, self._waiting.get(calendar_id, since))
        if calendar_id not in self._tasks:
            task = asyncio.create_task(self._work(calendar_id), name=f"sync of calendar {calendar_id}")
            self._tasks[calendar_id] = task
        self._start()

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
        """Sync a calendar; return whether there is nothing to try again."""
        async with self._slots:
            since = self._waiting.pop(calendar_id)
            try:
                return await self._sync(calendar_id, since)
            except Exception as error:
                # Whatever it is, nobody else would see it.
                logger.exception("calendar %s: the sync failed", calendar_id)
                self._report(calendar_id, error)
                if not _is_hopeless(error):
                    self._waiting[calendar_id] = min(since, self._waiting.get(calendar_id, since))
                    return False
                self._fall_behind(calendar_id, since)
                if isinstance(error, NotFoundError):
                    self._known.discard(calendar_id)
            return True

    def _report(self, calendar_id: str, error: Exception) -> None:
        if self._on_error is not None:
            try:
                self._on_error(calendar_id, error)
            except Exception:
                logger.exception("calendar %s: on_error failed", calendar_id)

    async def _may_retry(self, failures: int) -> bool:
        """Wait; return whether to try again."""
        if self._closing.is_set():
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.delay(failures, random.random())):
                await self._closing.wait()
        return True

    async def _sync(self, calendar_id: str, since: datetime) -> bool:
        """Plan and apply what changed; return whether there is nothing to try again."""
        watermark = self._watermarks.get(calendar_id) or await self._stored(calendar_id)
        # The first look is at everything: what was done before the start is not known for certain.
        since = ALWAYS if watermark is None else min(since, watermark, self._behind.get(calendar_id, since))
        policy = _Guarded(self._policy)
        plan = await self._recall.plan(
            policy=policy, calendars=[calendar_id], updated_since=None if since == ALWAYS else since, **self._options
        )
        connected_again = self._note_connection(calendar_id, connected=calendar_id not in plan.disconnected)
        unfinished = await self._apply(calendar_id, plan)
        if unfinished is not None:
            raise unfinished
        self._behind.pop(calendar_id, None)
        reached = plan.watermark if plan.watermark is not None else watermark or since
        if undecided := [decision.updated_at for decision in plan.decisions if decision.event_id in policy.failures]:
            self._fall_behind(calendar_id, min(undecided))
            reached = min(reached, *undecided)
        await self._advance(calendar_id, watermark, reached)
        if connected_again and since != ALWAYS:
            # It has lost its bots, and nothing says so of each event.
            self._waiting[calendar_id] = ALWAYS
        return self._report_failures(calendar_id, policy.failures)

    def _report_failures(self, calendar_id: str, failures: Mapping[str, Exception]) -> bool:
        """Report what the policy raised; return whether asking it again would change nothing."""
        for event_id, error in failures.items():
            logger.error("event %s: the policy failed, so the event is left as it is", event_id, exc_info=error)
            self._report(calendar_id, error)
        if all(isinstance(error, ConfigurationError) for error in failures.values()):
            return True
        since = self._behind.get(calendar_id, ALWAYS)
        self._waiting[calendar_id] = min(since, self._waiting.get(calendar_id, since))
        return False

    async def _apply(self, calendar_id: str, plan: Plan) -> RecallError | None:
        """Apply a plan; return an error that may pass, if there was one."""
        unfinished: RecallError | None = None
        # Changes from here on come with a delivery of their own, so the run need not look for them.
        run: Any = self._recall.apply(plan, recheck=None)
        try:
            async for outcome in run:
                self._tell(outcome)
                error = outcome.error
                if error is None or outcome.status != "failed":
                    continue
                if error.may_pass or isinstance(error, InsufficientCreditError):
                    unfinished = error
                else:
                    logger.warning("calendar %s, event %s: %s", calendar_id, outcome.action.event_id, error)
        finally:
            # A sync that is cancelled here sends nothing more.
            if hasattr(run, "aclose"):
                await run.aclose()
        return unfinished

    def _tell(self, outcome: Outcome) -> None:
        if self._on_outcome is not None:
            try:
                self._on_outcome(outcome)
            except Exception:
                logger.exception("event %s: on_outcome failed", outcome.action.event_id)

    async def _advance(self, calendar_id: str, watermark: datetime | None, reached: datetime) -> None:
        """Remember until when all changes were applied; never an earlier moment than before."""
        if watermark is not None and reached <= watermark:
            return
        self._watermarks[calendar_id] = reached
        if reached == ALWAYS:
            return
        try:
            await self._store.set(calendar_id, reached)
        except Exception:
            # The next start looks at everything, whatever the store says.
            logger.exception("calendar %s: its watermark could not be stored", calendar_id)

    async def _stored(self, calendar_id: str) -> datetime | None:
        """The watermark of an earlier process, for a syncer that makes no full rounds."""
        if self._full_every is not None:
            return None
        try:
            return await self._store.get(calendar_id)
        except Exception:
            logger.exception("calendar %s: its watermark could not be read, so everything is looked at", calendar_id)
            return None

    def _fall_behind(self, calendar_id: str, since: datetime) -> None:
        self._behind[calendar_id] = min(since, self._behind.get(calendar_id, since))

    def _note_connection(self, calendar_id: str, *, connected: bool) -> bool:
        """Note whether a calendar is connected; return whether it is connected again."""
        if connected:
            again = calendar_id in self._disconnected
            self._disconnected.discard(calendar_id)
            return again
        if calendar_id not in self._disconnected:
            self._disconnected.add(calendar_id)
            logger.warning("calendar %s is disconnected: its owner must connect it again", calendar_id)
        return False


def _is_hopeless(error: Exception) -> bool:
    """Tell whether a sync that ended with this error would do so again."""
    if isinstance(error, NotFoundError):
        return error.operation != "calendar_events.list"  # whose cursor was forgotten by the server
    return isinstance(error, ConfigurationError | SessionClosedError)


class _Guarded:
    """A policy that leaves an event as it is where it raises, and remembers what it raised."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.lead_time: Any = getattr(policy, "lead_time", 0.0)
        self.deduplication: Any = getattr(policy, "deduplication", None)
        self.failures: dict[str, Exception] = {}

    async def __call__(self, event: CalendarEvent, calendar: Calendar) -> BotSpec | Undecided | None:
        try:
            spec = await ask(self._policy, event, calendar)
        except Exception as error:  # noqa: BLE001  # whatever a policy raises: the syncer logs it
            self.failures[event.id] = error
            return UNDECIDED
        self.failures.pop(event.id, None)
        return spec
