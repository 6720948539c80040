"""The API key is seen by the server that it is for, and by nobody else: whatever fails, wherever it is printed."""

from __future__ import annotations

import asyncio
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
import pytest

from recall_async import RecallError, RecallSession, RetryPolicy
from tests.session.conftest import API_KEY
from tests.session.scripted_server import Behaviour, ScriptedServer, arrived, raw, reply, reset, silence

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
ONCE = RetryPolicy(attempts=1)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """The exception and all that it came of, suppressed or not."""
    while error is not None:
        yield error
        if error.__cause__ is not error.__context__:
            yield from chain(error.__context__)
        error = error.__cause__


def everything_about(error: BaseException) -> str:
    """All that a log, a crash reporter that looks into frames, or a debugger would print."""
    told = []
    for link in chain(error):
        told += [str(link), repr(link), repr(vars(link)), repr(link.args)]
        told += traceback.TracebackException.from_exception(link, capture_locals=True, compact=False).format()
    return "\n".join(told)


def assert_secret(text: str | bytes) -> None:
    shown = text.encode() if isinstance(text, str) else text
    at = shown.find(API_KEY.encode())
    assert at < 0, f"the key is shown: {shown[max(0, at - 300) : at + 60]!r}"
    for part in (API_KEY[:20], API_KEY.split("/")[1]):
        assert part.encode() not in shown, "a part of the key is shown"


async def schedule(recall: RecallSession) -> object:
    return await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k", bot_config={"bot_name": "N"})


def echoing(status: int, form: str, **headers: str) -> Behaviour:
    """Answer with what the request's Authorization was, put into `form`."""

    async def answer(request: Any) -> Any:
        said = request.headers["Authorization"]
        named = {name: value.replace("KEY", said) for name, value in headers.items()}
        return await reply(status, body=form.replace("KEY", said).encode(), **named)(request)

    return answer


def echoing_raw(form: bytes) -> Behaviour:
    async def answer(request: Any) -> Any:
        return await raw(form.replace(b"KEY", request.headers["Authorization"].encode()))(request)

    return answer


def echoing_changed(status: int) -> Behaviour:
    """Answer with a header whose name is the key, but for the characters that a name cannot have."""

    async def answer(request: Any) -> Any:
        name = request.headers["Authorization"].split(" ")[1].replace("/", "_")
        return await reply(status, body=b"{}", **{f"X-{name}": "1"})(request)

    return answer


FAILURES: dict[str, Behaviour] = {
    "reset": reset,
    "truncated": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
    "truncated echo": echoing_raw(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"id": "KEY"'),
    "truncated chunked echo": echoing_raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfff\r\n{"id": "KEY"'),
    "no http": raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "no http, echo": echoing_raw(b"authorization: KEY\r\n\r\n"),
    "odd header, echo": echoing_raw(b"HTTP/1.1 200 OK\r\nauthori\x00zation: KEY\r\n\r\n"),
    "odd length, echo": echoing_raw(b"HTTP/1.1 200 OK\r\nContent-Length: KEY\r\n\r\n"),
    "401": reply(401, {"detail": "Invalid token."}),
    "401 echo": echoing(401, '{"detail": "Invalid token KEY"}'),
    "400 echo in fields": echoing(400, '{"code": "KEY", "errors": {"KEY": ["KEY"]}}'),
    "403 page echo": echoing(403, "<html>Authorization: KEY</html>"),
    "403 long echo": echoing(403, "x" * 65_530 + "KEY" + "x" * 100_000),
    "403 repeated echo": echoing(403, "KEY " * 10_000),
    "500 header echo": echoing(500, "{}", X_Echo="KEY"),
    "500 echo with another character": echoing_changed(500),
    "302 echo": echoing(302, "", Location="https://elsewhere.example/?from=KEY"),
    "200 garbage echo": echoing(200, "<html>KEY</html>"),
    "200 no text echo": reply(200, body=b'{"id": "\xff' + API_KEY.encode() + b'"}'),
    "200 wrong type echo": echoing(200, '{"KEY": 1, "id": 3}'),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_failures_after_sending(
    name: str, server: ScriptedServer, connect: Callable[..., RecallSession], caplog: pytest.LogCaptureFixture
) -> None:
    """Would print the key, or what an odd server echoes of it, in an exception, its causes, its frames or a log."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    server.script(FAILURES[name])
    recall = connect(retry=ONCE)
    with pytest.raises(RecallError) as caught:
        await schedule(recall)
    assert_secret(everything_about(caught.value))
    assert_secret(pickle.dumps(caught.value))
    assert API_KEY in server.last.headers["authorization"]
    assert_secret(caplog.text)


async def refused(connect: Callable[..., RecallSession]) -> object:
    return await schedule(connect(base_url="http://127.0.0.1:1"))


async def no_such_name(connect: Callable[..., RecallSession]) -> object:
    class Resolver(aiohttp.abc.AbstractResolver):
        async def resolve(self, *args: Any, **options: Any) -> Any:
            raise OSError(-2, "Name or service not known")

        async def close(self) -> None: ...

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=Resolver())) as http:
        return await schedule(connect(base_url="https://recall.invalid", http=http))


async def no_tls(connect: Callable[..., RecallSession]) -> object:
    port = connect()._client.transport.base_url.port
    return await schedule(connect(base_url=f"https://127.0.0.1:{port}"))


async def no_host(connect: Callable[..., RecallSession]) -> object:
    return await schedule(connect(base_url=f"https://{'a' * 64}.example"))


async def too_slow(connect: Callable[..., RecallSession]) -> object:
    return await schedule(connect(timeout=0.05))


async def past_its_deadline(connect: Callable[..., RecallSession]) -> object:
    return await connect().calendar_events.schedule_bot(EVENT_ID, deduplication_key="k", deadline=0.05)


async def cancelled(connect: Callable[..., RecallSession]) -> object:
    async with asyncio.timeout(0.05):
        return await schedule(connect())


async def closed(connect: Callable[..., RecallSession]) -> object:
    recall = connect()
    call = asyncio.create_task(schedule(recall))
    await asyncio.sleep(0)
    await recall.aclose()
    return await call


async def bad_region(connect: Callable[..., RecallSession]) -> object:
    return connect(base_url=None, region="mars-1")


async def bad_input(connect: Callable[..., RecallSession]) -> object:
    return await connect().calendar_events.retrieve("../")


async def bad_policy(connect: Callable[..., RecallSession]) -> object:
    return connect(timeout=-1)


@pytest.mark.parametrize(
    "fail",
    [
        refused, no_such_name, no_tls, no_host, too_slow, past_its_deadline, cancelled, closed, bad_region,
        bad_input, bad_policy,
    ],
)  # fmt: skip
async def test_failures_of_other_kinds(
    fail: Callable[..., Awaitable[object]],
    server: ScriptedServer,
    connect: Callable[..., RecallSession],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Would print the key where a connection, a deadline, a cancellation or the program itself is at fault."""
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    server.script(silence)
    with pytest.raises((RecallError, TimeoutError)) as caught:
        await fail(lambda **settings: connect(**{"retry": ONCE} | settings))
    assert_secret(everything_about(caught.value))
    assert_secret(pickle.dumps(caught.value))
    assert_secret(caplog.text)


async def test_foreign_link(server: ScriptedServer, recall: RecallSession) -> None:
    """Would quote a link that has the key in it."""
    link = f"https://elsewhere.example/?token={API_KEY}"
    server.script(reply(200, {"next": link, "previous": None, "results": []}))
    with pytest.raises(RecallError, match="elsewhere") as caught:
        _ = [event async for event in recall.calendar_events.list()]
    assert_secret(str(caught.value))


async def test_connection_that_closes_while_it_is_taken(server: ScriptedServer, connect: Any) -> None:
    """Would show the head of the request, which aiohttp's frames hold, when there is nobody to write it to."""

    async def wait_for_its_end(session: Any, context: Any, parameters: Any) -> None:
        for transport in server.connections:
            transport.abort()
        await arrived()

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(wait_for_its_end)
    async with aiohttp.ClientSession(trace_configs=[trace]) as http:
        recall = connect(http=http, retry=ONCE)
        await schedule(recall)
        with pytest.raises(RecallError) as caught:
            await schedule(recall)
    assert_secret(everything_about(caught.value))


@pytest.mark.parametrize(
    "broken", [API_KEY + "\n", f"Bearer {API_KEY}", API_KEY + "\u2028", API_KEY + "é", API_KEY.encode()]
)
def test_key_that_was_pasted_badly(broken: Any) -> None:
    """Would print a key that is right but for the line break behind it."""
    try:
        RecallSession(broken)
    except ValueError as error:
        frame = error.__traceback__
        assert frame is not None
        error.__traceback__ = frame.tb_next  # the test's own frame holds the key, the session's must not
        assert_secret(everything_about(error))
    else:
        pytest.fail("nothing was raised")


async def test_representations(recall: RecallSession) -> None:
    """Would print the key with the session, with any part of it, or with the state of any part."""
    await schedule(recall)
    caller = recall._client
    for part in (recall, recall.calendar_events, caller, caller.transport, caller.transport._http):
        assert_secret(repr(part))
        assert_secret(str(part))
        assert_secret(repr(vars(part)))
    assert_secret(repr(recall.statistics()))
    assert recall.workspace
    assert_secret(recall.workspace)


async def test_the_key_is_not_in_the_url(server: ScriptedServer, recall: RecallSession) -> None:
    """Would write the key into the access logs of every proxy on the way."""
    await schedule(recall)
    assert_secret(server.last.target)
    assert_secret(server.last.body)
    assert [name for name, value in server.last.headers.items() if API_KEY in value] == ["authorization"]
