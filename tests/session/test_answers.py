"""Answers that came whole and are still not what was asked for: redirected, garbled, endless, compressed."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from aiohttp import web

from recall_async import (
    APIError,
    ConfigurationError,
    RateLimitedError,
    RecallSession,
    ResponseDecodeError,
    answers,
    transport,
)
from tests.session.scripted_server import EVENT, Behaviour, ScriptedServer, raw, reply

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
SCHEDULE, RETRIEVE = "calendar_events.schedule_bot", "calendar_events.retrieve"
BODY = json.dumps(EVENT).encode()


async def schedule(recall: RecallSession) -> Any:
    return await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects(status: int, server: ScriptedServer, recall: RecallSession) -> None:
    """Would follow, with the key, wherever a server points."""
    async with ScriptedServer() as elsewhere:
        server.script(reply(status, Location=f"{elsewhere.url}/there"))
        with pytest.raises(APIError, match=r"redirects to .*/there") as caught:
            await schedule(recall)
        assert (type(caught.value), caught.value.status, caught.value.attempts) == (APIError, status, 1)
        assert not elsewhere.requests
    assert len(server.requests) == 1


async def test_redirect_to_itself(server: ScriptedServer, recall: RecallSession) -> None:
    """Would follow a redirect that stays on the origin, for a slot that nobody took."""
    server.script(reply(307, Location=f"/api/v2/calendar-events/{EVENT_ID}/"))
    with pytest.raises(APIError, match="redirects"):
        await recall.calendar_events.retrieve(EVENT_ID)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "0 bytes"),
        (b"<html>Login</html>", "<html>Login"),
        (b"{", "truncated"),
        (b"null", "Expected `object`"),
        (b"[]", "Expected `object`"),
        (b"{}", "missing required field"),
        (json.dumps(EVENT | {"start_time": 17}).encode(), r"\$\.start_time"),
        (json.dumps(EVENT | {"start_time": "2025-06-10T12:00:00"}).encode(), r"\$\.start_time"),
        (json.dumps(EVENT | {"bots": [{"bot_id": None}]}).encode(), r"\$\.bots\[0\]\.bot_id"),
        (json.dumps(EVENT | {"bots": {}}).encode(), r"\$\.bots"),
        (json.dumps(EVENT | {"id": None}).encode(), r"\$\.id"),
        (b'{"id": "\xff"}', "missing required field"),
        (b"[" * 100_000, "recursion|nest|malformed|Expected"),
        (BODY + b"x", "trailing"),
        (BODY.decode().encode("utf-16"), "malformed"),
    ],
)
async def test_answers_that_are_not_as_documented(
    body: bytes, told: str, server: ScriptedServer, recall: RecallSession
) -> None:
    """Would let an answer through that is none, or not say where it is wrong and what was asked."""
    server.script(reply(200, body=body))
    with pytest.raises(ResponseDecodeError, match=told) as caught:
        await recall.calendar_events.retrieve(EVENT_ID)
    assert "calendar_events.retrieve got a 200" in str(caught.value)
    assert (caught.value.operation, caught.value.attempts) == (RETRIEVE, 1)
    assert len(server.requests) == 1
    assert len(str(caught.value)) < 600


async def test_no_content_where_there_should_be_some(server: ScriptedServer, recall: RecallSession) -> None:
    """Would return nothing in place of an event."""
    server.script(reply(204))
    with pytest.raises(ResponseDecodeError, match="204"):
        await recall.calendar_events.remove_bot(EVENT_ID)


async def test_content_where_there_should_be_none(server: ScriptedServer, recall: RecallSession) -> None:
    """Would fail a deletion because of what the server adds to it."""
    server.script(reply(200, {"detail": "deleted"}))
    await recall.calendars.delete(EVENT_ID)


def endless(*, status: int = 200, compress: bool = False) -> Behaviour:
    """A body without end, or until nobody reads it any more."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(status=status)
        if compress:
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        for _ in range(10_000):
            await response.write(b" " * 100_000)
        raise AssertionError("a gigabyte was read")

    return answer


@pytest.mark.parametrize("compress", [False, True])
async def test_answer_without_end(
    compress: bool, server: ScriptedServer, recall: RecallSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would read until the memory is full, compressed or not."""
    monkeypatch.setattr(transport, "MAX_ANSWER", 1_000_000)
    server.script(endless(compress=compress))
    with pytest.raises(ResponseDecodeError, match="more than 1000000 bytes") as caught:
        await recall.calendar_events.retrieve(EVENT_ID)
    assert (caught.value.operation, caught.value.attempts) == (RETRIEVE, 1)
    assert len(server.requests) == 1
    await recall.calendar_events.retrieve(EVENT_ID)


async def test_answer_that_announces_too_much(
    server: ScriptedServer, recall: RecallSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Would set memory aside for whatever a Content-Length says."""
    monkeypatch.setattr(transport, "MAX_ANSWER", 1000)
    server.script(reply(200, body=b" " * 2000))
    with pytest.raises(ResponseDecodeError, match=r"more than 1000 bytes\. Calling it again is safe\."):
        await recall.calendar_events.retrieve(EVENT_ID)
    server.script(reply(200, body=b" " * 2000))
    with pytest.raises(
        ResponseDecodeError, match=r"more than 1000 bytes\. The request may have taken effect"
    ) as caught:
        await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k")
    assert caught.value.__context__ is None


async def test_error_without_end(server: ScriptedServer, recall: RecallSession) -> None:
    """Would read a firewall's page for ever, or keep all of it in the exception."""
    server.script(endless(status=403))
    with pytest.raises(APIError) as caught:
        await recall.calendar_events.retrieve(EVENT_ID)
    assert (caught.value.status, len(caught.value.body)) == (403, transport.MAX_ERROR)


@pytest.mark.parametrize("hang", [False, True])
async def test_error_whose_body_is_cut(hang: bool, server: ScriptedServer, connect: Any) -> None:
    """Would forget the 429 and its Retry-After, and retry at once, because the rest of the answer was lost."""
    recall = connect(timeout=0.2)
    head = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 100\r\n\r\n"
    server.script(raw(head, b'{"det', hang=hang))
    with pytest.raises(RateLimitedError) as caught:
        await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k", deadline=5.0)
    assert caught.value.retry_after == 7.0
    assert recall.statistics()[SCHEDULE].paused > 0
    assert recall.statistics()[SCHEDULE].throttled == 1


async def test_compressed_answers(server: ScriptedServer, recall: RecallSession) -> None:
    """Would not understand what it asked for in Accept-Encoding."""
    server.script(reply(200, body=gzip.compress(BODY), Content_Encoding="gzip"))
    assert (await recall.calendar_events.retrieve(EVENT_ID)).id == EVENT_ID
    assert "gzip" in server.last.headers["accept-encoding"]


async def test_large_garbage_is_not_repaired(
    server: ScriptedServer, recall: RecallSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A huge body that is no JSON would be taken apart, and hold up all other calls meanwhile."""
    monkeypatch.setattr(answers, "MAX_REPAIRED", 10)
    monkeypatch.setattr(answers, "repaired", lambda body: pytest.fail("it was taken apart"))
    server.script(reply(body=BODY + b"x"))
    with pytest.raises(ResponseDecodeError, match="trailing"):
        await recall.calendar_events.retrieve(EVENT_ID)


async def test_a_function_that_makes_no_http_session() -> None:
    """A factory that forgets its return would show as an error of None somewhere in the first call."""
    with pytest.raises(ConfigurationError, match=r"http must be an aiohttp\.ClientSession"):
        async with RecallSession("key", http=lambda: None):  # type: ignore[arg-type, return-value]
            pass
