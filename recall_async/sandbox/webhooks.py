"""Webhooks that the sandbox sends when its data changes, signed and repeated as the API does it.

The signature is that of https://www.standardwebhooks.com, written anew here: the sandbox shares no logic with the client.

Documentation: https://docs.recall.ai/docs/calendar-v2-webhooks
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import Iterable
from datetime import datetime
from itertools import count
from typing import Any

import aiohttp

from .answers import encode

SECRET = "whsec_c2FuZGJveC13ZWJob29rLXNlY3JldC0yNGI="
"""What the sandbox signs with, unless it is told otherwise."""
REPEATS = (0.2, 1.0, 5.0, 30.0)
"""Seconds after which a delivery that was not answered with 2xx is repeated. The API goes on for 28 hours."""
TIMEOUT = aiohttp.ClientTimeout(total=15)
AT_ONCE = 20
"""Deliveries that are on their way at the same time."""


class Webhooks:
    """Sends deliveries to one address, or to none."""

    def __init__(self, url: str | None, secret: str) -> None:
        self.url = url
        self.secret = secret
        self.delivered = 0
        self.failed = 0
        """Deliveries that were given up."""
        self._key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        self._numbers = count(1)
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: aiohttp.ClientSession | None = None

    def events_changed(self, calendar_ids: Iterable[str], moment: datetime) -> None:
        """Tells of events that changed at `moment`, calendar by calendar."""
        for calendar_id in calendar_ids:
            self._send("calendar.sync_events", {"calendar_id": calendar_id, "last_updated_ts": moment})

    def calendar_changed(self, calendar_id: str) -> None:
        """Tells of a calendar that changed itself."""
        self._send("calendar.update", {"calendar_id": calendar_id})

    def report(self) -> dict[str, int]:
        """How many deliveries arrived, were given up, and are on their way."""
        return {"delivered": self.delivered, "failed": self.failed, "pending": len(self._tasks)}

    async def aclose(self) -> None:
        """Forgets what is on its way, and sends nothing more."""
        self.url = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()

    def _send(self, event: str, data: dict[str, Any]) -> None:
        if self.url is None:
            return
        body = encode({"event": event, "data": data})
        task = asyncio.get_running_loop().create_task(self._deliver(f"msg_{next(self._numbers):08d}", self.url, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, message_id: str, url: str, body: bytes) -> None:
        for pause in (0.0, *REPEATS):
            await asyncio.sleep(pause)
            async with self._slots:
                if await self._attempt(message_id, url, body):
                    self.delivered += 1
                    return
        self.failed += 1

    async def _attempt(self, message_id: str, url: str, body: bytes) -> bool:
        self._http = self._http or aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            async with self._http.post(url, data=body, headers=self._headers(message_id, body)) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError):
            return False

    def _headers(self, message_id: str, body: bytes) -> dict[str, str]:
        moment = str(int(time.time()))
        digest = hmac.new(self._key, f"{message_id}.{moment}.".encode() + body, hashlib.sha256).digest()
        return {
            "Content-Type": "application/json",
            "Webhook-Id": message_id,
            "Webhook-Timestamp": moment,
            "Webhook-Signature": "v1," + base64.b64encode(digest).decode(),
        }
