"""Whatever a client sends, the sandbox answers with a 4xx: an error of its own would look like an outage of the API."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest

from tests.sandbox.conftest import CALENDARS, EVENTS, Api

WORDS = [
    b"null", b"true", b"0", b"-1e308", b"1e999", b"NaN", b"9" * 400, b'""', b'"\\ud800"', b'"\\u0000"',
    b'"\xf0\x9f\x98\x80"',
    b"[]", b"{}", b'{"a":1}', b'{"":null}', b'"' + b"x" * 3000 + b'"', b'"0001-01-01T00:00:00+23:59"',
    b'"9999-12-31T23:59:59-23:59"', b'"2025-06-10T12:00:00Z"', b'"google_calendar"', b'"https://zoom.us/j/1"', b"\xff",
]  # fmt: skip
NAMES = [
    b"deduplication_key", b"bot_config", b"meeting_url", b"join_at", b"metadata", b"platform", b"oauth_email",
    b"oauth_client_id", b"webhook_url", b"oauth_client_certificate", b"status", b"bot_name", b"recording_config",
]  # fmt: skip
FILTERS = [
    "calendar_id", "ical_uid", "is_deleted", "start_time", "start_time__gte", "start_time__lte", "updated_at__gte", "cursor",
    "created_at__gte", "email", "platform", "status", "join_at_after", "join_at_before", "meeting_url", "page",
    "metadata__a", "metadata__",
]  # fmt: skip
VALUES = [
    "", "%00", "%ff%fe", "%f0%9f%98%80", "-1", "0", "9" * 400, "1e5", "true", "0001-01-01T00:00:00%2B23:59",
    "9999-12-31T23:59:59-23:59", "2025-W01-1", "bmV4dHx8", "bmV4dHw5OTk5LTEyLTMxVDIzOjU5OjU5LTIzOjU5fHg", "%5B%5D",
    "&&=", "a" * 4000,
]  # fmt: skip
HEADERS = [
    b"Content-Type: application/json", b"Content-Type: application/json; charset=\xff", b"Content-Type: text/html",
    b"Content-Type: multipart/form-data; boundary=\xe9", b"Content-Type: application/x-www-form-urlencoded",
    b"Content-Encoding: gzip", b"Content-Encoding: br", b"Idempotency-Key: \xff\x80", b"Idempotency-Key: a",
    b"Host: \xff\x80", b"Host: ", b"X-Forwarded-Host: \xff", b"Accept: nothing/at-all",
]  # fmt: skip


def json_of(rng: random.Random, depth: int = 0) -> bytes:
    if depth > 2 or rng.random() < 0.4:
        return rng.choice(WORDS)
    if rng.random() < 0.2:
        return b"[" + b",".join(json_of(rng, depth + 1) for _ in range(rng.randrange(4))) + b"]"
    pairs = [b'"%b":%b' % (rng.choice(NAMES), json_of(rng, depth + 1)) for _ in range(rng.randrange(5))]
    return b"{" + b",".join(pairs) + b"}"


def request_of(rng: random.Random, api: Api, key: bytes) -> bytes:
    """A request that a mutant of a client sends."""
    ids = [event["id"] for event in api.upcoming()[:3]] + [api.sandbox.snapshot()["calendars"][0]["id"], "5", "%ff", ""]
    place = rng.choice([EVENTS, CALENDARS, "/api/v1/bot/", "/_sandbox/", "/"])
    path = place + rng.choice(["", "/", *(f"{identifier}/" for identifier in ids)])
    path += rng.choice(["", "", "bot/", "bot", "access-token/", "leave_call/", "mutate", "advance", "fail", "revoke"])
    query = "&".join(f"{rng.choice(FILTERS)}={rng.choice(VALUES)}" for _ in range(rng.randrange(3)))
    if "mutate" in path:
        query = rng.choice(["n=x", "n=3", "n=", "n=99999999", "n=-1"])
    if "advance" in path:
        query = rng.choice(["seconds=1e300", "seconds=%ff", "seconds=600", "seconds=", "seconds=nan"])
    method = rng.choice(["GET", "POST", "PATCH", "DELETE", "PUT", "POST", "OPTIONS", "HEAD", "FOO-BAR"])
    if rng.random() < 0.6:  # a request that gets far
        event, calendar = ids[rng.randrange(3)], ids[3]
        method, path = rng.choice(
            [
                ("GET", EVENTS),
                ("GET", f"{EVENTS}{event}/"),
                ("POST", f"{EVENTS}{event}/bot/"),
                ("POST", f"{EVENTS}{event}/bot"),
                ("DELETE", f"{EVENTS}{event}/bot/"),
                ("GET", CALENDARS),
                ("POST", CALENDARS),
                ("PATCH", f"{CALENDARS}{calendar}/"),
                ("POST", f"{CALENDARS}{calendar}/access-token/"),
                ("GET", "/api/v1/bot/"),
            ]
        )
    body = rng.choice([json_of(rng), json_of(rng), b"", b"\x1f\x8b" * 9, b"a=%ff&b[c]=1"])
    headers = [
        b"Authorization: Token " + key,
        b"Content-Length: %d" % len(body),
        *rng.sample(HEADERS, rng.randrange(4)),
    ]
    if not any(header.startswith(b"Host") for header in headers):
        headers.append(b"Host: x")
    line = f"{method} {path}{'?' + query if query else ''} HTTP/1.1".encode()
    return b"\r\n".join([line, *headers, b"Connection: close", b"", body])


@pytest.mark.parametrize("seed", range(15))
async def test_no_garbage_is_answered_500(
    start: Callable[..., Any], seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that sends nonsense would be told that the API is down, and try again."""
    api: Api = await start(events=60, quota_scale=1000)
    rng = random.Random(seed)
    host, _, port = api.sandbox.url.removeprefix("http://").partition(":")
    seen = set()
    for _ in range(60):
        request = request_of(rng, api, api.sandbox.api_key.encode())
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        status = int(answer.split(b" ", 2)[1]) if answer else 0
        assert 200 <= status < 500, (request, answer)
        seen.add(status)
    assert {200, 400, 404} <= seen
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [error for error in logged if not isinstance(error, aiohttp.http_exceptions.BadHttpMessage)] == []
