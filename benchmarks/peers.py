"""The calls that are compared: ours, the least that does the same over aiohttp, and clients as people write them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import uuid4

import aiohttp
import msgspec

from recall_async import CalendarEvent, RecallSession

KEY = "0123456789abcdef0123456789abcdef01234567"


Call = Callable[[str], Awaitable[object]]
"""Schedules a bot on the event with this id."""


def scheduling(recall: RecallSession) -> Call:
    """Our call."""
    schedule = recall.calendar_events.schedule_bot

    async def call(event_id: str) -> object:
        return await schedule(event_id, deduplication_key=f"key-{event_id}", bot_config={"bot_name": "Notes"})

    return call


def posting(http: aiohttp.ClientSession, url: str, key: str = KEY) -> Call:
    """The same over bare aiohttp and msgspec: no quota, no retry, no errors, no deadlines."""
    encode = msgspec.json.Encoder().encode
    decode = msgspec.json.Decoder(CalendarEvent).decode

    async def call(event_id: str) -> object:
        async with http.post(
            f"{url}/api/v2/calendar-events/{event_id}/bot/",
            data=encode({"deduplication_key": f"key-{event_id}", "bot_config": {"bot_name": "Notes"}}),
            headers={
                "Authorization": f"Token {key}",
                "Content-Type": "application/json",
                "Idempotency-Key": str(uuid4()),
            },
        ) as answer:
            return decode(await answer.read())

    return call


class Peer:
    """A client as people write it: a limiter in front of aiohttp, and a 429 waited out for its `Retry-After`.

    Schedules bots one request at a time, each let go by `acquire`, and again until the server accepts it.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, acquire: Callable[[], Awaitable[object]]) -> None:
        self._http = http
        self._url = url
        self._acquire = acquire
        self.rejected = 0

    async def call(self) -> None:
        """One bot scheduled on an event of its own."""
        event_id = uuid4()
        attempt = 0
        while True:
            await self._acquire()
            async with self._http.post(
                f"{self._url}/api/v2/calendar-events/{event_id}/bot/",
                json={"deduplication_key": f"key-{event_id}", "bot_config": {"bot_name": "Notes"}},
                headers={"Authorization": f"Token {KEY}"},
            ) as answer:
                await answer.read()
                if answer.status != 429:
                    answer.raise_for_status()
                    return
            self.rejected += 1
            attempt += 1
            await asyncio.sleep(self.backoff(attempt, float(answer.headers["Retry-After"])))

    def backoff(self, attempt: int, retry_after: float) -> float:
        """Seconds to wait after the attempt with this number, from 1."""
        return retry_after


def connections() -> aiohttp.ClientSession:
    """A session that opens as many connections as there are requests: what limits is the limiter alone."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
