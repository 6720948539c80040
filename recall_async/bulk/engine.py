"""The engine of a bulk job.

Each action is a task; at most `concurrency` tasks run at a time. A task starts when an outcome is fetched or another
task ends, and only while there is room for outcomes: a job whose outcomes are not fetched pauses.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from enum import Enum, auto

from ..call import Call
from ..caller import Client
from ..errors import EventEndedError, RecallError
from ..limits.contract import LaneStatistics, QuotaLane
from ..limits.loops import current_loop
from ..limits.quota import Priority
from ..models import CalendarEvent
from ..operations import REMOVE_BOT, SCHEDULE_BOT
from ..outage import Outage
from ..passage import SCOPE, Scope
from ..resources.calendar_events import remove_request, schedule_request
from ..stopping import Stopped, StopSignal, end_tasks
from .actions import Action, Outcome, ScheduleBot, over_since
from .doubts import Doubts, Weight
from .earlier import EarlierResults
from .journal import Journal, JournalFile
from .order import ConflictQueue, Item, check_action, soonest_first
from .records import result_of

LOOK_AHEAD = 4
"""The most actions, per task, that may wait for others on the same event or key."""
BREATH = 64
"""Number of outcomes after which a job that never had to wait yields to the event loop."""

logger: logging.Logger = logging.getLogger("recall_async")


class Phase(Enum):
    """The phase of a job."""

    NEW = auto()
    READING = auto()
    DRAINED = auto()
    """The input has no more actions."""
    STOPPED = auto()


class Engine:
    """Performs actions, at most `concurrency` at a time, and returns their outcomes.

    An `Outcome` in the input is returned unchanged.
    """

    def __init__(
        self,
        caller: Client,
        actions: Iterable[Action | Outcome] | AsyncIterable[Action | Outcome],
        concurrency: int,
        journal: Journal | None,
        *,
        soonest_first: bool,
        stop: StopSignal,
        job: str | None,
        doubts: Doubts | None,
        max_outage: float,
    ) -> None:
        self._scope = Scope(max_outage, self._on_failure)
        self._caller = caller
        self._actions = actions
        self._soonest_first = soonest_first
        self._concurrency = concurrency
        self._journal = journal
        self._job = job
        self._doubts = doubts or Doubts()
        self._doubtful: list[Outcome] = []
        """Failures whose cause is still unknown: the action, or the client."""
        self._file: JournalFile | None = None
        self._earlier: EarlierResults | None = None
        self._lanes: dict[str, QuotaLane] = {}
        self._source: AsyncIterator[Action | Outcome] | Iterator[Action | Outcome] = iter(())
        self._phase = Phase.NEW
        self._stop = stop
        self._queue = ConflictQueue()
        self._tasks: dict[asyncio.Task[None], Item] = {}
        self._reader: asyncio.Task[None] | None = None
        self._outcomes: deque[Outcome] = deque()
        self._handed_out = 0
        self._changed = asyncio.Event()
        self._starting = asyncio.Lock()
        self._error: BaseException | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        stop.on_set(self._on_stop)  # last: it may be set already

    def statistics(self, operation: str) -> LaneStatistics:
        """Return the statistics of an operation's lane."""
        lane = self._lanes.get(operation)
        return self._caller.statistics()[operation] if lane is None else lane.statistics()

    @property
    def untouched(self) -> bool:
        """True until the first outcome is fetched or the job is stopped."""
        return self._phase is Phase.NEW

    @property
    def known(self) -> int:
        """The number of events in the journal whose actions have not been read yet."""
        return 0 if self._earlier is None else len(self._earlier)

    @property
    def in_flight(self) -> int:
        """The number of actions with a request in flight."""
        return sum(item.in_flight for item in self._tasks.values())

    def outage(self) -> Outage | None:
        """The outage whose end the job waits for; `None` if there is none."""
        if self.loop is None or self.loop.is_closed() or current_loop() is not self.loop:
            return None
        return self._caller.outage()

    async def next(self) -> Outcome | None:
        """Return the next outcome; `None` at the end. Raises the error that ended the job early."""
        if self._phase is Phase.NEW:
            async with self._starting:
                if self.loop is None:
                    self.loop = asyncio.get_running_loop()
                    await self._start()
        if self._handed_out % BREATH == BREATH - 1:
            await asyncio.sleep(0)
        while not self._outcomes:
            self._fill()
            if not self._tasks and self._reader is None and not self._outcomes and not self._end_doubts():
                self._end()
                return None
            if not self._outcomes:
                self._changed.clear()
                await self._changed.wait()
        outcome = self._outcomes.popleft()
        self._handed_out += 1
        if len(self._outcomes) <= self._concurrency // 2:
            self._fill()
        return outcome

    async def _start(self) -> None:
        self._caller.open()
        self._lanes = {operation.name: self._caller.lane(operation.name) for operation in (SCHEDULE_BOT, REMOVE_BOT)}
        actions = self._actions
        collected: list[Action] = []
        if self._soonest_first and isinstance(actions, Iterable):
            actions = collected = await soonest_first(actions)  # type: ignore[arg-type]  # it checks the types
        if self._journal is not None:
            self._file = JournalFile(self._journal, job=self._job)
            self._earlier = EarlierResults(self._file, retry_failed=self._journal.retry_failed)
            await self._earlier.load()
            if self._soonest_first:
                self._earlier.look_for(collected)
                self._tell_of_another_job()
        self._source = aiter(actions) if isinstance(actions, AsyncIterable) else iter(actions)
        if self._phase is Phase.NEW:
            self._phase = Phase.READING

    def _tell_of_another_job(self) -> None:
        if self._file is not None and self._earlier is not None and self._earlier.foreign_events:
            logger.warning(
                "the journal %s belongs to another job: it has results of %d events, none of which are in this job. "
                "This job's results are appended.",
                self._file.path,
                self._earlier.foreign_events,
            )
            self._earlier.foreign_events = 0

    def _end(self) -> None:
        error, self._error = self._error, None
        self._phase = Phase.STOPPED
        self.close()
        if error is not None:
            raise error

    def close(self) -> None:
        """Close the journal."""
        self._stop.detach()
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def stop(self, error: BaseException | None = None) -> None:
        """Begin nothing more, and raise `error` when the requests in flight are finished."""
        self._error = self._error or error
        self._stop.set()

    def _on_stop(self) -> None:
        """Cancel all tasks without a request in flight, in an outage all: a retry counts as beginning something."""
        self._phase = Phase.STOPPED
        away = self.outage() is not None  # then a probe in flight may hang
        for task, item in self._tasks.items():
            if away or not item.in_flight:
                task.cancel()
        if self._reader is not None:
            self._reader.cancel()
        self._changed.set()

    def abort(self) -> None:
        """Stop waiting for requests in flight."""
        self._stop.set()
        for task in self._tasks:
            task.cancel()

    def time_out(self, seconds: float) -> None:
        """Stop waiting for requests in flight, and log their events: `seconds` have passed since the job was stopped."""
        events = [item.action.event_id for item in self._tasks.values() if item.in_flight]
        if events:
            logger.warning(
                "the bulk job ended %g s after it was stopped, with %d requests in flight, which may have taken effect: a "
                "resumed job sends them again. Events: %s",
                seconds,
                len(events),
                ", ".join(sorted(map(str, events))),
            )
        self.abort()

    def abandon(self) -> None:
        """End all work at once, from code that cannot await."""
        self.abort()
        self._error = None
        self._outcomes.clear()
        self._doubtful.clear()
        self.close()  # cancelled tasks write nothing more

    async def aclose(self) -> None:
        """End all work at once, and wait for the end of the tasks."""
        try:
            self.abandon()
        finally:
            await end_tasks([*self._tasks, *([self._reader] if self._reader is not None else [])])

    def _has_room(self) -> bool:
        return self._phase is not Phase.STOPPED and len(self._outcomes) < self._concurrency

    def _fill(self) -> None:
        """Start tasks while there is room."""
        while self._has_room() and len(self._tasks) < self._concurrency:
            if self._queue.ready:
                item = self._queue.pop()
                task = asyncio.create_task(self._perform(item))
                self._tasks[task] = item
                task.add_done_callback(self._on_done)
            elif not self._may_read() or self._reader is not None:
                return
            elif isinstance(self._source, AsyncIterator):
                self._reader = asyncio.create_task(self._read(self._source))
                self._reader.add_done_callback(self._on_done)
            else:
                try:
                    self._accept(next(self._source))
                except StopIteration:
                    self._drained()
                except Exception as error:  # noqa: BLE001  # the caller's iterable may raise anything
                    self._drained(error)

    def _may_read(self) -> bool:
        return self._phase is Phase.READING and self._queue.waiting < LOOK_AHEAD * self._concurrency

    async def _read(self, source: AsyncIterator[Action | Outcome]) -> None:
        """Read further actions while fewer than `concurrency` tasks run."""
        SCOPE.set(self._scope)
        try:
            while self._has_room() and self._may_read() and len(self._tasks) < self._concurrency:
                self._accept(await anext(source))
                self._fill()
                self._changed.set()
        except StopAsyncIteration:
            self._drained()
        except Exception as error:  # noqa: BLE001  # the caller's iterable may raise anything
            self._drained(error)

    def _accept(self, given: object) -> None:
        if isinstance(given, Outcome):
            self._deliver(given)
            return
        action = check_action(given)
        known = None if self._earlier is None else self._earlier.known(action)
        if known is not None:
            self._deliver(known)
        else:
            self._queue.add(Item(action))

    def _drained(self, error: Exception | None = None) -> None:
        """Record the end of the input. Actions read before `error` was raised are performed first."""
        if self._phase is Phase.READING:
            self._phase = Phase.DRAINED
        self._error = self._error or error
        if error is None:
            self._tell_of_another_job()

    def _on_done(self, task: asyncio.Task[None]) -> None:
        """Go on after the end of an action's task, or of the reader. An error of either stops the job."""
        if task is self._reader:
            self._reader = None
        else:
            self._queue.finished(self._tasks.pop(task))
        error: BaseException | None = None
        if not task.cancelled():
            error = task.exception()
        elif self._phase is not Phase.STOPPED:
            error = asyncio.CancelledError("a task of the bulk job was cancelled")
        if error is not None:
            self.stop(error)
        self._fill()
        self._changed.set()

    async def _perform(self, item: Item) -> None:
        SCOPE.set(self._scope)
        action = item.action
        event: CalendarEvent | None = None
        error: RecallError | None = None
        reason = None
        try:
            reason = over_since(action, time.time())
            if reason is None:
                event = await self._send(item)
        except Stopped:
            return
        except EventEndedError as ended:
            error, reason = ended, str(ended)
        except RecallError as failed:
            if failed.stops_jobs:
                self.stop(failed)
                return
            if failed.may_pass and self._stop.is_set:
                return  # a retry was due
            error = failed
        call = item.call
        attempts, waited = (0, 0.0) if call is None else (call.attempts, call.waited)
        self._on_outcome(Outcome(action, event, error, attempts, waited, reason))

    async def _send(self, item: Item) -> CalendarEvent:
        # No deadline: the policy's would include the time that a long job waits for the quota.
        action = item.action
        if isinstance(action, ScheduleBot):
            request = schedule_request(action.event_id, action.deduplication_key, action.bot_config, action.start_time)
        else:
            request = remove_request(action.event_id, action.start_time)
        item.call = Call(request, Priority.BULK, math.inf, self._caller.policy, stop=self._stop)
        return await self._caller.perform(item.call)

    def _on_failure(self, error: RecallError) -> None:
        if (
            self._phase is not Phase.STOPPED
            and (end := self._doubts.unanswered(error, asyncio.get_running_loop().time())) is not None
        ):
            self.stop(end)

    def _on_outcome(self, outcome: Outcome) -> None:
        """Record an outcome. Hold a doubtful failure back until its cause is known."""
        weight = self._doubts.weigh(outcome)
        if weight is Weight.DOUBTFUL:
            self._doubtful.append(outcome)
            if (error := self._doubts.too_many(outcome)) is not None:
                self._doubtful.clear()  # not recorded, so a restart repeats these actions
                self.stop(error)
            return
        if weight is Weight.PROOF:
            self._record_doubtful()
        self._record(outcome)

    def _end_doubts(self) -> bool:
        """Record what is doubtful at the end, or leave it untried. Return whether anything was recorded."""
        if self._doubts.withholds or self._error is not None:
            self._doubtful.clear()
        return self._record_doubtful()

    def _record_doubtful(self) -> bool:
        """Record the doubtful failures. Return whether there were any."""
        doubtful, self._doubtful = self._doubtful, []
        for outcome in doubtful:
            self._record(outcome)
        return bool(doubtful)

    def _record(self, outcome: Outcome) -> None:
        file = self._file
        if file is not None:
            file.append(result_of(outcome, job=self._job))
        self._deliver(outcome)

    def _deliver(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        self._changed.set()
