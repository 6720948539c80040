"""The programs in docs/webhooks.md: the handlers take the sandbox's deliveries, the others run."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from recall_async import RecordingPolicy
from recall_async.sandbox import RecallSandbox
from tests.sync.conftest import SCALE, connected
from tests.webhooks.receiver import receiver, until

PAGE = (Path(__file__).parent.parent.parent / "docs" / "webhooks.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
HANDLERS = [program for program in PROGRAMS if "WebhookVerificationError as error" in program]
OTHERS = [program for program in PROGRAMS if program not in HANDLERS]


@asynccontextmanager
async def served_asgi(app: Any) -> AsyncIterator[str]:
    """An ASGI application, which has no server among this project's dependencies, behind aiohttp's."""
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    lifespan = asyncio.create_task(app({"type": "lifespan", "asgi": {"version": "3.0"}}, said.get, heard.put))
    await said.put({"type": "lifespan.startup"})
    assert (await heard.get())["type"] == "lifespan.startup.complete"

    async def handle(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "scheme": "http",
            "path": request.path,
            "raw_path": request.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode()) for name, value in request.headers.items()],
        }
        answers: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            answers.append(message)

        await app(scope, receive, send)
        text = b"".join(answer.get("body", b"") for answer in answers)
        return web.Response(status=answers[0]["status"], body=text or None)

    async with receiver(handle) as url:
        yield url
    await said.put({"type": "lifespan.shutdown"})
    assert (await heard.get())["type"] == "lifespan.shutdown.complete"
    await lifespan


@pytest.mark.parametrize("program", HANDLERS, ids=["aiohttp", "fastapi"])
async def test_handler(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who copies this handler turns deliveries away, believes forged ones, or has bots in the wrong places."""
    async with RecallSandbox(events=80, calendars=3, quota_scale=SCALE) as sandbox, connected(sandbox) as recall:
        monkeypatch.setenv("RECALL_API_KEY", sandbox.api_key)
        monkeypatch.setenv("RECALL_BASE_URL", sandbox.url)
        monkeypatch.setenv("RECALL_WEBHOOK_SECRET", sandbox.webhook_secret)
        namespace: dict[str, Any] = {"__name__": "webhooks_page"}
        exec(compile(program, "webhooks.md", "exec"), namespace)
        app = namespace["app"]
        policy = RecordingPolicy(external_only=True, bot_config={"bot_name": "Notes"})
        async for _ in recall.apply(await recall.plan(policy=policy)):
            pass
        async with (receiver if isinstance(app, web.Application) else served_asgi)(app) as url:
            async with aiohttp.ClientSession() as http, http.post(url, data=b"{}") as answer:
                assert (answer.status, "not signed" in await answer.text()) == (400, True)
            sandbox.send_webhooks_to(url)
            sandbox.mutate(30)
            await until(lambda: not sandbox.webhooks()["pending"])
        assert sandbox.webhooks()["failed"] == 0
        assert not await recall.plan(policy=policy)


@pytest.mark.recall_sandbox(events=40, calendars=2)
@pytest.mark.parametrize("program", OTHERS)
def test_program_runs(program: str, recall_sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    """A reader who copies this program gets an error."""
    monkeypatch.setenv("RECALL_API_KEY", recall_sandbox.api_key)
    monkeypatch.setenv("RECALL_BASE_URL", recall_sandbox.url)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "webhooks.md", "exec"), {"__name__": "__main__"})


def test_there_are_two_handlers() -> None:
    """The tests above say nothing, because no handler is found on the page."""
    assert len(HANDLERS) == 2
    assert len(OTHERS) == 3
