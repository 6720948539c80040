"""The attempts of one call: the only loop in this package that tries again.

    lane.admit -> transport (one attempt) -> decide (pure) -> decode | wait and again | raise

Every attempt takes a slot of the quota. What a cancelled call held goes back, but for the slot of a request that may
have reached the server.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from .advice import add_sentence, api_error, earlier_effect_of, effect_of
from .answers import UNPROVEN, decode, keep_extra, retry_after, told
from .call import Call, Done
from .errors import (
    AttemptTimeoutError,
    ConnectionFailedError,
    DeadlineExceededError,
    QuotaStoreUnavailableError,
    RecallError,
    SessionClosedError,
)
from .limits.contract import QuotaLane, Slot
from .limits.quota import Priority
from .passage import Passage
from .reporting import Reporter
from .retry import GiveUp, Retry, decide, pause_after
from .sending import Sending
from .stopping import Stopped
from .transport import Transport
from .workspace import Workspace

T = TypeVar("T")


class Attempts:
    """Makes the attempts of the calls of one session."""

    def __init__(self, transport: Transport, report: Reporter, clock: Callable[[], float], *, keep_extra: bool) -> None:
        self._transport = transport
        self._report = report
        self._now = clock
        self._keep_extra = keep_extra

    async def until_answered(self, call: Call[T], shared: Workspace, lane: QuotaLane) -> T:
        """Send the request of a call until it is answered, and return the answer. Raises any `RecallError`."""
        if call.idempotency_key is None:
            call.renew_key()
        if shared.budget.spent:
            shared.budget.earn(call.policy)
        passage = None
        if call.priority is not Priority.INTERACTIVE:
            passage = Passage(shared.breakers.of(call.operation), call)
        clock, connections = self._now, self._transport.connections
        waited = beyond = False
        failed: RecallError | None = None
        try:
            while True:
                if passage is not None:
                    await passage.wait()
                begun = clock()
                before = lane.statistics() if call.watched else None
                try:
                    if begun >= call.until:
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
                    raise closed_under(call)
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
                number = call.attempts if passage is None else passage.number
                attempt = self._attempt(call, slot, number, lane)
                try:
                    verdict = await (attempt if passage is None else passage.through(attempt))
                except Stopped:  # nothing was sent
                    call.attempts -= 1
                    if call.stop is not None:
                        await call.stop.confirm()
                    continue
                if isinstance(verdict, Done):
                    if passage is None and shared.breakers.known:
                        shared.breakers.answered(call.operation)
                    answer: T = verdict.answer
                    return answer
                error, now = verdict.error, clock()
                failed = error
                # Timers may fire a moment early.
                if isinstance(error, AttemptTimeoutError) and now > call.until - 0.01:
                    took = f"{round(now - call.begun, 2):g} s"
                    raise DeadlineExceededError(
                        f"{call.operation} had no answer when its deadline passed, {took} after it began. "
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
                    raise closed_under(call)
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

    def _pause(
        self, call: Call[Any], slot: Slot, lane: QuotaLane, number: int, jitter: float, headers: Mapping[str, str]
    ) -> None:
        """Pause the lane for a 429, before its body is read: meanwhile other calls would run into it."""
        after = retry_after(told(headers.items(), self._transport.mask.text))
        pause = pause_after(call.policy, number, after, jitter)
        left = lane.statistics().paused
        slot.rejected(pause)
        self._report.paused(call, pause, left)

    async def _attempt(self, call: Call[T], slot: Slot, number: int, lane: QuotaLane) -> Done[T] | Retry | GiveUp:
        request, policy = call.request, call.policy
        jitter = random.random()
        attempt = Sending(partial(self._pause, call, slot, lane, number, jitter), call.stop)
        mistaken = False
        begun = time.monotonic() if call.watched else 0.0
        error: RecallError
        failed: str | None = None  # not the exception itself, whose traceback has this frame
        try:
            left = None if call.until == math.inf else max(call.until - self._now(), 0.001)
            try:
                response = await self._transport.send(attempt, request, call.idempotency_key, left)
            except (ConnectionFailedError, AttemptTimeoutError) as failure:
                failed = type(failure).__name__
                if call.in_doubt and not attempt.sent and request.operation.method != "GET":
                    add_sentence(failure, earlier_effect_of(request.operation))
                call.in_doubt |= attempt.sent
                return decide(policy, number, failure, jitter=jitter, in_doubt=call.in_doubt)
            if response.status < 300:
                answer = decode(request.operation, response, self._transport.mask.text)
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
                doubtful, call.in_doubt = call.in_doubt, call.in_doubt or response.status in UNPROVEN
                error = api_error(
                    request.operation,
                    number,
                    response,
                    retry_after(response.headers),
                    self._transport.mask,
                    sent=request.body,
                    cursor=request.link is not None
                    or any(name in ("cursor", "page") for name, _ in request.query or ()),
                    in_doubt=doubtful,
                )
            return decide(policy, number, error, jitter=jitter, in_doubt=call.in_doubt)
        finally:
            status = call.status = attempt.status
            if status is not None and status not in UNPROVEN and not mistaken:
                slot.answered()
            elif attempt.sent:
                slot.lost(self._transport.timeout)
            else:
                slot.unused()
            if call.watched or status == 429 or self._report.slowed:
                self._report.attempt_ended(call, attempt, begun, lane, failed)
            attempt.close()


def closed_under(call: Call[Any]) -> SessionClosedError:
    """Return the error for a call whose session was closed."""
    attempts = call.attempts
    return SessionClosedError(
        "the session was closed while the call was in flight. "
        + (effect_of(call.request.operation) if attempts else "Nothing was sent."),
        operation=call.operation,
        attempts=attempts,
    )
