"""Routes, report, reset, life cycle, and what hostile clients may send."""

from __future__ import annotations

import ast
import asyncio
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

import recall_async.sandbox
from recall_async.operations import OPERATIONS
from recall_async.sandbox import RecallSandbox, serve
from recall_async.sandbox.requests import _HANDLERS
from tests.sandbox.conftest import CALENDARS, EVENTS, SCHEDULE, Api, until_counted

ZERO = {"accepted": 0, "throttled": 0, "conflicted": 0, "rejected": 0, "peak": 0}


def test_every_operation_is_there() -> None:
    """An operation of the table would have no answer."""
    assert set(_HANDLERS) == set(OPERATIONS)


async def test_report_counts_every_answer(api: Api) -> None:
    """The report would leave out an operation, or count an answer in the wrong place."""
    event = api.upcoming()[0]["id"]
    await api.schedule(event, "key")
    await api.schedule(event, "")
    await api.send("GET", EVENTS, headers={"Authorization": "Token wrong"})
    async with api.http.get(f"{api.sandbox.url}/_sandbox/report") as response:
        report = await response.json()
    assert report == api.sandbox.report()
    assert report == {
        "events": 120,
        "bots": 1,
        "operations": {
            **dict.fromkeys(OPERATIONS, ZERO),
            SCHEDULE: {**ZERO, "accepted": 1, "rejected": 1, "peak": 2},
            "calendar_events.list": {**ZERO, "rejected": 1},
        },
    }


@pytest.mark.parametrize("over_http", [False, True])
async def test_reset_starts_over(start: Callable[..., Any], over_http: bool) -> None:
    """Something of the time before would survive: bots, counts, quotas used, kept answers, faults."""
    api: Api = await start(quotas={SCHEDULE: (1, 60.0)})
    before = api.events()
    event = api.upcoming()[0]["id"]
    await api.schedule(event, "key", idempotency_key="a")
    api.sandbox.mutate(5)
    api.sandbox.fault(status=500, times=None)
    api.clock.seconds += 30
    if over_http:
        assert (await api.send("POST", "/_sandbox/reset")).status == 200
    else:
        api.sandbox.reset()
    assert api.sandbox.report() == {"events": 120, "bots": 0, "operations": dict.fromkeys(OPERATIONS, ZERO)}
    assert {other["id"] for other in api.events()} == {other["id"] for other in before}
    reply = await api.schedule(event, "key", idempotency_key="a")
    assert reply.status == 200
    assert "Idempotent-Replayed" not in reply.headers


async def test_a_request_from_before_the_reset_ends_in_the_old_workspace(api: Api) -> None:
    """A reset while requests are under way would find their bots in the new data."""
    event = api.upcoming()[0]["id"]
    api.sandbox.fault(SCHEDULE, kind="hang")
    task = asyncio.create_task(api.schedule(event, "key"))
    await until_counted(api, SCHEDULE, 1)
    api.sandbox.reset()
    assert len((await task).body["bots"]) == 1
    assert api.sandbox.report()["bots"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", EVENTS, 405),
        ("POST", EVENTS, 405),
        ("DELETE", f"{EVENTS}x/", 405),
        ("GET", f"{EVENTS}x/bot/", 405),
        ("PUT", f"{CALENDARS}x/", 405),
        ("GET", f"{CALENDARS}x/access-token/", 405),
        ("GET", "/", 404),
        ("GET", "/api/v2/bots/", 404),
        ("GET", f"{EVENTS}/", 404),
        ("GET", f"{EVENTS}x/bot/extra/", 404),
        ("GET", "/_sandbox/", 404),
        ("POST", "/_sandbox/report", 404),
        ("GET", "/_sandbox/reset", 404),
        ("POST", "/_sandbox/fail?bot_id=5", 404),
        ("POST", "/_sandbox/revoke?calendar_id=9eaeb16c-f112-4d79-b2f5-f448185ebbe8", 404),
    ],
)
async def test_wrong_methods_and_paths(api: Api, method: str, path: str, status: int) -> None:
    """A mistyped request would reach some operation."""
    reply = await api.send(method, path)
    assert reply.status == status
    assert list(reply.body) == ["detail"]
    assert ("Allow" in reply.headers) is (status == 405)


async def test_garbage_does_not_hurt_the_server(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """One broken client would take the sandbox down, or fill the log of a user's tests with tracebacks."""
    host, _, port = api.sandbox.url.removeprefix("http://").partition(":")
    head = f"POST {EVENTS}x/bot/ HTTP/1.1\r\nHost: x\r\nAuthorization: Token {api.sandbox.api_key}\r\n"
    for garbage in (
        b"\x00\xff" * 100,
        b"GET\r\n\r\n",
        f"{head}Content-Length: -5\r\n\r\n".encode(),
        f"{head}Content-Length: 1000\r\n\r\nshort".encode(),
        f"{head}Transfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        f"{head}Content-Length: 3000000\r\n\r\n".encode() + b"x" * 3_000_000,
        b"GET /%ff%fe?%ff=%fe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://elsewhere.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //_sandbox//report HTTP/1.0\r\n\r\n",
    ):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(garbage)
        writer.write_eof()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    assert (await api.event(api.upcoming()[0]["id"]))["bots"] == []
    logged = [record.exc_info[1] for record in caplog.records if record.exc_info]
    assert [error for error in logged if not isinstance(error, aiohttp.http_exceptions.BadHttpMessage)] == []


async def test_an_http10_client_without_a_host_header_gets_links(api: Api) -> None:
    """A listing would fail, or link to nowhere, when the client does not say which host it asked."""
    host, _, port = api.sandbox.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {EVENTS} HTTP/1.0\r\nAuthorization: Token {api.sandbox.api_key}\r\n\r\n".encode())
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    assert msgspec.json.decode(body)["next"].startswith("http://")


async def test_binds_to_loopback_on_a_free_port(api: Api) -> None:
    """The sandbox would be open to the network, or its URL would not be where it listens."""
    assert api.sandbox.url.startswith("http://127.0.0.1:")
    assert not api.sandbox.url.endswith(":0")


async def test_a_taken_port_is_an_error_and_leaves_nothing_behind() -> None:
    """A second sandbox on one port would hang, leak, or fail in a thread where nobody sees it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(OSError):
            async with RecallSandbox(events=0, port=port):
                pass
        before = threading.active_count()
        with pytest.raises(OSError), RecallSandbox(events=0, port=port):
            pass
        assert threading.active_count() == before


async def test_nothing_listens_after_the_end_and_the_report_stays() -> None:
    """A port would stay open, or the numbers be gone before anybody read them."""
    async with (
        RecallSandbox(events=3) as sandbox,
        aiohttp.ClientSession() as http,
        http.get(f"{sandbox.url}/_sandbox/report") as response,
    ):
        report = await response.json()
    assert sandbox.report() == report
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.ClientConnectorError):
            await http.get(sandbox.url)


def test_not_started_is_said() -> None:
    """A forgotten `with` would show as an attribute error."""
    sandbox = RecallSandbox()
    for use in (lambda: sandbox.url, sandbox.report, sandbox.reset):
        with pytest.raises(RuntimeError, match="context manager"):
            use()


@pytest.mark.parametrize("settings", [{"calendars": 0}, {"events": -1}])
def test_impossible_sizes_are_refused(settings: dict[str, int]) -> None:
    """The error would come later, from somewhere deep."""
    with pytest.raises(ValueError, match="calendar"):
        RecallSandbox(**settings)


def test_works_from_synchronous_code() -> None:
    """Tests without an event loop, and their threads, could not use a sandbox."""
    with RecallSandbox(events=5, api_key="mine") as sandbox:
        request = urllib.request.Request(f"{sandbox.url}{EVENTS}", headers={"Authorization": "Token mine"})
        with urllib.request.urlopen(request, timeout=5) as response:
            assert len(msgspec.json.decode(response.read())["results"]) == 5
        sandbox.fault(status=503, times=None)
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(request, timeout=5)
        error.value.close()
        sandbox.clear_faults()
        assert sandbox.report()["operations"]["calendar_events.list"]["accepted"] == 1
        sandbox.reset()
        assert sandbox.report()["operations"]["calendar_events.list"]["accepted"] == 0
        with pytest.raises(ValueError, match="operation must be one of"):
            sandbox.fault("nothing")
    assert sandbox.report()["events"] == 5


async def test_serve_runs_until_cancelled() -> None:
    """The command would end at once, never say its URL, or not stop when interrupted."""
    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(RecallSandbox(events=3), lambda sandbox: started.set_result(sandbox.url)))
    url = await started
    async with aiohttp.ClientSession() as http, http.get(f"{url}/_sandbox/report") as response:
        assert (await response.json())["events"] == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.recall_sandbox(events=7, quota_scale=2)
def test_fixture_in_a_synchronous_test(recall_sandbox: RecallSandbox) -> None:
    """The installed fixture would not start, or not obey its marker."""
    with urllib.request.urlopen(f"{recall_sandbox.url}/_sandbox/report", timeout=5) as response:
        assert msgspec.json.decode(response.read()) == recall_sandbox.report()
    assert recall_sandbox.report()["events"] == 7


async def test_fixture_in_an_asynchronous_test(recall_sandbox: RecallSandbox) -> None:
    """The fixture could only be used without an event loop."""
    headers = {"Authorization": f"Token {recall_sandbox.api_key}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(f"{recall_sandbox.url}{EVENTS}") as response,
    ):
        assert response.status == 200


def test_the_plugin_does_not_import_the_server() -> None:
    """Every pytest run of everybody who has this package installed would pay for a server that it does not use."""
    code = "import sys, recall_async.sandbox.pytest_plugin; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "recall_async.sandbox.pytest_plugin" in modules
    assert "recall_async.sandbox.server" not in modules


def test_the_sandbox_shares_no_logic_with_the_client() -> None:
    """The sandbox would agree with the client because both are wrong in the same way."""
    for path in Path(recall_async.sandbox.__file__ or "").parent.glob("*.py"):
        if path.stem == "pytest_plugin":  # answers no request
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level != 1:
                assert node.level == 0, path
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            ours = [name for name in names if name.partition(".")[0] == "recall_async"]
            assert all(name.startswith("recall_async.operations") for name in ours), path
