"""The programs in docs/did-the-bot-join.md: the application follows the sandbox's bots, the others run."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from recall_async import RecallSession
from recall_async.sandbox import RecallSandbox
from tests.webhooks.receiver import receiver, until

PAGE = (Path(__file__).parent.parent.parent / "docs" / "did-the-bot-join.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
APPLICATION = next(program for program in PROGRAMS if "web.Application()" in program)


def run(program: str, name: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": name}
    exec(compile(program, "did-the-bot-join.md", "exec"), namespace)
    return namespace


@pytest.fixture
def _settings(recall_sandbox: RecallSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RECALL_API_KEY", recall_sandbox.api_key)
    monkeypatch.setenv("RECALL_BASE_URL", recall_sandbox.url)
    monkeypatch.setenv("RECALL_WEBHOOK_SECRET", recall_sandbox.webhook_secret)
    monkeypatch.chdir(tmp_path)


async def upcoming(recall_sandbox: RecallSandbox) -> list[Any]:
    soon = datetime.now(UTC) + timedelta(minutes=10)
    async with RecallSession(recall_sandbox.api_key, base_url=recall_sandbox.url) as recall:
        found = recall.calendar_events.list(start_time__gte=soon, is_deleted=False)
        return [event async for event in found if event.meeting_url]


@pytest.mark.usefixtures("_settings")
@pytest.mark.recall_sandbox(events=60, calendars=1)
async def test_the_application(recall_sandbox: RecallSandbox) -> None:
    """A reader who copies the application is not told what became of a bot, or something wrong."""
    first, second = (await upcoming(recall_sandbox))[:2]
    page = run(APPLICATION, "did_the_bot_join")
    try:
        async with receiver(page["app"]) as url, aiohttp.ClientSession() as http:
            base = url.removesuffix("/webhooks")

            async def call(method: str, path: str) -> Any:
                async with http.request(method, base + path) as answer:
                    assert answer.status == 200, await answer.text()
                    return await answer.json()

            async with http.post(url, data=b"{}") as answer:
                assert answer.status == 400
            bots = [(await call("POST", f"/events/{event.id}/bot"))["bot"] for event in (first, second)]
            assert await call("GET", f"/events/{first.id}/bots") == [
                {"bot": bots[0], "status": "ready", "reason": None, "videos": []}
            ]
            recall_sandbox.send_webhooks_to(url)
            recall_sandbox.fail_bot(bots[0], "meeting_not_started")
            recall_sandbox.advance((second.end_time - datetime.now(UTC)).total_seconds() + 3600)
            await until(lambda: not recall_sandbox.webhooks()["pending"])
            assert recall_sandbox.webhooks()["failed"] == 0
            assert await call("GET", f"/events/{first.id}/bots") == [
                {"bot": bots[0], "status": "fatal", "reason": "meeting_not_started", "videos": []}
            ]
            (bot,) = await call("GET", f"/events/{second.id}/bots")
            assert (bot["bot"], bot["status"]) == (bots[1], "done")
            assert bot["videos"][0].startswith("https://media.example/")
    finally:
        page["database"].close()


@pytest.mark.usefixtures("_settings")
@pytest.mark.recall_sandbox(events=60, calendars=1)
@pytest.mark.parametrize("program", [program for program in PROGRAMS if "asyncio.run(" in program])
def test_program_runs(program: str, recall_sandbox: RecallSandbox, capsys: pytest.CaptureFixture[str]) -> None:
    """A reader who copies this program gets an error."""
    run(program, "__main__")
    if "fail_bot" in program:
        assert capsys.readouterr().out == "fatal meeting_not_started None\n"


@pytest.mark.recall_sandbox(events=60, calendars=1)
async def test_stopping_a_recording(recall_sandbox: RecallSandbox) -> None:
    """A reader who copies the function leaves a bot in its meeting."""
    page = run(next(program for program in PROGRAMS if "def stop_recording" in program), "page")
    first, second = (await upcoming(recall_sandbox))[:2]
    async with RecallSession(recall_sandbox.api_key, base_url=recall_sandbox.url) as recall:
        for event in (first, second):
            await recall.calendar_events.schedule_bot(event.id, deduplication_key=event.id)
        await page["stop_recording"](recall, second.id)
        assert (await recall.calendar_events.retrieve(second.id)).bots == ()
        recall_sandbox.advance((first.start_time - datetime.now(UTC)).total_seconds() + 60)
        await page["stop_recording"](recall, first.id)
        (reference,) = (await recall.calendar_events.retrieve(first.id)).bots
        assert (await recall.bots.retrieve(reference.bot_id)).sub_code == "bot_received_leave_call"
        await page["stop_recording"](recall, first.id)


def test_the_programs_are_found() -> None:
    """The tests above say nothing, because no program is found on the page."""
    assert len(PROGRAMS) == 6
