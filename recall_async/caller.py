"""The client that all resources of one session use: it opens, makes calls, and ends them when it closes."""

from __future__ import annotations

import asyncio
import math
import time
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from logging import INFO
from typing import Any, NoReturn, TypeVar

from . import checks
from .attempts import Attempts, closed_under
from .call import Call
from .errors import ConfigurationError, DeadlineExceededError, RecallError, SessionClosedError
from .events import Listener, logger
from .limits.contract import LaneStatistics, QuotaLane, QuotaStore
from .limits.loops import clock_of
from .limits.quota import Priority, Quota, base_quota
from .operations import OPERATIONS, Request
from .outage import Outage
from .reporting import Reporter
from .retry import RetryPolicy
from .transport import Transport
from .workspace import Workspace, Workspaces, workspaces

T = TypeVar("T")

CLOSING_TIME = 1.0
"""Seconds for which `aclose` waits for calls to end before it closes the connections under those that go on."""


class Client:
    """Makes the calls of one session."""

    def __init__(
        self,
        transport: Transport,
        store: QuotaStore,
        workspace: str,
        quotas: Mapping[str, Quota],
        policy: RetryPolicy,
        *,
        keep_extra: bool,
        on_event: Listener | Iterable[Listener] | None,
    ) -> None:
        self._keep_extra = keep_extra
        self.transport = transport
        self.policy = policy
        self.workspace = workspace
        self._store = store
        self._quotas = quotas
        self._lanes: dict[str, QuotaLane] = {}
        self._workspaces: Workspaces | None = None
        self._shared: Workspace | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._now: Callable[[], float]
        self._attempts: Attempts
        """Both are there as soon as the session is open."""
        self._in_flight: dict[Call[Any], asyncio.Task[Any]] = {}
        """The calls in flight, and the tasks that make them."""
        self._idle: asyncio.Event | None = None
        self.closed: bool = False
        self.report: Reporter = Reporter(workspace, transport.mask, on_event)  # last: it raises for an invalid listener

    def open(self) -> Workspace:
        """Be ready to call in the running event loop. Raises `SessionClosedError` or `ConfigurationError`."""
        loop = running_loop()
        if self.closed:
            raise SessionClosedError("the session is closed: open a new one")
        if self._shared is None:
            self.transport.open()
            self._loop, self._now = loop, clock_of(loop)
            self._attempts = Attempts(self.transport, self.report, self._now, keep_extra=self._keep_extra)
            self._workspaces = workspaces()
            self._shared = self._workspaces.join(self.workspace)
            if self.report.listening:
                self._shared.breakers.listeners.add(self.report)
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
        return running_loop().time() + checks.seconds("deadline", deadline, zero=True, endless=True)

    def statistics(self) -> dict[str, LaneStatistics]:
        """Every operation's lane at this moment, by the operation's name."""
        unused = {name: LaneStatistics(self.quota(name), free=self.quota(name).limit) for name in OPERATIONS}
        return unused | {name: lane.statistics() for name, lane in self._lanes.items() if name in OPERATIONS}

    def outage(self) -> Outage | None:
        """The outage for whose end bulk calls of the workspace wait."""
        return None if self._shared is None else self._shared.breakers.outage()

    async def aclose(self, timeout: float | None = None) -> None:
        """Begin no more calls. Wait up to `timeout` seconds for those in flight, then end them, and close the connections.

        Raises `ConfigurationError` in another event loop than the one in which the session is used.
        """
        timeout = 0.0 if timeout is None else checks.seconds("timeout", timeout, zero=True)
        if self._loop is not None and self._loop is not running_loop():
            if not self._loop.is_closed():
                raise ConfigurationError("the session belongs to another event loop: close it there")
            self._abandon()
            return
        first, self.closed = not self.closed, True
        try:
            if self._in_flight:
                self._idle = self._idle or asyncio.Event()
                if timeout:
                    await self._drain(self._idle, timeout)
                for call, task in self._in_flight.items():
                    if not call.ended:
                        call.ended = True
                        task.cancel()
                try:
                    async with asyncio.timeout(CLOSING_TIME):
                        await self._idle.wait()
                except TimeoutError:
                    # A library on the way has swallowed the cancellation: without its connection it gets no further.
                    await self.transport.aclose()
                    await self._idle.wait()
        except asyncio.CancelledError:
            self.transport.abandon()
            raise
        finally:
            if first:
                self._leave()
        await self.transport.aclose()
        await asyncio.gather(*(lane.flush() for lane in self._lanes.values()))

    async def _drain(self, idle: asyncio.Event, timeout: float) -> None:
        """Wait up to `timeout` seconds for the calls in flight, and log the operations of those that remain."""
        try:
            async with asyncio.timeout(timeout):
                await idle.wait()
        except TimeoutError:
            left = Counter(call.operation for call in self._in_flight)
            logger.warning(
                "session of workspace %s: closed after %g s with unfinished calls, which raise SessionClosedError: %s",
                self.workspace,
                timeout,
                ", ".join(f"{number} x {name}" for name, number in sorted(left.items())),
            )

    def _leave(self) -> None:
        self.closed = True
        if self._shared is not None:
            self._shared.breakers.listeners.discard(self.report)
        if self._workspaces is not None:
            self._workspaces.leave(self.workspace)
        for name, lane in self._lanes.items():
            lane.leave(self._quotas.get(name))

    def _abandon(self) -> None:
        if not self.closed:
            self._leave()
        self.transport.abandon()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # The resources hold it, so that neither they nor the key are in anybody's pickle.
        raise TypeError("a RecallSession and its resources cannot be copied or pickled: open one wherever you need one")

    def __del__(self) -> None:
        if self._loop is not None and not self.closed:
            self._abandon()
            warnings.warn(
                f"the RecallSession for {self.transport.base_url} was never closed: use "
                "`async with RecallSession(...)`, or await its aclose()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    def call(
        self,
        request: Request[T],
        *,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
        retry: RetryPolicy | None = None,
        idempotency_key: str | None = None,
    ) -> Coroutine[Any, Any, T]:
        """Make a call and return what its response holds. `deadline` is in seconds from now.

        Raises any `RecallError`; all of them carry the operation and the number of attempts.
        """
        until = self.until(deadline)
        if idempotency_key is not None:
            checks.header("idempotency_key", idempotency_key)
        if retry is None:
            retry = self.policy
        else:
            checks.instance("retry", retry, RetryPolicy, "a RetryPolicy, such as RetryPolicy(attempts=3)")
        return self.perform(Call(request, priority, until, retry, idempotency_key))

    def perform(self, call: Call[T]) -> Coroutine[Any, Any, T]:
        """Perform a call once, as `call` does."""
        # No coroutine of its own: each one on the way costs every call.
        call.watched = self.report.listening or logger.isEnabledFor(INFO)
        return self._watched(call) if call.watched else self._perform(call)

    async def _watched(self, call: Call[T]) -> T:
        """Make a call, and tell of its beginning and end."""
        begun = time.monotonic()
        self.report.started(call)
        error: BaseException | None = None
        try:
            return await self._perform(call)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.report.ended(call, time.monotonic() - begun, error)
            del error

    async def _perform(self, call: Call[T]) -> T:
        try:
            shared = self._shared
            if shared is None or self.closed or self._loop is not running_loop():
                shared = self.open()
            call.begun = self._now()
            if not isinstance(call.priority, Priority):
                raise checks.invalid("priority", "Priority.INTERACTIVE or Priority.BULK", call.priority)
            task = asyncio.current_task(self._loop)
            assert task is not None
            key, cancelled_before = call.request.deduplication_key, task.cancelling()
            # A timeout scope without a deadline would do the same, at ten times the cost.
            self._in_flight[call] = task
            try:
                # Until the call is over, not the attempt: its retry must not undo what a later call has done.
                if key is not None and not shared.keys.take(key):
                    await self._wait_for_key(call, shared, key)
                try:
                    lane = self._lanes.get(call.operation) or self.lane(call.operation)
                    return await self._attempts.until_answered(call, shared, lane)
                finally:
                    if key is not None:
                        shared.keys.release(key)
            except asyncio.CancelledError:
                if call.ended and task.cancelling() <= cancelled_before + 1:  # nobody else cancelled it
                    raise closed_under(call) from None
                raise
            finally:
                if call.ended:
                    task.uncancel()
                del self._in_flight[call]
                if self._idle is not None and not self._in_flight:
                    self._idle.set()
        except RecallError as error:
            error.operation, error.attempts = call.operation, call.attempts
            raise

    async def _wait_for_key(self, call: Call[Any], shared: Workspace, key: str) -> None:
        try:
            async with asyncio.timeout_at(None if call.until == math.inf else call.until):
                if call.priority is Priority.INTERACTIVE:
                    await shared.keys.wait(key, shared.check_for_outage, call.policy.patience)
                else:
                    await shared.keys.wait(key)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"{call.operation}: another call with the same deduplication key took until the deadline. Nothing "
                "was sent for this one: allow a longer deadline, or make one call after the other."
            ) from error
        finally:
            call.count_wait("key", self._now() - call.begun)


def running_loop() -> asyncio.AbstractEventLoop:
    """The running event loop. Raises `ConfigurationError` where there is none, as under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "there is no running asyncio event loop: a RecallSession is used from coroutines under asyncio, not trio"
        ) from None
