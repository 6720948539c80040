"""The network at its worst: cut, reset, silent, closed while idle; and sessions of aiohttp that are the caller's."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from recall_async import (
    APIError,
    AttemptTimeoutError,
    ConnectionFailedError,
    RecallSession,
    ResponseDecodeError,
    RetryPolicy,
    ServerError,
)
from tests.session.scripted_server import EVENT, Behaviour, ScriptedServer, arrived, raw, reply, reset, silence

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
SCHEDULE, REMOVE, RETRIEVE = (f"calendar_events.{name}" for name in ("schedule_bot", "remove_bot", "retrieve"))
BODY = json.dumps(EVENT).encode()

CUTS: dict[str, Behaviour] = {
    "reset before the head": reset,
    "closed before the head": raw(b""),
    "closed in the head": raw(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "closed after the head": raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY)),
    "closed in the body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY), BODY[:-1]),
    "closed in a chunk": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"fff\r\n" + BODY),
    "closed between chunks": raw(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"%x\r\n%b\r\n" % (len(BODY), BODY)
    ),
    "closed in the compressed body": raw(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 500\r\n\r\n", gzip.compress(BODY)
    ),
}
GARBLED: dict[str, tuple[Behaviour, str]] = {
    "no compression": (reply(200, body=BODY, Content_Encoding="gzip"), "can not decode content-encoding"),
    "no http": (raw(b"220 mail.example.com ESMTP\r\n"), "not valid HTTP"),
    "garbage": (raw(bytes(range(256)) * 40), "not valid HTTP"),
    "endless head": (raw(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000), "got more than"),
    "no chunk": (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"xyz\r\nsecret"), "not valid HTTP"),
    "no length": (raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), "content-length"),
}


async def schedule(recall: RecallSession) -> Any:
    return await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k")


def assert_every_request_had_a_slot(server: ScriptedServer, recall: RecallSession) -> None:
    taken = sum(lane.taken for lane in recall.statistics().values())
    assert len(server.requests) == taken == sum(lane.admitted for lane in recall.statistics().values())


@pytest.mark.parametrize("cut", CUTS)
async def test_cut_answers(cut: str, server: ScriptedServer, recall: RecallSession) -> None:
    """Would take a part for the whole, give up at the first cut, or make a second bot with a new idempotency key."""
    server.script(CUTS[cut], CUTS[cut])
    event = await schedule(recall)
    assert event.id == EVENT_ID
    assert len(server.requests) == 3
    assert len({request.key for request in server.requests}) == 1
    assert_every_request_had_a_slot(server, recall)


@pytest.mark.parametrize("cut", CUTS)
async def test_only_cut_answers(cut: str, server: ScriptedServer, connect: Any) -> None:
    """Would end in an exception of aiohttp's, or in one that does not say how often it was tried."""
    recall = connect(retry=RetryPolicy(attempts=2, backoff=0.0))
    server.script(CUTS[cut], CUTS[cut], CUTS[cut])
    with pytest.raises(ConnectionFailedError, match=r"no answer from http://127\.0\.0\.1") as caught:
        await schedule(recall)
    assert (caught.value.operation, caught.value.attempts) == (SCHEDULE, 2)
    assert len(server.requests) == 2
    assert_every_request_had_a_slot(server, recall)


@pytest.mark.parametrize("name", GARBLED)
async def test_garbled_answers(name: str, server: ScriptedServer, recall: RecallSession) -> None:
    """Would be taken for no answer, blamed on a status 400 that nobody sent, and be repeated although that is useless."""
    behaviour, flaw = GARBLED[name]
    server.script(behaviour, behaviour)
    with pytest.raises(ResponseDecodeError, match="not valid HTTP, or that cannot be decompressed") as caught:
        await schedule(recall)
    said = str(caught.value)
    assert flaw in said
    assert not re.search(r"\b400\b", said)
    assert "secret" not in said
    assert "may have taken effect" in said
    assert (caught.value.operation, caught.value.attempts) == (SCHEDULE, 1)
    assert len(server.requests) == 1
    assert_every_request_had_a_slot(server, recall)


@pytest.mark.parametrize("operation", ["retrieve", "remove_bot"])
@pytest.mark.parametrize("cut", ["reset before the head", "closed before the head"])
async def test_aiohttp_sends_nothing_again_by_itself(
    cut: str, operation: str, server: ScriptedServer, connect: Any
) -> None:
    """Would send a request twice for one slot: aiohttp does, unasked, when a kept connection turns out to be closed."""
    recall = connect(retry=RetryPolicy(attempts=1))
    call = getattr(recall.calendar_events, operation)
    await call(EVENT_ID)
    server.script(CUTS[cut], CUTS[cut])
    with pytest.raises(ConnectionFailedError):
        await call(EVENT_ID)
    assert len(server.connections) == 1
    assert len(server.requests) == 2
    assert_every_request_had_a_slot(server, recall)


@pytest.mark.parametrize("operation", ["retrieve", "remove_bot"])
async def test_nor_does_a_session_of_the_caller(operation: str, server: ScriptedServer, connect: Any) -> None:
    """Would send a request twice for one slot over a session that was passed in."""
    async with aiohttp.ClientSession() as http:
        recall = connect(retry=RetryPolicy(attempts=1), http=http)
        call = getattr(recall.calendar_events, operation)
        await call(EVENT_ID)
        server.script(reset, reset)
        with pytest.raises(ConnectionFailedError):
            await call(EVENT_ID)
    assert len(server.requests) == 2


async def test_connection_that_was_closed_while_idle(server: ScriptedServer, recall: RecallSession) -> None:
    """Would fail, or spend an attempt, because the server closed a connection that nobody used."""
    await recall.calendar_events.retrieve(EVENT_ID)
    for connection in server.connections:
        connection.close()
    await arrived()
    await recall.calendar_events.retrieve(EVENT_ID)
    assert len(server.connections) == 2
    assert recall.statistics()[RETRIEVE].retries == 0
    assert_every_request_had_a_slot(server, recall)


async def test_connections_are_kept(server: ScriptedServer, recall: RecallSession) -> None:
    """Would pay for a new connection with every request."""
    for answer in (reply(200, EVENT), reply(503), reply(404), reply(200, EVENT)):
        server.script(answer)
        try:
            await recall.calendar_events.retrieve(EVENT_ID)
        except APIError:
            continue
    assert len(server.connections) == 1


async def test_server_that_never_answers(server: ScriptedServer, connect: Any) -> None:
    """Would wait for ever, or take a timeout for something else."""
    recall = connect(timeout=0.05, retry=RetryPolicy(attempts=2, backoff=0.0))
    server.script(silence, silence)
    with pytest.raises(AttemptTimeoutError, match=r"0\.05 s") as caught:
        await schedule(recall)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.operation, caught.value.attempts) == (SCHEDULE, 2)
    assert len({request.key for request in server.requests}) == 1
    assert_every_request_had_a_slot(server, recall)


async def test_server_that_stops_in_its_answer(server: ScriptedServer, connect: Any) -> None:
    """Would wait for ever for the rest, since the head came in time."""
    recall = connect(timeout=0.05, retry=RetryPolicy(attempts=1))
    server.script(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n", BODY[:100], hang=True))
    with pytest.raises(AttemptTimeoutError):
        await schedule(recall)


async def test_cookies_are_not_kept(server: ScriptedServer, connect: Any) -> None:
    """Would carry what one answer set to other requests, and change what the API sees."""
    recall = connect(base_url=server.url.replace("127.0.0.1", "localhost"))  # aiohttp keeps none of an address
    server.script(reply(200, EVENT, Set_Cookie="session=stolen; Path=/"))
    await recall.calendar_events.retrieve(EVENT_ID)
    await recall.calendar_events.retrieve(EVENT_ID)
    assert "cookie" not in server.last.headers


async def test_http_session_of_the_caller(server: ScriptedServer, connect: Callable[..., RecallSession]) -> None:
    """Would not use the session that was passed in, change it, let its settings through, or close it."""

    async def never(request: Any, handler: Any) -> Any:
        raise AssertionError("the caller's middlewares are not run")

    async with aiohttp.ClientSession(
        headers={"X-Team": "notes", "Authorization": "Token other"}, raise_for_status=True, middlewares=(never,)
    ) as http:
        recall = connect(http=http)
        server.script(reply(503), reply(404), reply(302, Location="/x"))
        for status in ("404", "302"):
            with pytest.raises(APIError, match=status):
                await schedule(recall)
        await schedule(recall)
        await recall.aclose()
        assert not http.closed
        assert http.headers["Authorization"] == "Token other"
    assert server.last.headers["x-team"] == "notes"
    assert server.last.headers["authorization"].endswith("0123456789abcdef")


async def test_http_session_that_is_made_when_it_is_needed(
    server: ScriptedServer, connect: Callable[..., RecallSession]
) -> None:
    """A session could not be made with a proxy before the loop runs, or what was made for it would stay open."""
    made = []

    def make() -> aiohttp.ClientSession:
        made.append(aiohttp.ClientSession(headers={"X-Team": "notes"}))
        return made[-1]

    recall = connect(http=make)
    async with recall:
        await recall.calendar_events.retrieve(EVENT_ID)
    assert [http.closed for http in made] == [True]
    assert server.requests[0].headers["x-team"] == "notes"
    assert server.requests[0].headers["authorization"].startswith("Token ")


async def test_http_session_that_closes_in_flight(server: ScriptedServer, connect: Any) -> None:
    """Would hang, or raise an exception of aiohttp's, when the caller closes the session under a call."""
    async with aiohttp.ClientSession() as http:
        recall = connect(http=http, retry=RetryPolicy(attempts=1))
        server.script(silence)
        call = asyncio.create_task(schedule(recall))
        await server.arrived(1)
    with pytest.raises(ConnectionFailedError):
        await call


async def test_outage_ends(server: ScriptedServer, recall: RecallSession) -> None:
    """Would not come back after a mixture of all kinds of failure."""
    server.script(reset, reply(502, body=b"<html>Bad gateway</html>"), raw(b""), reply(504))
    assert (await schedule(recall)).id == EVENT_ID
    assert len({request.key for request in server.requests}) == 1


async def test_outage_does_not_end(server: ScriptedServer, recall: RecallSession) -> None:
    """Would raise the first failure, or something of its own, instead of the last."""
    server.script(reset, reset, reset, reset, reply(504, body=b"<html>Gateway timeout</html>"))
    with pytest.raises(ServerError, match="504 after 5 attempts: Gateway timeout"):
        await schedule(recall)
