"""Webhooks that the sandbox sends, signed and repeated like those of the API.

The signature follows https://www.standardwebhooks.com in an implementation of its own: the sandbox shares no code
with the client.

Documentation: https://docs.recall.ai/docs/calendar-v2-webhooks
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import time
from collections import deque
from ipaddress import ip_address
from secrets import token_hex
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import aiohttp

from .life import Notice
from .replies import encode

SECRET = "whsec_c2FuZGJveC13ZWJob29rLXNlY3JldC0yNGI="
"""The default secret."""
REPEATS = (0.2, 1.0, 5.0, 30.0)
"""Seconds after which a delivery without a 2xx response is repeated. The API repeats it for 28 hours."""
TIMEOUT = aiohttp.ClientTimeout(total=15)
AT_ONCE = 20
"""The most deliveries that are sent at the same time."""
HeaderNames = Literal["webhook", "svix"]


class Delivery(NamedTuple):
    """A message to send to a URL."""

    message_id: str
    url: str
    body: bytes
    attempt: int


class Webhooks:
    """Send deliveries to an optional URL and to the URLs of calendars."""

    def __init__(self, url: str | None, secret: str, header_names: HeaderNames = "webhook") -> None:
        if header_names not in ("webhook", "svix"):
            raise ValueError(f"webhook_headers must be 'webhook' or 'svix', got {header_names!r}")
        self.url = url
        self.delivered: int = 0
        self.failed: int = 0
        """Number of deliveries that failed after all repeats."""
        self._header_names = header_names
        self._key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        self._ready: deque[Delivery] = deque()
        self._pending = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._http: aiohttp.ClientSession | None = None
        self._closed = False

    def send(self, notice: Notice, own_url: str | None = None) -> None:
        """Send a webhook, also to the calendar's `own_url` if that is on this machine or on the host of all webhooks.

        Other URLs get nothing: tests may create calendars with production URLs.
        """
        if self._closed:
            return
        urls = {self.url} if self.url is not None else set()
        if own_url is not None and (_is_local(own_url) or _host(own_url) == _host(self.url or "") != ""):
            urls.add(own_url)
        body = encode({"event": notice.event, "data": notice.data})
        for url in urls:
            self._pending += 1
            # A random id: after a restart, a counter would repeat ids that a receiver already stored.
            self._start(Delivery(f"msg_{token_hex(12)}", url, body, 0))

    def report(self) -> dict[str, int]:
        """Return how many deliveries succeeded, failed after all repeats, and are pending."""
        return {"delivered": self.delivered, "failed": self.failed, "pending": self._pending}

    async def aclose(self) -> None:
        """Drop the pending deliveries, and send nothing more."""
        self._closed = True
        self._ready.clear()
        for timer in self._timers:
            timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._pending = 0
        if self._http is not None:
            await self._http.close()

    def _start(self, delivery: Delivery) -> None:
        self._ready.append(delivery)
        if len(self._tasks) < AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._work())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _work(self) -> None:
        while self._ready:
            delivery = self._ready.popleft()
            if await self._attempt(delivery):
                self.delivered += 1
                self._pending -= 1
            elif delivery.attempt < len(REPEATS):
                self._repeat_later(delivery)
            else:
                self.failed += 1
                self._pending -= 1

    def _repeat_later(self, delivery: Delivery) -> None:
        def repeat() -> None:
            self._timers.discard(timer)
            self._start(delivery._replace(attempt=delivery.attempt + 1))

        timer = asyncio.get_running_loop().call_later(REPEATS[delivery.attempt], repeat)
        self._timers.add(timer)

    async def _attempt(self, delivery: Delivery) -> bool:
        self._http = self._http or aiohttp.ClientSession(timeout=TIMEOUT)
        try:
            async with self._http.post(delivery.url, data=delivery.body, headers=self._headers(delivery)) as answer:
                return 200 <= answer.status < 300
        except (aiohttp.ClientError, TimeoutError, ValueError):  # ValueError: an invalid URL
            return False

    def _headers(self, delivery: Delivery) -> dict[str, str]:
        moment = str(int(time.time()))
        signed = f"{delivery.message_id}.{moment}.".encode() + delivery.body
        signature = base64.b64encode(hmac.new(self._key, signed, hashlib.sha256).digest()).decode()
        name = self._header_names.title()
        return {
            "Content-Type": "application/json",
            f"{name}-Id": delivery.message_id,
            f"{name}-Timestamp": moment,
            f"{name}-Signature": f"v1,{signature}",
        }


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def _is_local(url: str) -> bool:
    host = _host(url)
    try:
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False
