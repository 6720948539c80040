"""A server with calendar events and bots that remembers what was asked of it, and fails where it is told to."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

from aiohttp import web


def event_id(number: int) -> str:
    """The id of an event, by its number."""
    return str(UUID(int=number + 1))


class Asked(NamedTuple):
    """A request that arrived."""

    event: int
    key: str | None
    """Its deduplication key; `None` for a removal."""


class World:
    """Every event exists and has the bots that were put on it: `{event number: {deduplication key: bot_config}}`."""

    def __init__(self) -> None:
        self.bots: dict[int, dict[str, Any]] = defaultdict(dict)
        self.asked: list[Asked] = []
        self.answered = 0
        self.most_in_flight = 0
        self.overlaps = 0
        """Requests that arrived while one with the same key or event was in flight."""
        self.statuses: Callable[[Asked], int] = lambda asked: 200
        self.gate = asyncio.Event()
        """Answers wait for it."""
        self.gate.set()
        self.latency = 0.0
        self.retry_after: int | None = None
        self._busy: Counter[object] = Counter()
        self._in_flight = 0
        self._arrived = asyncio.Condition()
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.01)
        self.url = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.gate.set()
        await self._runner.cleanup()

    async def close_down(self) -> None:
        """Refuse connections, and cut those off that are open."""
        await self._runner.cleanup()

    async def open_again(self, port: int) -> None:
        """Listen where it was."""
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port, reuse_address=True).start()

    async def arrived(self, number: int) -> None:
        """Return when this many requests have arrived."""
        async with self._arrived, asyncio.timeout(60):
            await self._arrived.wait_for(lambda: len(self.asked) >= number)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        event = UUID(request.path.split("/")[4]).int - 1
        document = json.loads(await request.read() or b"{}")
        asked = Asked(event, document.get("deduplication_key"))
        tokens: list[object] = [event] if asked.key is None else [event, asked.key]
        self.overlaps += any(self._busy[token] for token in tokens)
        self._busy.update(tokens)
        self._in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self._in_flight)
        self.asked.append(asked)
        async with self._arrived:
            self._arrived.notify_all()
        try:
            if self.latency:
                await asyncio.sleep(self.latency)
            await self.gate.wait()
            status = self.statuses(asked)
            if status == 400:
                return web.json_response({"errors": {"non_field_errors": ["The event has ended."]}}, status=400)
            if status != 200:
                headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
                return web.json_response({"detail": f"told to answer {status}"}, status=status, headers=headers)
            if asked.key is None:
                self.bots[event].clear()
            else:
                self.bots[event][asked.key] = document["bot_config"]
            return web.json_response(self._event(event))
        finally:
            self.answered += 1
            self._in_flight -= 1
            self._busy.subtract(tokens)

    def _event(self, event: int) -> dict[str, Any]:
        time = "2031-05-01T10:00:00Z"
        bots = [
            {
                "bot_id": event_id(event),
                "start_time": time,
                "deduplication_key": key,
                "meeting_url": "https://zoom.us/j/1",
            }
            for key in self.bots[event]
        ]
        return {
            "id": event_id(event),
            "start_time": time,
            "end_time": time,
            "calendar_id": event_id(0),
            "platform": "google_calendar",
            "created_at": time,
            "updated_at": time,
            "bots": bots,
        }
