"""One call, from the wait for its slot to its answer: the only loop in this package that tries again.

    lane.admit -> transport (one attempt) -> decide (pure) -> decode | wait and again | raise

Every attempt takes a slot of the quota. What a cancelled call held goes back, but for the slot of a request that may
have reached the server.
"""

from __future__ import annotations

import asyncio
import math
import random
import warnings
from collections.abc import Awaitable, Mapping
from typing import Any

from yarl import URL

from .answers import Answer, decode
from .errors import (
    AttemptTimeoutError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    RecallError,
    SessionClosedError,
)
from .limits.contract import LaneStatistics, QuotaLane, QuotaStore, Slot
from .limits.quota import Priority, Quota, base_quota
from .operations import OPERATIONS, Operation
from .retry import Done, Key, Retry, RetryPolicy, decide
from .stopping import Stopped, StopSignal
from .transport import Attempt, Transport, new_idempotency_key
from .workspace import Workspace, workspace_named


class Account:
    """What one call has cost so far."""

    __slots__ = ("attempts", "in_flight", "stop", "waited")

    def __init__(self, stop: StopSignal | None = None) -> None:
        self.stop = stop
        """Is asked before each request."""
        self.in_flight = False
        """Whether a request is on its way."""
        self.attempts = 0
        self.waited = 0.0
        """Seconds spent waiting for keys, slots, pauses and backoffs, and not for the server."""


class Caller:
    """Makes the calls of one session."""

    def __init__(
        self,
        transport: Transport,
        store: QuotaStore,
        workspace: str,
        quotas: Mapping[str, Quota],
        policy: RetryPolicy,
    ) -> None:
        self.transport = transport
        self.policy = policy
        self.workspace = workspace
        self._store = store
        self._quotas = quotas
        self._lanes: dict[str, QuotaLane] = {}
        self._shared: Workspace | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._calls: set[asyncio.Task[Any]] = set()
        self._ended: set[asyncio.Task[Any]] = set()
        self._idle: asyncio.Event | None = None
        self.closed = False

    def open(self) -> Workspace:
        """Be ready to call in the running event loop. Raises `SessionClosedError` or `ConfigurationError`."""
        loop = asyncio.get_running_loop()
        if self.closed:
            raise SessionClosedError("the session is closed: open a new one")
        if self._shared is None:
            self._loop = loop
            self._shared = workspace_named(self.workspace)
            self.transport.open()
        elif self._loop is not loop:
            raise ConfigurationError("the session belongs to another event loop: open one session in each loop")
        return self._shared

    def lane(self, operation: str) -> QuotaLane:
        """The lane of an operation, by its name."""
        lane = self._lanes.get(operation)
        if lane is None:
            self.open()
            lane = self._store.open(self.workspace, operation, self._quotas.get(operation))
            self._lanes[operation] = lane
        return lane

    def quota(self, operation: str) -> Quota:
        """Return the quota of an operation, by its name, without opening its lane."""
        lane = self._lanes.get(operation)
        return lane.quota if lane is not None else self._quotas.get(operation) or base_quota(operation)

    def until(self, deadline: float | None) -> float:
        """The time of the loop's clock by which a call must be through; `deadline` is in seconds from now."""
        if deadline is None and (deadline := self.policy.deadline) is None:
            return math.inf
        if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not deadline >= 0:
            raise ConfigurationError(f"deadline is {deadline!r}: it is a number of seconds from now")
        return asyncio.get_running_loop().time() + deadline

    def statistics(self) -> dict[str, LaneStatistics]:
        """Every operation's lane at this moment, by the operation's name."""
        return {
            name: self._lanes[name].statistics() if name in self._lanes else self._unused(name) for name in OPERATIONS
        }

    def _unused(self, operation: str) -> LaneStatistics:
        quota = self._quotas.get(operation) or base_quota(operation)
        return LaneStatistics(quota, free=quota.limit)

    async def aclose(self) -> None:
        """End the calls in flight with `SessionClosedError`, then close the connections."""
        if not self.closed:
            self._leave()
        try:
            if self._calls:
                self._idle = self._idle or asyncio.Event()
                for task in self._calls - self._ended:
                    self._ended.add(task)
                    task.cancel()
                await self._idle.wait()
        finally:
            await self.transport.aclose()
        await asyncio.gather(*(lane.flush() for lane in self._lanes.values()))

    def _leave(self) -> None:
        self.closed = True
        for name, lane in self._lanes.items():
            lane.leave(self._quotas.get(name))

    def __del__(self) -> None:
        if self._loop is not None and not self.closed:
            self._leave()
            self.transport.abandon()
            warnings.warn(
                f"the RecallSession for {self.transport.base_url} was never closed: use "
                "`async with RecallSession(...)`, or await its aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    async def call(
        self,
        operation: Operation,
        url: URL,
        *,
        body: bytes | None = None,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        start: float = math.inf,
        deduplication_key: str | None = None,
        account: Account | None = None,
    ) -> Any:
        """The decoded answer. `deadline` is in seconds; `start` is when the event starts, and orders those who wait.

        Raises any `RecallError`; all of them carry the operation and the number of attempts.
        """
        task = asyncio.current_task()
        assert task is not None
        cancelling = task.cancelling()
        account = account or Account()
        try:
            shared = self.open()
            self._calls.add(task)
            until = self.until(deadline)
            if deduplication_key is None:
                return await self._call(operation, url, body, priority, until, start, shared, account)
            # Until the call is over, not the attempt: its retry must not undo what a later call has done.
            if not shared.keys.take(deduplication_key):
                waiting = shared.keys.wait(deduplication_key)
                account.waited += await _in_time(waiting, until, operation)
            try:
                return await self._call(operation, url, body, priority, until, start, shared, account)
            finally:
                shared.keys.release(deduplication_key)
        except asyncio.CancelledError:
            if task in self._ended and task.uncancel() <= cancelling:
                raise SessionClosedError(
                    "the session was closed while the call was on its way; "
                    + ("whether it took effect is unknown" if account.attempts else "nothing was sent"),
                    operation=operation.name,
                    attempts=account.attempts,
                ) from None
            raise
        except RecallError as error:
            error.operation, error.attempts = operation.name, account.attempts
            raise
        finally:
            self._calls.discard(task)
            self._ended.discard(task)
            if self._idle is not None and not self._calls:
                self._idle.set()

    async def _call(
        self,
        operation: Operation,
        url: URL,
        body: bytes | None,
        priority: Priority,
        until: float,
        start: float,
        shared: Workspace,
        account: Account,
    ) -> Any:
        loop = asyncio.get_running_loop()
        lane = self.lane(operation.name)
        begun = loop.time()
        if not isinstance(priority, Priority):
            raise ConfigurationError(f"priority is {priority!r}: it is Priority.INTERACTIVE or Priority.BULK")
        idempotency_key = new_idempotency_key() if operation.keyed else None
        shared.budget.earn(self.policy)
        while True:
            asked = loop.time()
            slot = await lane.admit(priority, start, until, retry=account.attempts > 0)
            account.waited += loop.time() - asked
            if account.stop is not None and not account.stop.may_send():
                slot.unused()
                await account.stop.confirm()
                continue
            account.attempts += 1
            account.in_flight = True
            try:
                verdict = await self._attempt(operation, url, body, idempotency_key, until, slot, account.attempts)
            finally:
                account.in_flight = False
            if isinstance(verdict, Done):
                return decode(operation, verdict.answer, self.transport.masked)
            now = loop.time()
            # Timers may fire a moment early.
            if isinstance(verdict.error, AttemptTimeoutError) and now > until - 0.01:
                raise DeadlineExceededError(
                    f"{operation.name} had no answer within its deadline of {round(until - begun, 2):g} s; "
                    "whether it took effect is unknown"
                ) from verdict.error
            if not isinstance(verdict, Retry) or now + max(verdict.after, verdict.pause or 0.0) > until:
                raise verdict.error
            if account.stop is not None and account.stop.is_set:
                raise Stopped  # a retry is a new beginning
            if verdict.costs and not shared.budget.spend(self.policy, now):
                verdict.error.add_note("It was not tried again because the workspace's retry budget is used up.")
                raise verdict.error
            if verdict.key is Key.NEW and operation.keyed:
                idempotency_key = new_idempotency_key()
            if verdict.after:
                account.waited += verdict.after
                await asyncio.sleep(verdict.after)

    async def _attempt(
        self,
        operation: Operation,
        url: URL,
        body: bytes | None,
        idempotency_key: str | None,
        until: float,
        slot: Slot,
        number: int,
    ) -> Done | Retry | Any:
        attempt = Attempt()
        pause: float | None = None
        try:
            happened: Answer | RecallError
            try:
                left = None if until == math.inf else max(until - asyncio.get_running_loop().time(), 0.001)
                happened = await self.transport.send(
                    attempt, operation.method, url, body=body, idempotency_key=idempotency_key, timeout=left
                )
            except (ConnectionFailedError, AttemptTimeoutError) as error:
                happened = error
            verdict = decide(self.policy, operation.name, number, happened, jitter=random.random())
            pause = None if isinstance(verdict, Done) else verdict.pause
            return verdict
        finally:
            if pause is not None:
                slot.rejected(pause)
            elif attempt.answered:
                slot.answered()
            elif attempt.sent:
                slot.lost(self.transport.timeout)
            else:
                slot.unused()


async def _in_time(waiting: Awaitable[None], until: float, operation: Operation) -> float:
    """Seconds that it took."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with asyncio.timeout_at(None if until == math.inf else until):
            await waiting
    except TimeoutError as error:
        raise DeadlineExceededError(
            f"{operation.name}: another call with the same deduplication key took until the deadline"
        ) from error
    return loop.time() - begun
