"""Spans and metrics, as the OpenTelemetry SDK's in-memory exporters receive them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")
from opentelemetry import trace
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from recall_async import NotFoundError, RecallSession, events, otel
from tests.session.scripted_server import ScriptedServer, reply, silence

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"


class Telemetry:
    """Providers whose exporters keep what they get."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def metrics(self) -> dict[str, list[Any]]:
        """The data points of each metric."""
        data = self.reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def recall(connect: Callable[..., RecallSession], telemetry: Telemetry) -> RecallSession:
    return connect(on_event=otel.instrument(telemetry.tracers, telemetry.meters))


async def test_a_span_around_each_call(server: ScriptedServer, recall: RecallSession, telemetry: Telemetry) -> None:
    """Would not show in a trace how long a call waited, and for what."""
    tracer = telemetry.tracers.get_tracer("program")
    server.script(reply(429, retry_after="0.2"), reply(503), reply(404))
    with tracer.start_as_current_span("handler") as handler:
        with pytest.raises(NotFoundError):
            await recall.calendar_events.retrieve(EVENT_ID)
        assert trace.get_current_span() is handler
        await asyncio.gather(*(recall.calendar_events.retrieve(EVENT_ID) for _ in range(3)))
        assert trace.get_current_span() is handler
    failed, *others, _ = telemetry.spans.get_finished_spans()
    assert failed.name == "recall.calendar_events.retrieve"
    told = dict(failed.attributes or {})
    assert told.pop("recall.waited") > 0.1
    assert told == {
        "recall.operation": "calendar_events.retrieve",
        "recall.workspace": recall.workspace,
        "recall.attempts": 3,
        "http.response.status_code": 404,
        "error.type": "NotFoundError",
    }
    assert not failed.status.is_ok
    assert [event.name for event in failed.events if event.name != "waited"] == ["paused", "retry", "retry"]
    assert len(others) == 3
    assert {span.parent.span_id for span in (failed, *others) if span.parent} == {handler.get_span_context().span_id}


async def test_what_a_call_does_is_its_child(
    server: ScriptedServer, recall: RecallSession, telemetry: Telemetry
) -> None:
    """Would put the spans of aiohttp's instrumentation beside the call instead of into it."""
    tracer = telemetry.tracers.get_tracer("aiohttp")
    send = recall._client.transport.send

    async def traced(*args: Any, **options: Any) -> Any:
        with tracer.start_as_current_span("GET"):
            return await send(*args, **options)

    recall._client.transport.send = traced  # type: ignore[method-assign]
    await recall.calendar_events.retrieve(EVENT_ID)
    child, call = telemetry.spans.get_finished_spans()
    assert child.parent is not None
    assert child.parent.span_id == call.get_span_context().span_id


async def test_five_metrics(server: ScriptedServer, recall: RecallSession, telemetry: Telemetry) -> None:
    """Would leave an operator without a number to alert on."""
    server.script(reply(429, retry_after="0.01"), reply(503))
    await recall.calendar_events.retrieve(EVENT_ID)
    server.script(silence)
    call = asyncio.create_task(recall.calendar_events.retrieve(EVENT_ID))
    await server.arrived(4)
    found = telemetry.metrics()
    assert set(found) == {
        "recall.client.wait",
        "recall.client.in_flight",
        "recall.client.quota.usage",
        "recall.client.rejections",
        "recall.client.retries",
    }
    assert sum(point.count for point in found["recall.client.wait"]) == 4
    assert [point.value for point in found["recall.client.in_flight"]] == [1]
    assert [point.value for point in found["recall.client.quota.usage"]] == [4 / 60_000]
    assert [point.value for point in found["recall.client.rejections"]] == [1]
    retries = {point.attributes["recall.reason"]: point.value for point in found["recall.client.retries"]}
    assert retries == {"429": 1, "503": 1}
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [point.value for point in telemetry.metrics()["recall.client.in_flight"]] == [0]


async def test_with_the_instrumentation_of_aiohttp(
    server: ScriptedServer, connect: Callable[..., RecallSession], telemetry: Telemetry
) -> None:
    """Would put the HTTP spans of the real instrumentation beside the call, or lose one for each retry."""
    instrumentor = AioHttpClientInstrumentor()
    instrumentor.instrument(tracer_provider=telemetry.tracers)
    try:
        recall = connect(on_event=otel.instrument(telemetry.tracers, telemetry.meters))
        server.script(reply(503))
        await recall.calendar_events.retrieve(EVENT_ID)
    finally:
        instrumentor.uninstrument()
    *requests, call = telemetry.spans.get_finished_spans()
    assert call.name == "recall.calendar_events.retrieve"
    told = [dict(span.attributes or {}) for span in requests]
    assert [span.get("http.status_code", span.get("http.response.status_code")) for span in told] == [503, 200]
    assert {span.parent.span_id for span in requests if span.parent} == {call.get_span_context().span_id}
    assert "Token" not in str(told)


async def test_usage_does_not_outlive_the_window(
    server: ScriptedServer, recall: RecallSession, telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alert on a quota in use would stay on for as long as nobody sends anything, and idle workspaces in memory."""
    await recall.calendar_events.retrieve(EVENT_ID)
    (wait,) = telemetry.metrics()["recall.client.wait"]
    assert wait.explicit_bounds == otel.WAITS
    (usage,) = telemetry.metrics()["recall.client.quota.usage"]
    assert usage.value > 0
    later = time.monotonic() + 61
    monkeypatch.setattr(otel.time, "monotonic", lambda: later)
    (usage,) = telemetry.metrics()["recall.client.quota.usage"]
    assert usage.value == 0
    assert "recall.client.quota.usage" not in telemetry.metrics()


def test_calls_that_began_before_the_listener_have_no_span(telemetry: Telemetry) -> None:
    """A listener that is attached to a session at work would raise at each event of the calls under way."""
    listen = otel.instrument(telemetry.tracers, telemetry.meters)
    about: dict[str, Any] = {"workspace": "w", "operation": "o", "call": 7}
    listen(events.RetryScheduled(**about, attempt=1, after=0.5, reason="503", new_key=True))
    listen(events.CallEnded(**about, attempts=2, waited=0.0, duration=1.0, status=200, error=None))
    assert telemetry.spans.get_finished_spans() == ()
    assert "recall.client.retries" in telemetry.metrics()
