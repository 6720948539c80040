"""Raw bytes in place of an HTTP answer: the call ends with an answer or one of our errors, and leaves nothing behind.

A second call over the same session gets its own answer, never one that was left on the connection.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from recall_async import (
    AttemptTimeoutError,
    ConnectionFailedError,
    DeadlineExceededError,
    Quota,
    RateLimitedError,
    RecallError,
    RecallSession,
    RetryPolicy,
)
from recall_async.operations import OPERATIONS
from tests.fuzz.inputs import DATA, KEY, check_message, documents

PLENTY = {name: Quota(100_000, 60.0) for name in OPERATIONS}
FIRST, SECOND = "497f6eca-6276-4993-bfeb-53cbbbba6f08", "11111111-2222-4333-8444-555555555555"
_EVENT = (DATA / "event_documented.json").read_bytes()
_LONGEST_WAIT = 20.0
_CALLS: tuple[Callable[[RecallSession], Any], ...] = (
    lambda recall: recall.calendar_events.retrieve(FIRST),
    lambda recall: recall.calendar_events.schedule_bot(FIRST, deduplication_key="k", bot_config={}),
    lambda recall: recall.calendar_events.remove_bot(FIRST),
    lambda recall: recall.calendar_events.list_page(),
    lambda recall: recall.calendars.create_access_token(FIRST),
    lambda recall: recall.calendars.delete(FIRST),
    lambda recall: recall.bots.list_page(),
    lambda recall: recall.request("GET", "/api/v2/other/"),
)


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """An HTTP answer with this body."""
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


def seeds() -> list[bytes]:
    """Right and wrong answers; the first byte says for which call, and what becomes of the connection."""
    event = _EVENT.replace(b"\n", b"")
    found = [answer(document[:1500]) for document in documents()]
    found += [
        answer(event) + answer(event.replace(FIRST.encode(), SECOND.encode())),
        answer(b'{"detail": "Throttled."}', "429 Too Many Requests", "Retry-After: 7"),
        answer(b'{"code": "x", "errors": {"a": ["b"]}}', "400 Bad Request"),
        answer(b"", "302 Found", "Location: https://elsewhere.example/"),
        answer(b"<html></html>", "503 Service Unavailable", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"),
        b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n" + answer(event), b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\n{}x", b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        answer(b"{}", "200 OK", "Content-Encoding: br"), answer(b"{}", "200 OK", f"X-Key: {KEY}"),
    ]  # fmt: skip
    return [bytes([number]) + each for each in found for number in (0, 1, 9, 18, 35, 36, 5, 6, 7)]


class _Server:
    """Answers the next request with `script`, if there is one, and all others honestly."""

    def __init__(self) -> None:
        self.script: bytes | None = None
        self.closes = False
        self.port = 0

    async def start(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                if length:
                    await reader.readexactly(int(length[0].partition(b":")[2]))
                script, self.script = self.script, None
                if script is None:
                    asked = head.split(b" ")[1].split(b"/")[4]
                    script = answer(_EVENT.replace(FIRST.encode(), asked))
                    writer.write(script)
                    continue
                writer.write(script)
                if self.closes:
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()


_loop: asyncio.AbstractEventLoop | None = None
_server = _Server()
_foreign: list[dict[str, Any]] = []


def check(data: bytes) -> None:
    """Make one call that is answered with `data`, and one that is answered honestly."""
    global _loop
    if _loop is None:
        _loop = asyncio.new_event_loop()
        _loop.set_exception_handler(lambda loop, context: _foreign.append(context))
        _loop.run_until_complete(_server.start())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _loop.run_until_complete(asyncio.wait_for(_check(data), _LONGEST_WAIT))
    told, _foreign[:] = _foreign[:], []
    assert not told, told


async def _check(data: bytes) -> None:
    number = data[0] if data else 0
    _server.script, _server.closes = data[1:], number & 96 != 32
    before = asyncio.all_tasks()
    session = RecallSession(
        KEY,
        base_url=f"http://127.0.0.1:{_server.port}",
        workspace=uuid4().hex,
        quotas=PLENTY,
        retry=RetryPolicy(attempts=1),
        timeout=0.05,
        keep_extra=bool(number & 16),
    )
    async with session as recall:
        try:
            await _CALLS[number % 8](recall)
        except RecallError as error:
            look_at(error)
        _server.script = None
        try:
            event = await recall.calendar_events.retrieve(SECOND, deadline=3)
            assert event.id == SECOND, event
        except (AttemptTimeoutError, ConnectionFailedError, RateLimitedError, DeadlineExceededError) as error:
            look_at(error)  # the connection that was kept is closed or out of step, or the server said how long to wait
        assert {lane.in_flight for lane in recall.statistics().values()} == {0}
    serving = [task for task in asyncio.all_tasks() - before if "_serve" not in repr(task.get_coro())]
    assert not serving, serving


def look_at(error: RecallError) -> None:
    """Check the message, and that the key is in no part of it."""
    check_message(error)
    assert KEY not in repr(vars(error)), repr(vars(error))
