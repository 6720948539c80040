"""The apps of docs/web.md and docs/fastapi.md do what the pages say, under the servers that they name."""

from __future__ import annotations

import io
import json
import re
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import pytest

from recall_async import RecallSession
from recall_async.sandbox import RecallSandbox
from recall_async.webhooks import sign
from tests.redis.server import RedisProcess
from tests.web.conftest import DOCS, SECRET, program

pytestmark = pytest.mark.recall_sandbox(events=60, calendars=2, quota_scale=20)
UVICORN = ("-m", "uvicorn", "backend:app", "--port", "{port}", "--log-level", "warning")
BACKENDS = {
    "aiohttp": ("-c", "from aiohttp import web; import backend; web.run_app(backend.app, port={port}, print=None)"),
    "Starlette": UVICORN,
    "Litestar": UVICORN,
    "Django": ("-m", "uvicorn", "backend:application", "--port", "{port}", "--log-level", "warning"),
}
UNKNOWN = "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"
RETRIEVE = "calendar_events.retrieve"
HALF = b"POST /webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
"""A request whose sender takes its time."""


def upcoming(sandbox: RecallSandbox, *, linked: bool = True) -> list[dict[str, Any]]:
    """Events that can have a bot, or those that cannot because they have no meeting URL."""
    soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    events = sandbox.snapshot()["events"]
    return [e for e in events if e["start_time"] > soon and bool(e["meeting_url"]) is linked and not e["is_deleted"]]


async def statuses(url: str, sandbox: RecallSandbox) -> dict[str, tuple[int, str | None]]:
    """What a backend answers: when all is well, to ids that are wrong, to other methods, to a refused key, and while
    the quota is used up."""
    event_id = upcoming(sandbox)[0]["id"]

    async with aiohttp.ClientSession(url) as http:

        async def put(event: str) -> tuple[int, str | None]:
            async with http.put(f"/events/{event}/bot") as answer:
                return answer.status, answer.headers.get("Retry-After")

        found = {"well": await put(event_id), "unknown": await put(UNKNOWN)}
        found["no link"] = await put(upcoming(sandbox, linked=False)[0]["id"])
        found["no id"] = await put("-" * 36)
        async with http.get(f"/events/{event_id}/bot") as answer:
            found["GET"] = answer.status, None
        sandbox.fault(RETRIEVE, status=401)
        found["refused"] = await put(event_id)
        sandbox.fault(RETRIEVE, status=429, headers={"Retry-After": "40.3"})
        found["busy"] = await put(event_id)
        return found


EXPECTED = {
    "well": (200, None),
    "unknown": (404, None),
    "no link": (409, None),
    "no id": (404, None),
    "GET": (405, None),
    "refused": (502, None),
    "busy": (503, "41"),
}


@pytest.mark.parametrize("name", BACKENDS)
async def test_backend(name: str, serve: Callable[..., Any], recall_sandbox: RecallSandbox) -> None:
    """A reader who copies this app answers 500 to what the page says is handled, or does not stop."""
    with serve(program("web.md", name), *BACKENDS[name]) as url:
        assert await statuses(url, recall_sandbox) == EXPECTED
    assert len(recall_sandbox.snapshot()["bots"]) == 1


async def test_fastapi(serve: Callable[..., Any], recall_sandbox: RecallSandbox, shared_redis: RedisProcess) -> None:
    """The complete app loses jobs between its workers, believes forged webhooks, or hangs when it is stopped."""
    with serve(program("fastapi.md"), *fastapi_command(), RECALL_REDIS_URL=shared_redis.url) as url:
        await webhooks(url, recall_sandbox)
        await job(url, recall_sandbox)
        assert await statuses(url, recall_sandbox) == EXPECTED | {"no id": (422, None)}
    assert recall_sandbox.report()["operations"]["calendar_events.schedule_bot"]["throttled"] == 0


@pytest.mark.slow
async def test_fastapi_without_redis_and_with_clients_that_hang(
    serve: Callable[..., Any], recall_sandbox: RecallSandbox
) -> None:
    """Handlers would hang or answer 502 while Redis is away; half a request would make the shutdown endless."""
    with serve(program("fastapi.md"), *fastapi_command(), RECALL_REDIS_URL="redis://127.0.0.1:1") as url:
        port = int(url.rpartition(":")[2])
        async with aiohttp.ClientSession(url) as http, http.get(f"/jobs/{UNKNOWN}") as answer:
            assert (answer.status, answer.headers.get("Retry-After")) == (503, "1")
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
        clients[0].sendall(HALF)
        assert b" 408 " in clients[0].recv(100)
        for client in clients[1:]:
            client.sendall(HALF)
    for client in clients:
        client.close()


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1], ids=["aiohttp", "fastapi"])
async def test_webhook_handlers_stop(number: int, serve: Callable[..., Any], recall_sandbox: RecallSandbox) -> None:
    """A client or a server that hangs would make the shutdown endless, or a delivery could fill the memory."""
    text = (DOCS / "webhooks.md").read_text()
    source = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)[number]
    arguments = re.findall(r"`web\.run_app\(app, (.+?)\)`", text)[0].replace("=10", "=2")
    run_app = (
        f"from aiohttp import web; import backend; web.run_app(backend.app, port={{port}}, print=None, {arguments})"
    )
    options = re.findall(r"`uvicorn app:app (.+?)`", text)[0].replace(" 10", " 2").split()
    recall_sandbox.fault("calendars.list", kind="hang", times=None)
    with serve(source, *(["-c", run_app] if number == 0 else [*UVICORN, *options])) as url:
        async with aiohttp.ClientSession(url) as http:
            large = b" " * 1_100_000
            async with http.post("/webhooks", data=io.BytesIO(large), headers=sign(large, SECRET)) as answer:
                assert answer.status == 413
        client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        client.sendall(HALF)
        until(lambda: recall_sandbox.report()["operations"]["calendars.list"]["peak"] > 0)
    client.close()


def fastapi_command() -> list[str]:
    """The command of the page."""
    found = re.search(r"^uvicorn (.+)$", (DOCS / "fastapi.md").read_text(), re.M)
    assert found is not None
    return ["-m", "uvicorn", "--port", "{port}", "--log-level", "warning", *found[1].split()]


async def webhooks(url: str, sandbox: RecallSandbox) -> None:
    """Deliveries: forged, too large, and one that makes the bots of a calendar be scheduled."""
    calendar = upcoming(sandbox)[0]["calendar_id"]
    data = {"calendar_id": calendar, "last_updated_ts": "2020-01-01T00:00:00Z"}
    body = json.dumps({"event": "calendar.sync_events", "data": data}).encode()
    async with aiohttp.ClientSession(url) as http:

        async def post(body: bytes, headers: dict[str, str]) -> int:
            async with http.post("/webhooks", data=body, headers=headers) as answer:
                return answer.status

        assert await post(body + b" ", sign(body, SECRET)) == 400
        large = b" " * 1_040_000
        assert await post(large, sign(large, SECRET)) == 413
        assert await post(b"{}", sign(b"{}", SECRET)) == 204
        until(lambda: all(event["bots"] for event in upcoming(sandbox)))  # both workers have looked at everything
        event_id = next(event["id"] for event in upcoming(sandbox) if event["calendar_id"] == calendar)
        async with RecallSession(sandbox.api_key, base_url=sandbox.url) as recall:
            await recall.calendar_events.remove_bot(event_id)
        assert await post(body, sign(body, SECRET)) == 204
    until(lambda: all(event["bots"] for event in upcoming(sandbox)))


async def job(url: str, sandbox: RecallSandbox) -> None:
    """A job that is submitted to one worker, and asked for at whichever answers."""
    # A connection for each request: which worker gets it, the kernel decides.
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(force_close=True)) as http:
        async with http.post("/jobs") as answer:
            assert answer.status == 202, await answer.text()
            submitted = await answer.json()
        assert submitted["total"] >= len(upcoming(sandbox))
        async with http.get(f"/jobs/{UNKNOWN}") as answer:
            assert answer.status == 404
        deadline = time.monotonic() + 60
        while True:
            async with http.get(f"/jobs/{submitted['name']}") as answer:
                status = await answer.json()
            if status["finished"]:
                break
            assert time.monotonic() < deadline, status
    assert (status["done"], status["failed"]) == (submitted["total"], 0)


def until(condition: Callable[[], bool]) -> None:
    """Return once a condition holds in another process."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)
