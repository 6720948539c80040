"""The work of a bulk job.

A few workers take actions and perform them. A worker that has nothing to do, or nowhere to put outcomes because nobody
fetches them, ends; fetching an outcome starts the next one. So a job that is forgotten comes to rest by itself.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator

from ..caller import Caller
from ..errors import (
    AuthenticationError,
    EventEndedError,
    InsufficientCreditError,
    RecallError,
    RequestBlockedError,
    SessionClosedError,
)
from ..limits.contract import LaneStatistics, QuotaLane
from ..limits.quota import Priority
from ..models import CalendarEvent
from ..operations import REMOVE_BOT, SCHEDULE_BOT
from ..resources.calendar_events import CalendarEvents
from .actions import Action, Outcome, ScheduleBot, over_since
from .history import Decision, History
from .journal import Journal, JournalFile, line_of
from .order import Item, Turns, check_action, soonest_first

STOPPING = (AuthenticationError, InsufficientCreditError, RequestBlockedError, SessionClosedError)
"""Errors that every further action would meet, too."""
LOOK_AHEAD = 4
"""For each worker, so many actions may be held back at the most because of others on the same event or key."""

logger = logging.getLogger("recall_async")


class Engine:
    """Performs actions, at most `concurrency` at a time, and hands out what became of them."""

    def __init__(
        self,
        caller: Caller,
        actions: Iterable[Action] | AsyncIterable[Action],
        concurrency: int,
        journal: Journal | None,
        *,
        soonest_first: bool,
    ) -> None:
        self._caller = caller
        self._events = CalendarEvents(caller)
        self._actions = actions
        self._soonest_first = soonest_first
        self._concurrency = concurrency
        self._journal = journal
        self._file: JournalFile | None = None
        self._history: History | None = None
        self._lanes: dict[str, QuotaLane] = {}
        self._source: AsyncIterator[Action] | Iterator[Action] | None = None
        self._pulling = False
        self._turns = Turns()
        self._workers: dict[asyncio.Task[None], Item | None] = {}
        self._outcomes: deque[Outcome] = deque()
        self._news = asyncio.Event()
        self._starting = asyncio.Lock()
        self._stopping = False
        self._error: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    def statistics(self, operation: str) -> LaneStatistics:
        """The lane of an operation."""
        lane = self._lanes.get(operation)
        return self._caller.statistics()[operation] if lane is None else lane.statistics()

    async def next(self) -> Outcome | None:
        """The next outcome; `None` when there are no more. Raises what ended the job before its time."""
        if self._source is None and not self._stopping:
            async with self._starting:
                if self.loop is None:
                    self.loop = asyncio.get_running_loop()
                    await self._start()
        while not self._outcomes:
            self._staff()
            if not self._workers:
                self._end()
                return None
            self._news.clear()
            await self._news.wait()
        outcome = self._outcomes.popleft()
        if len(self._outcomes) <= self._concurrency // 2:
            self._staff()
        return outcome

    async def _start(self) -> None:
        self._caller.open()
        self._lanes = {operation.name: self._caller.lane(operation.name) for operation in (SCHEDULE_BOT, REMOVE_BOT)}
        actions = self._actions
        if self._soonest_first and isinstance(actions, Iterable):
            actions = await soonest_first(actions)
        if self._journal is not None:
            self._file = JournalFile(self._journal)
            self._history = History(self._file, retry_failed=self._journal.retry_failed)
            await self._history.load()
            if isinstance(actions, list):
                self._history.look_for(actions)
                self._tell_of_another_job()
        self._source = aiter(actions) if isinstance(actions, AsyncIterable) else iter(actions)

    def _tell_of_another_job(self) -> None:
        if self._file is not None and self._history is not None and self._history.strangers:
            logger.warning(
                "the journal %s is another job's: it tells of %d events, and none of them is in this job. "
                "What is in it stays, and this job's results follow.",
                self._file.path,
                self._history.strangers,
            )
            self._history.strangers = 0

    def _end(self) -> None:
        error, self._error = self._error, None
        self._source, self._stopping = None, True
        self.close()
        if error is not None:
            raise error

    def close(self) -> None:
        """Close the journal."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def stop(self, error: BaseException | None = None) -> None:
        """Begin nothing more: who waits for a slot gives up, requests on their way are finished; then raise `error`."""
        self._stopping = True
        self._error = self._error or error
        for task, item in self._workers.items():
            if item is None or not item.account.attempts:
                task.cancel()

    def abandon(self) -> None:
        """End all work at once, from where nothing can be awaited."""
        self._stopping = True
        self._error = None
        self._outcomes.clear()
        for task in self._workers:
            task.cancel()
        self.close()  # who is cancelled has nothing more to write

    async def aclose(self) -> None:
        """End all work at once, and wait until it has ended."""
        try:
            self.abandon()
        finally:
            if self._workers:
                await asyncio.wait(self._workers)

    def _staff(self) -> None:
        """One more worker, if there is work for it; it sees to the next one itself."""
        if len(self._workers) < self._concurrency and self._has_room() and (self._turns.ready or self._may_pull()):
            task = asyncio.create_task(self._work())
            self._workers.setdefault(task, None)  # an eager task is at work already
            task.add_done_callback(self._left)

    def _has_room(self) -> bool:
        return not self._stopping and len(self._outcomes) < self._concurrency

    def _may_pull(self) -> bool:
        ahead = self._turns.waiting < LOOK_AHEAD * self._concurrency
        return ahead and self._source is not None and not self._pulling

    def _left(self, task: asyncio.Task[None]) -> None:
        del self._workers[task]
        self._news.set()
        if not task.cancelled():
            error = task.exception()
        else:
            error = None if self._stopping else asyncio.CancelledError("a worker of the bulk job was cancelled")
        if error is not None:
            self.stop(error)

    async def _work(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while (item := await self._take()) is not None:
            self._workers[task] = item
            self._staff()
            await self._perform(item)
            self._workers[task] = None
            self._turns.finished(item)

    async def _take(self) -> Item | None:
        while self._has_room():
            if self._turns.ready:
                return self._turns.go()
            if not self._may_pull():
                return None
            self._pulling = True
            try:
                decisions = await self._pull()
            finally:
                self._pulling = False
            for decision in decisions:
                if decision.outcome is None:
                    self._turns.add(Item(decision.action, replaces=decision.replaces))
                else:
                    self._deliver(decision.outcome)
            if not decisions:
                await asyncio.sleep(0)
        return None

    async def _pull(self) -> list[Decision]:
        """What to do next, after a look at the next action of the input."""
        source, history = self._source, self._history
        assert source is not None
        try:
            given = await anext(source) if isinstance(source, AsyncIterator) else next(source)
            action = check_action(given)
            return [Decision(action, None)] if history is None else history.decide(action)
        except (StopIteration, StopAsyncIteration):
            self._source = None
            self._tell_of_another_job()
            return [] if history is None else history.rest()
        except Exception as error:  # noqa: BLE001  # whatever the caller's iterable raises: first, what it gave is done
            self._source, self._error = None, self._error or error
            return []

    async def _perform(self, item: Item) -> None:
        action, account = item.action, item.account
        event: CalendarEvent | None = None
        error: RecallError | None = None
        reason = None
        try:
            reason = over_since(action, time.time())
            if reason is None:
                event = await self._send(item)
        except STOPPING as stop:
            self.stop(stop)
            return
        except EventEndedError as ended:
            error, reason = ended, str(ended)
        except RecallError as failed:
            error = failed
        outcome = Outcome(action, event, error, account.attempts, account.waited, reason)
        file = self._file
        if file is not None:
            file.append(line_of(outcome, replaces=item.replaces))
        self._deliver(outcome)

    async def _send(self, item: Item) -> CalendarEvent:
        # Without a deadline, the policy's would count the time for which a long job waits for the quota.
        action, priority, deadline = item.action, Priority.BULK, math.inf
        if isinstance(action, ScheduleBot):
            return await self._events.schedule_bot(
                action.event_id,
                deduplication_key=action.deduplication_key,
                bot_config=action.bot_config,
                start_time=action.start_time,
                priority=priority,
                deadline=deadline,
                account=item.account,
            )
        return await self._events.remove_bot(
            action.event_id, start_time=action.start_time, priority=priority, deadline=deadline, account=item.account
        )

    def _deliver(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._news.set()
