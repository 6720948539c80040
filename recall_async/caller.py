"""One call, from the wait for its slot to its answer: the only loop in this package that tries again.

    lane.admit -> transport (one attempt) -> decide (pure) -> decode | wait and again | raise

Every attempt takes a slot of the quota. What a cancelled call held goes back, but for the slot of a request that may
have reached the server.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
import warnings
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping
from logging import INFO
from typing import Any, TypeVar

from . import checks
from .advice import add_sentence, api_error, effect_of
from .answers import UNPROVEN, decode, keep_extra, retry_after, told
from .call import Call, Done
from .errors import (
    AttemptTimeoutError,
    ConfigurationError,
    ConnectionFailedError,
    DeadlineExceededError,
    QuotaStoreUnavailableError,
    RecallError,
    SessionClosedError,
)
from .events import Observers, logger
from .limits.contract import LaneStatistics, QuotaLane, QuotaStore, Slot
from .limits.loops import clock_of
from .limits.quota import Priority, Quota, base_quota
from .operations import OPERATIONS, Request
from .outage import Outage
from .passage import Passage
from .reporting import Reporter
from .retry import GiveUp, Retry, RetryPolicy, decide, pause_after
from .sending import Sending
from .stopping import Stopped
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
        keep_extra: bool = False,
        observers: Observers | None = None,
    ) -> None:
        self._keep_extra = keep_extra
        self.observers: Observers = observers or Observers()
        self._report = Reporter(workspace, self.observers, transport.mask)
        self.transport = transport
        self.policy = policy
        self.workspace = workspace
        self._store = store
        self._quotas = quotas
        self._lanes: dict[str, QuotaLane] = {}
        self._workspaces: Workspaces | None = None
        self._shared: Workspace | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._now: Callable[[], float] = time.monotonic
        """The loop's clock."""
        self._in_flight: dict[Call[Any], asyncio.Task[Any]] = {}
        """The calls in flight, and the tasks that make them."""
        self._idle: asyncio.Event | None = None
        self.closed: bool = False

    def open(self) -> Workspace:
        """Be ready to call in the running event loop. Raises `SessionClosedError` or `ConfigurationError`."""
        loop = running_loop()
        if self.closed:
            raise SessionClosedError("the session is closed: open a new one")
        if self._shared is None:
            self._loop, self._now = loop, clock_of(loop)
            self.transport.open()
            self._workspaces = workspaces()
            self._shared = self._workspaces.join(self.workspace)
            if self.observers.listening:
                self._shared.breakers.listeners.add(self._report)
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
        return {
            name: self._lanes[name].statistics() if name in self._lanes else self._unused(name) for name in OPERATIONS
        }

    def outage(self) -> Outage | None:
        """The outage for whose end bulk calls of the workspace wait."""
        return None if self._shared is None else self._shared.breakers.outage()

    def _unused(self, operation: str) -> LaneStatistics:
        quota = self._quotas.get(operation) or base_quota(operation)
        return LaneStatistics(quota, free=quota.limit)

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
            self._shared.breakers.listeners.discard(self._report)
        if self._workspaces is not None:
            self._workspaces.leave(self.workspace)
        for name, lane in self._lanes.items():
            lane.leave(self._quotas.get(name))

    def _abandon(self) -> None:
        if not self.closed:
            self._leave()
        self.transport.abandon()

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
        call.watched = self.observers.listening or logger.isEnabledFor(INFO)
        return self._watched(call) if call.watched else self._perform(call)

    async def _watched(self, call: Call[T]) -> T:
        """Make a call, and tell of its beginning and end."""
        begun = time.monotonic()
        self._report.started(call)
        error: BaseException | None = None
        try:
            return await self._perform(call)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._report.ended(call, time.monotonic() - begun, error)
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
                    return await self._until_answered(call, shared)
                finally:
                    if key is not None:
                        shared.keys.release(key)
            except asyncio.CancelledError:
                if call.ended and task.cancelling() <= cancelled_before + 1:  # nobody else cancelled it
                    raise self._closed_under(call) from None
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

    def _closed_under(self, call: Call[Any]) -> SessionClosedError:
        attempts = call.attempts
        return SessionClosedError(
            "the session was closed while the call was in flight. "
            + (effect_of(call.request.operation) if attempts else "Nothing was sent."),
            operation=call.operation,
            attempts=attempts,
        )

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

    async def _until_answered(self, call: Call[T], shared: Workspace) -> T:
        lane = self._lanes.get(call.operation) or self.lane(call.operation)
        if call.idempotency_key is None:
            call.renew_key()
        if shared.budget.spent:
            shared.budget.earn(call.policy)
        passage = None
        if call.priority is not Priority.INTERACTIVE:
            passage = Passage(shared.breakers.of(call.operation), call.policy)
        clock, connections = self._now, self.transport.connections
        waited = beyond = False
        failed: RecallError | None = None
        try:
            while True:
                asked = clock()
                begun = asked
                if passage is not None:
                    try:
                        await passage.wait(call.until)
                    finally:
                        begun = clock()
                        call.count_wait("outage", begun - asked)
                before = lane.statistics() if call.watched else None
                try:
                    if asked >= call.until:
                        raise DeadlineExceededError(
                            f"{call.operation}: the deadline has passed before a request could be sent: allow a longer one."
                        )
                    slot = await lane.admit(call.priority, call.request.start, call.until, retry=call.attempts > 0)
                except (DeadlineExceededError, QuotaStoreUnavailableError) as unserved:
                    add_sentence(unserved, "Nothing was sent." if failed is None else f"Before that: {failed}")
                    raise unserved from failed
                finally:
                    call.waited += clock() - begun
                if call.ended:
                    slot.unused()
                    raise self._closed_under(call)
                if call.stop is not None and not call.stop.may_send():
                    slot.unused()
                    await call.stop.confirm()
                    continue
                if passage is not None and not passage.may_send():
                    slot.unused()
                    continue
                if not (connections.has_room(call.priority, waited=waited) or beyond):
                    slot.unused()
                    begun = clock()
                    # A call that has waited and found no room again goes before the others.
                    start = -math.inf if waited else call.request.start
                    waited = await connections.wait(call.priority, start, call.until)
                    beyond = not waited
                    call.count_wait("connections", clock() - begun)
                    continue
                waited = beyond = False
                call.attempts += 1
                if before is not None:
                    self._report.granted(call, before, lane)
                if passage is None:
                    number = call.attempts
                    verdict = await self._attempt(call, slot, number, lane)
                else:
                    number = passage.counted + 1 if passage.patient else call.attempts
                    call.in_flight = True
                    try:
                        verdict = await passage.through(self._attempt(call, slot, number, lane), call.until)
                    finally:
                        call.in_flight = False
                if isinstance(verdict, Done):
                    if passage is None and shared.breakers.known:
                        shared.breakers.answered(call.operation)
                    answer: T = verdict.answer
                    return answer
                error, now = verdict.error, clock()
                failed = error
                # Timers may fire a moment early.
                if isinstance(error, AttemptTimeoutError) and now > call.until - 0.01:
                    raise DeadlineExceededError(
                        f"{call.operation} had no answer within its deadline of {round(call.until - call.begun, 2):g} s. "
                        f"{effect_of(call.request.operation)}"
                    ) from error
                if call.stop is not None and call.stop.is_set and error.may_pass:
                    raise Stopped  # a retry is a new beginning
                if passage is not None and passage.excused():
                    # The server's failure, and not the call's. While the operation is parked, the breaker says when.
                    if passage.may_send():
                        after = call.policy.delay(number, random.random())
                        await self._wait_to_retry(call, Retry(after, False, None, error, False))
                    continue
                if not isinstance(verdict, Retry):
                    raise error
                if now + (wait := max(verdict.after, verdict.pause or 0.0)) > call.until:
                    left = f"{round(wait, 2):g} s"
                    add_sentence(
                        error, f"It was not sent again: the wait of {left} would end after the call's deadline."
                    )
                    raise error
                if call.ended:
                    raise self._closed_under(call)
                while verdict.costs and not shared.budget.spend(call.policy, now):
                    if passage is None or not passage.patient:
                        error.add_note("It was not tried again because the workspace's retry budget is used up.")
                        raise error
                    await asyncio.sleep(call.policy.delay(number, random.random()) or 1.0)
                    call.count_wait("budget", clock() - now)
                    now = clock()
                if verdict.new_key:
                    call.renew_key()
                await self._wait_to_retry(call, verdict)
        finally:
            if passage is not None:
                passage.close()

    async def _wait_to_retry(self, call: Call[Any], retry: Retry) -> None:
        self._report.retried(call, retry)
        if retry.after:
            call.waited += retry.after
            call.told_waited += retry.after
            await asyncio.sleep(retry.after)

    async def _attempt(self, call: Call[T], slot: Slot, number: int, lane: QuotaLane) -> Done[T] | Retry | GiveUp:
        request, policy = call.request, call.policy
        jitter = random.random()

        def on_429(headers: Mapping[str, str]) -> None:  # before its body is read, while which others would run into it
            after = retry_after(told(headers.items(), self.transport.mask.text))
            pause = pause_after(policy, number, after, jitter)
            slot.rejected(pause)
            self._report.paused(call, pause)

        attempt = Sending(on_429)
        mistaken = False
        begun = time.monotonic() if call.watched else 0.0
        error: RecallError
        try:
            left = None if call.until == math.inf else max(call.until - self._now(), 0.001)
            try:
                response = await self.transport.send(attempt, request, call.idempotency_key, left)
            except (ConnectionFailedError, AttemptTimeoutError) as failure:
                call.in_doubt |= attempt.sent
                return decide(policy, number, failure, jitter=jitter, in_doubt=call.in_doubt)
            if response.status < 300:
                answer = decode(request.operation, response, self.transport.mask.text)
                if request.id is None or str(getattr(answer, "id", request.id)).lower() == request.id:
                    if self._keep_extra:
                        keep_extra(answer, response)
                    return Done(answer)
                mistaken = call.in_doubt = True
                attempt.hang_up()
                error = ConnectionFailedError(
                    f"{call.operation}: the response is for another object than the one that was asked for, so the "
                    f"connection was closed. {effect_of(request.operation)}"
                )
            else:
                call.in_doubt |= response.status in UNPROVEN
                error = api_error(
                    request.operation,
                    number,
                    response,
                    retry_after(response.headers),
                    self.transport.mask,
                    sent=request.body,
                    cursor=request.link is not None
                    or any(name in ("cursor", "page") for name, _ in request.query or ()),
                )
            return decide(policy, number, error, jitter=jitter, in_doubt=call.in_doubt)
        finally:
            status = call.status = attempt.status
            if status is not None and status not in UNPROVEN and not mistaken:
                slot.answered()
            elif attempt.sent:
                slot.lost(self.transport.timeout)
            else:
                slot.unused()
            if call.watched or status == 429 or self._report.slowed:
                self._report.attempt_ended(call, attempt, begun, lane)
            attempt.close()


def running_loop() -> asyncio.AbstractEventLoop:
    """The running event loop. Raises `ConfigurationError` where there is none, as under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise ConfigurationError(
            "there is no running asyncio event loop: a RecallSession is used from coroutines under asyncio, not trio"
        ) from None
