"""A sandbox whose clocks stand still until a test moves them, and a plain HTTP session to talk to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import aiohttp
import pytest

from recall_async.sandbox import RecallSandbox
from recall_async.sandbox.state import State

EVENTS = "/api/v2/calendar-events/"
CALENDARS = "/api/v2/calendars/"
SCHEDULE = "calendar_events.schedule_bot"
REMOVE = "calendar_events.remove_bot"
RETRIEVE = "calendar_events.retrieve"


class Clock:
    """Time that passes only when it is told to: seconds for quotas, a date for data."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._epoch = datetime(2025, 6, 10, 12, 30, tzinfo=UTC)

    def __call__(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return self._epoch + timedelta(seconds=self.seconds - 1000.0)


class Reply(NamedTuple):
    """What came back."""

    status: int
    body: Any
    headers: dict[str, str]


class Api:
    """Sends requests to one sandbox."""

    def __init__(self, sandbox: RecallSandbox, http: aiohttp.ClientSession, clock: Clock) -> None:
        self.sandbox = sandbox
        self.http = http
        self.clock = clock

    @property
    def state(self) -> State:
        """The sandbox's own objects, for what no request can change."""
        server = self.sandbox._server
        assert server is not None
        return server.workspace.state

    async def send(self, method: str, path: str, **options: Any) -> Reply:
        url = path if path.startswith("http") else self.sandbox.url + path
        options.setdefault("headers", {}).setdefault("Authorization", f"Token {self.sandbox.api_key}")
        async with self.http.request(method, url, allow_redirects=False, **options) as response:
            text = await response.text()
            is_json = response.content_type == "application/json"
            return Reply(response.status, await response.json() if text and is_json else text, dict(response.headers))

    async def schedule(self, event_id: str, key: str, *, idempotency_key: str | None = None, **config: Any) -> Reply:
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        document = {"deduplication_key": key, "bot_config": config}
        return await self.send("POST", f"{EVENTS}{event_id}/bot/", json=document, headers=headers)

    async def remove(self, event_id: str) -> Reply:
        return await self.send("DELETE", f"{EVENTS}{event_id}/bot/")

    async def event(self, event_id: str) -> dict[str, Any]:
        reply = await self.send("GET", f"{EVENTS}{event_id}/")
        assert reply.status == 200
        event: dict[str, Any] = reply.body
        return event

    def events(self, wanted: Callable[[dict[str, Any]], bool] = lambda event: True) -> list[dict[str, Any]]:
        """All events that are wanted, by start time and id, without a request."""
        events = filter(wanted, self.sandbox.snapshot()["events"])
        return sorted(events, key=lambda event: (moment(event["start_time"]), event["id"]))

    def is_upcoming(self, event: dict[str, Any]) -> bool:
        return bool(event["meeting_url"] and not event["is_deleted"] and moment(event["start_time"]) > self.clock.now())

    def upcoming(self) -> list[dict[str, Any]]:
        return self.events(self.is_upcoming)

    def counts(self, operation: str) -> dict[str, int]:
        counts: dict[str, int] = self.sandbox.report()["operations"][operation]
        return counts


async def until_counted(api: Api, operation: str, number: int) -> None:
    """Returns once the server has counted that many requests."""
    while api.counts(operation)["peak"] < number:  # noqa: ASYNC110 (the server has no event to wait for)
        await asyncio.sleep(0)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def start(clock: Clock) -> AsyncIterator[Callable[..., Any]]:
    """Starts a sandbox with the settings given, and gives an `Api` for it."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Api:
            settings = {"events": 120, "clock": clock, "now": clock.now, **settings}
            sandbox = await stack.enter_async_context(RecallSandbox(**settings))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            return Api(sandbox, http, clock)

        yield start


@pytest.fixture
async def api(start: Callable[..., Any]) -> Api:
    api: Api = await start()
    return api
