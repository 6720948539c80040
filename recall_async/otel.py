"""OpenTelemetry: a span around each call, and five metrics. Needs the extra `otel`. docs/observability.md

    recall = RecallSession(on_event=recall_async.otel.instrument())

For spans of the requests themselves, use `opentelemetry-instrumentation-aiohttp-client`: they become children of these.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextvars import Token
from typing import Any

try:
    from opentelemetry import context, metrics, trace
except ImportError as _error:  # pragma: no cover
    raise ImportError("recall_async.otel needs the extra otel: pip install 'recall-async[otel]'") from _error

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode

from .events import AttemptEnded, CallEnded, CallStarted, Event, Paused, RetryScheduled, SlotGranted
from .operations import QUOTA_PERIOD
from .version import __version__

NAME = "recall_async"
WAITS = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0)
"""Boundaries of the histogram of waits, in seconds: a wait for the quota takes up to two windows, a pause longer."""


def instrument(
    tracer_provider: trace.TracerProvider | None = None, meter_provider: metrics.MeterProvider | None = None
) -> Callable[[Event], None]:
    """Make a listener for `RecallSession(on_event=...)` that reports to OpenTelemetry.

    Without providers, the global ones are used. One listener can serve several sessions.

    Spans are named `recall.` and the operation, and carry `recall.workspace`, `recall.operation`, `recall.attempts`,
    `recall.waited` (seconds), `http.response.status_code` of the last response, and `error.type` if the call failed; waits
    for the quota, retries and pauses are events of the span. The metrics, all by `recall.operation` and
    `recall.workspace`:

    - `recall.client.wait` (histogram, seconds): waits for a slot of the quota, by `recall.reason`
    - `recall.client.in_flight` (up-down counter): requests in flight
    - `recall.client.quota.usage` (gauge, 0 to 1): the share of the quota's slots in use when the last one was
      taken, 0 once none was for a minute
    - `recall.client.rejections` (counter): responses 429
    - `recall.client.retries` (counter): retries, by `recall.reason`
    """
    return _Instruments(tracer_provider, meter_provider)


class _Instruments:
    def __init__(
        self, tracer_provider: trace.TracerProvider | None, meter_provider: metrics.MeterProvider | None
    ) -> None:
        self._tracer = trace.get_tracer(NAME, __version__, tracer_provider)
        meter = metrics.get_meter(NAME, __version__, meter_provider)
        self._calls: dict[int, tuple[trace.Span, Token[context.Context]]] = {}
        self._usage: dict[tuple[str, str], tuple[float, float]] = {}
        """The share of the quota that was in use when a slot was last granted, and when that was."""
        self._wait = meter.create_histogram(
            "recall.client.wait", "s", "Waits for a slot of the quota", explicit_bucket_boundaries_advisory=WAITS
        )
        self._in_flight = meter.create_up_down_counter("recall.client.in_flight", "{request}", "Requests in flight")
        self._rejections = meter.create_counter("recall.client.rejections", "{response}", "Responses 429")
        self._retries = meter.create_counter("recall.client.retries", "{request}", "Retries")
        meter.create_observable_gauge(
            "recall.client.quota.usage", [self._observe_usage], "1", "Share of the quota's slots in use"
        )

    def __call__(self, event: Event) -> None:
        match event:
            case CallStarted():
                span = self._tracer.start_span(
                    f"recall.{event.operation}",
                    kind=SpanKind.INTERNAL,
                    attributes=_of(event.operation, event.workspace),
                )
                # The task that makes the call starts and ends the span, so spans that it starts in between are children.
                self._calls[event.call] = span, context.attach(trace.set_span_in_context(span))
            case SlotGranted():
                told = _of(event.operation, event.workspace)
                self._usage[event.operation, event.workspace] = event.taken / event.limit, time.monotonic()
                self._wait.record(event.wait, told | {"recall.reason": event.why})
                self._in_flight.add(1, told)
                if event.why != "nothing":
                    self._note(event.call, "waited", {"recall.wait": event.wait, "recall.reason": event.why})
            case AttemptEnded():
                self._in_flight.add(-1, _of(event.operation, event.workspace))
            case Paused():
                self._rejections.add(1, _of(event.operation, event.workspace))
                self._note(event.call, "paused", {"recall.pause": event.seconds})
            case RetryScheduled():
                reason = {"recall.reason": event.reason}
                self._retries.add(1, _of(event.operation, event.workspace) | reason)
                self._note(
                    event.call, "retry", {"recall.attempt": event.attempt, "recall.after": event.after, **reason}
                )
            case CallEnded():
                self._end(event)

    def _end(self, event: CallEnded) -> None:
        span, token = self._calls.pop(event.call, (None, None))
        if span is None or token is None:
            return
        context.detach(token)
        span.set_attribute("recall.attempts", event.attempts)
        span.set_attribute("recall.waited", event.waited)
        if event.status is not None:
            span.set_attribute("http.response.status_code", event.status)
        if event.error is not None:
            span.set_attribute("error.type", event.error)
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end()

    def _note(self, call: int, name: str, attributes: dict[str, Any]) -> None:
        if call in self._calls:
            self._calls[call][0].add_event(name, attributes)

    def _observe_usage(self, options: CallbackOptions) -> Iterable[Observation]:
        now, seen = time.monotonic(), dict(self._usage)
        for key, (_, at) in seen.items():
            if now - at > QUOTA_PERIOD:  # all slots are free again
                self._usage.pop(key, None)
        return [Observation(share if now - at <= QUOTA_PERIOD else 0.0, _of(*key)) for key, (share, at) in seen.items()]


def _of(operation: str, workspace: str) -> dict[str, Any]:
    return {"recall.operation": operation, "recall.workspace": workspace}
