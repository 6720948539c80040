"""What a call must not do behind the caller's back: do it twice, do it for another object, or lose what others need."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from recall_async import (
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    RecallError,
    RecallSession,
    RetryPolicy,
    ServerError,
)
from tests.session.conftest import API_KEY
from tests.session.scripted_server import CALENDAR, EVENT, ScriptedServer, arrived, raw, reply, reset, silence

A, B, C = (f"{letter * 8}-{letter * 4}-4{letter * 3}-8{letter * 3}-{letter * 12}" for letter in "abc")
CREATE = {
    "platform": "google_calendar", "oauth_client_id": "i", "oauth_client_secret": "s", "oauth_refresh_token": "t",
}  # fmt: skip
Answers = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def wire(answers: Answers) -> AsyncIterator[str]:
    """A server that reads requests and lets `answers` write whatever it wants."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = re.search(r"content-length: (\d+)", head, re.I)
                await reader.readexactly(int(length[1]) if length else 0)
                await answers(head, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def ok(document: Any) -> bytes:
    body = json.dumps(document).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def event_of(head: str) -> dict[str, Any]:
    asked = re.search(r"/calendar-events/([^/]+)/", head)
    assert asked is not None
    return EVENT | {"id": asked[1]}


@pytest.mark.parametrize(
    "first", [reset, reply(503), reply(504), raw(b"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\n{")]
)
async def test_one_create_makes_one_calendar(first: Any, server: ScriptedServer, recall: RecallSession) -> None:
    """Would create a second calendar: the first attempt is being worked on, hence 409, and a new key would pass that."""
    server.script(first, reply(409), reply(409))
    await recall.calendars.create(**CREATE)
    assert len(server.requests) == 4
    assert len({request.key for request in server.requests}) == 1


async def test_a_409_whose_outcome_is_known_gets_a_new_key(server: ScriptedServer, recall: RecallSession) -> None:
    """Would repeat a 409 that the API keeps for an hour under its key."""
    server.script(reply(409))
    await recall.calendars.create(**CREATE)
    assert len({request.key for request in server.requests}) == 2


@pytest.mark.parametrize("operation", ["schedule_bot", "remove_bot", "retrieve"])
async def test_a_stray_response_on_an_idle_connection(operation: str, connect: Any) -> None:
    """Would return event A to whoever asked for B, and shift every later response by one."""
    seen: list[str] = []

    async def answers(head: str, writer: asyncio.StreamWriter) -> None:
        seen.append(event_of(head)["id"])
        writer.write(ok(event_of(head)))
        if len(seen) == 1:
            await writer.drain()
            asyncio.get_running_loop().call_later(0.02, writer.write, ok(event_of(head)))

    async with wire(answers) as url:
        recall = connect(base_url=url)
        call = getattr(recall.calendar_events, operation)
        key = {"deduplication_key": "k"} if operation == "schedule_bot" else {}
        for id in (A, B, C):
            assert (await call(id, **key)).id == id
            await asyncio.sleep(0.05)  # in which the stray response arrives
        assert set(seen) == {A, B, C}
        assert recall.statistics()[f"calendar_events.{operation}"].taken >= len(seen)
        await recall.aclose()


async def test_a_response_for_another_object(connect: Any) -> None:
    """Would report a bot on an event on which there is none, when a proxy mixes up its responses."""

    async def answers(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(ok(EVENT | {"id": A}))

    async with wire(answers) as url:
        recall = connect(base_url=url, retry=RetryPolicy(attempts=2, backoff=0))
        with pytest.raises(ConnectionFailedError, match="another object") as caught:
            await recall.calendar_events.schedule_bot(B, deduplication_key="k")
        assert caught.value.attempts == 2
        assert (await recall.calendar_events.retrieve(A.upper())).id == A
        assert recall.statistics()["calendar_events.schedule_bot"].taken == 2
        await recall.aclose()


@pytest.mark.parametrize("odd", [rb'"Team \ud83d"', b"NaN", b"1e999", b"[" * 3000 + b"]" * 3000, b'"\xff"', b'"a\tb"'])
async def test_one_odd_event_does_not_fail_the_page(odd: bytes, server: ScriptedServer, recall: RecallSession) -> None:
    """Would make a whole list unreadable for one character or number in the payload of one event."""
    events = [EVENT | {"id": id, "platform": "google_calendar", "raw": {"summary": id}} for id in (A, B, C)]
    events[1]["raw"] = {"summary": B, "description": "??"}
    body = json.dumps({"next": None, "previous": None, "results": events}).encode().replace(b'"??"', odd)
    server.script(reply(200, body=body))
    found = [event async for event in recall.calendar_events.list()]
    assert [event.id for event in found] == [event.title for event in found] == [A, B, C]
    assert "description" in found[1].raw_document()


async def test_a_pause_is_known_before_the_body_is(server: ScriptedServer, recall: RecallSession) -> None:
    """Would let everybody run into a 429 until its body is read, or for ever if the call is cancelled before."""
    head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 30\r\nContent-Length: 9\r\n\r\n"
    server.script(raw(head, b"{", hang=True))
    call = asyncio.create_task(recall.calendar_events.retrieve(A))
    await server.arrived(1)
    await arrived()
    lane = recall.statistics()["calendar_events.retrieve"]
    assert 29 < lane.paused <= 30
    assert lane.throttled == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    lane = recall.statistics()["calendar_events.retrieve"]
    assert 29 < lane.paused <= 30
    assert (lane.in_flight, lane.throttled) == (0, 1)


async def test_the_longest_retry_after_counts(connect: Any) -> None:
    """Would come back at once because a proxy added a header of its own."""

    async def answers(head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 429 X\r\nRetry-After: 60\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n")

    async with wire(answers) as url:
        recall = connect(base_url=url)
        with pytest.raises(RecallError):
            await recall.calendar_events.retrieve(A, deadline=1)
        assert recall.statistics()["calendar_events.retrieve"].paused > 50
        await recall.aclose()


@pytest.mark.parametrize("status", [408, 499, 502, 503, 504, 520, 599])
async def test_a_gateway_does_not_prove_that_a_request_was_counted(
    status: int, server: ScriptedServer, connect: Any
) -> None:
    """Would give back the slot of a request that the application behind a gateway counts seconds later."""
    ended = []
    recall = connect(retry=RetryPolicy(attempts=1))
    lane = recall._client.lane("calendar_events.retrieve")
    original = lane.admit

    async def admit(*args: Any, **options: Any) -> Any:
        return _Watched(await original(*args, **options), ended)

    lane.admit = admit
    server.script(reply(status))
    with pytest.raises(RecallError):
        await recall.calendar_events.retrieve(A)
    assert ended == [("lost", 5.0)]


class _Watched:
    """A slot that tells how it ended."""

    def __init__(self, slot: Any, ended: list[Any]) -> None:
        self._slot, self._ended = slot, ended

    def lost(self, grace: float) -> None:
        self._ended.append(("lost", grace))
        self._slot.lost(grace)

    def answered(self) -> None:
        self._ended.append(("answered", 0))
        self._slot.answered()

    def unused(self) -> None:
        self._ended.append(("unused", 0))
        self._slot.unused()


async def test_large_bodies(server: ScriptedServer, recall: RecallSession) -> None:
    """Would raise aiohttp's ResourceWarning, or fail where warnings are errors, for a camera image in a bot_config."""
    image = {"automatic_video_output": {"in_call_recording": {"kind": "jpeg", "b64_data": "A" * 1_800_000}}}
    await recall.calendar_events.schedule_bot(A, deduplication_key="k", bot_config=image)
    assert json.loads(server.last.body)["bot_config"] == image
    server.script(reply(503))
    await recall.calendar_events.schedule_bot(A, deduplication_key="k", bot_config=image)
    assert json.loads(server.last.body)["bot_config"] == image


async def test_a_session_cannot_be_copied(recall: RecallSession) -> None:
    """Would end in an exception about a lock deep inside, or share connections between two owners."""
    for copying in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="RecallSession cannot be copied"):
            copying(recall)


@pytest.mark.parametrize(
    "path", ["/api/v2/calendar-events/", "/api/v2/calendars", f"/api/v1/bot/{A}/", "/api/v2/", "/api"]
)
def test_a_base_url_copied_from_the_documentation(path: str) -> None:
    """All requests are answered with 404, whatever the id."""
    for base in ("https://us-west-2.recall.ai", "https://gateway.example/recall"):
        with pytest.raises(ConfigurationError, match=rf"must not end in {path.rstrip('/')}, because .* use {base}$"):
            RecallSession("key", base_url=base + path)
    RecallSession("key", base_url="https://gateway.example/api/v2/recall")


async def test_resources_cannot_be_pickled(recall: RecallSession) -> None:
    """The key lies readable in a task queue to which a program passed `recall.calendar_events`."""
    for resource in (recall.calendar_events, recall.calendars, recall.bots):
        for copying in (copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="RecallSession and its resources cannot be copied"):
                copying(resource)


async def test_closed_in_another_thread(server: ScriptedServer, recall: RecallSession) -> None:
    """Would hang for ever: the calls in flight are another loop's."""
    server.script(silence)
    call = asyncio.create_task(recall.calendar_events.retrieve(A))
    await server.arrived(1)
    raised: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(recall.aclose())
        except RecallError as error:
            raised.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join, 5)
    assert not thread.is_alive()
    assert isinstance(raised[0], ConfigurationError)
    assert "close it there" in str(raised[0])
    assert not recall.closed
    call.cancel()


async def test_closed_although_a_library_swallows_the_cancellation(
    server: ScriptedServer, recall: RecallSession
) -> None:
    """Would hang while closing, because something below has caught the cancellation and gone on."""
    send = recall._client.transport.send

    async def deaf(*args: Any, **options: Any) -> Any:
        while True:
            try:
                return await send(*args, **options)
            except asyncio.CancelledError:
                continue

    recall._client.transport.send = deaf  # type: ignore[method-assign]
    server.script(silence, silence)
    call = asyncio.create_task(recall.calendar_events.retrieve(A))
    await server.arrived(1)
    async with asyncio.timeout(5):
        await recall.aclose()
    with pytest.raises(RecallError):
        await call


def test_without_asyncio() -> None:
    """Would raise a bare RuntimeError under trio, or where a coroutine is driven by hand."""
    recall = RecallSession("key")
    for coroutine in (
        recall.calendar_events.retrieve(A),
        recall.__aenter__(),
        recall.calendar_events.list().__anext__(),
    ):
        with pytest.raises(ConfigurationError, match="asyncio"):
            coroutine.send(None)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "link", ["http://[::1]:9:99999:99999[@", "//a[@", "https://us-west-2.recall.ai[@", "http://h[@", "\ud800"]
)
async def test_hostile_links(link: str, server: ScriptedServer, recall: RecallSession) -> None:
    """Would raise an IndexError of the URL library."""
    server.script(reply(200, {"next": link, "results": []}))
    with pytest.raises(RecallError):
        _ = [event async for event in recall.calendar_events.list()]


@pytest.mark.parametrize(
    "settings",
    [
        {"base_url": "https://xn--"},
        {"base_url": "https://recall.example/api/v2"},
        {"base_url": "https://recall.example/api/v1/"},
        {"http": "http"},
        {"http": 7},
        {"quota_store": "redis://x"},
        {"quota_store": object},
        {"timeout": 10**400},
        {"keep_extra": 1},
    ],
    ids=str,
)
def test_settings_of_the_wrong_type(settings: dict[str, Any]) -> None:
    """Would raise something foreign, at once or at the first call."""
    with pytest.raises(ConfigurationError, match=f"{next(iter(settings))} must"):
        RecallSession("key", **settings)


def test_the_right_base_url_is_named() -> None:
    """Would answer every call with a 404, or not say what to write instead."""
    with pytest.raises(ConfigurationError, match=r"must not end in /api/v2, .*use https://recall.example$"):
        RecallSession("key", base_url="https://recall.example/api/v2/")
    with pytest.raises(ConfigurationError, match=r"use https://recall.example/proxy$"):
        RecallSession("key", base_url="https://recall.example/proxy/api/v1")


def test_an_explicit_region_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would send the key of one region to another host because a variable was set once."""
    monkeypatch.setenv("RECALL_BASE_URL", "https://x.example")
    assert "https://eu-central-1.recall.ai" in repr(RecallSession("key", region="eu-central-1"))
    assert "https://x.example" in repr(RecallSession("key"))
    assert "https://y.example" in repr(RecallSession("key", region="eu-central-1", base_url="https://y.example"))


@pytest.mark.parametrize("scheme", ["Token ", "token ", "TOKEN  "])
async def test_a_key_that_is_given_as_it_stands_in_the_header(
    server: ScriptedServer, connect: Any, scheme: str
) -> None:
    """Would send `Token Token abc`, and be told that the key is wrong."""
    async with RecallSession(f"{scheme}{API_KEY}", base_url=server.url) as recall:
        await recall.calendar_events.retrieve(A)
        assert server.last.headers["authorization"] == f"Token {API_KEY}"
        assert recall.workspace == RecallSession(API_KEY, base_url=server.url).workspace


async def test_errors_of_a_call_name_its_attempts(server: ScriptedServer, connect: Any) -> None:
    """Would count an attempt that a retry policy of the call's own did not make."""
    recall = connect()
    server.script(reply(503), reply(503), reply(409))
    once = RetryPolicy(attempts=1)
    with pytest.raises(ServerError) as caught:
        await recall.calendar_events.retrieve(A, retry=once)
    assert caught.value.attempts == 1
    with pytest.raises(ServerError):
        await recall.calendars.update(A, webhook_url="https://x.example/", retry=once)
    with pytest.raises(ConflictError):
        await recall.calendar_events.remove_bot(A, retry=once)
    assert len(server.requests) == 3
    assert CALENDAR["id"] not in server.last.target
