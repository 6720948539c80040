"""The API as its users know it: an exact sliding window for each operation, upserts and removals, idempotency keys,
conflicts of deduplication keys, pages; and a record of all that was asked of it, by which a run is judged.

It shares nothing with the client. Everything random follows from the seed of the run.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from random import Random
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.whole.faults import Fault, Faults
from tests.whole.network import ClientEnd, Network, NetworkLoop

EPOCH = datetime(2026, 5, 1, 12, tzinfo=UTC)
"""The time of day at which the loop's clock stands at 0."""
PAGE = 3
"""Events on a page."""
NOBODY = "00000000-0000-4000-a000-000000000000"
"""The calendar of events that no calendar's owner changes."""


class Reply(NamedTuple):
    """What a request is answered."""

    status: int
    document: Any = None
    wait: float | None = None
    """Seconds to wait, which the answer says as a number or as a date."""
    as_date: bool = False


@dataclass(eq=False)
class Asked:
    """One request, and what became of it."""

    end: ClientEnd
    operation: str
    target: str
    """The id in the path."""
    body: dict[str, Any]
    key: str | None
    """The idempotency key."""
    query: dict[str, list[str]]
    sent_at: float
    connected_at: float | None
    """When its connection was made, if it is the first one on it."""
    process: str
    """Which of the two places for sessions it came from."""
    fault: Fault = Fault.NONE
    counted_at: float | None = None
    effect_at: float | None = None
    status: int | None = None
    retry_after: float | None = None
    """Seconds that the answer told the client to wait."""
    answered_at: float | None = None

    def __str__(self) -> str:
        times = {"counted": self.counted_at, "effect": self.effect_at, "answered": self.answered_at}
        told = ", ".join(f"{what} {when:.6f}" for what, when in times.items() if when is not None)
        what = f"{self.operation} {self.target} {self.nonce or ''}"
        return f"{self.sent_at:.6f} {what} on {self.end.number}: {self.fault.name} {self.status} {told}"

    @property
    def nonce(self) -> str | None:
        """What the request was for: every action of a run puts a name of its own into what it sends."""
        config = self.body.get("bot_config")
        return config.get("bot_name") if isinstance(config, dict) else self.body.get("oauth_email")


class Bot(NamedTuple):
    """A bot on an event, under the name that the request gave it."""

    name: str
    start: datetime
    meeting_url: str


@dataclass(eq=False)
class Event:
    """A calendar event, with its bots by deduplication key."""

    over: bool = False
    dispatched: bool = False
    calendar: str = NOBODY
    start: datetime = EPOCH
    meeting_url: str = "https://zoom.us/j/1"
    wanted: bool = True
    """The calendar's owner wants it recorded."""
    deleted: bool = False
    changed: datetime = EPOCH
    bots: dict[str, Bot] = field(default_factory=dict)

    @property
    def names(self) -> dict[str, str]:
        """The names of its bots by deduplication key."""
        return {key: bot.name for key, bot in self.bots.items()}


class Server:
    """The model. `limits` are requests per `per` seconds by operation; no request is counted later than `latest` seconds
    after it was sent, which is what clients rely on for those that they gave up."""

    def __init__(
        self, loop: NetworkLoop, network: Network, random: Random, faults: Faults, limits: dict[str, int], per: float,
        latest: float, timeout: float,
    ) -> None:  # fmt: skip
        self._loop, self._random, self.faults = loop, random, faults
        self.limits, self._per, self._latest, self._timeout = limits, per, latest, timeout
        self.events: dict[str, Event] = {}
        self.calendars: dict[str, str] = {}
        """Names of calendars by their ids."""
        self.asked: list[Asked] = []
        self.refused: list[Asked] = []
        """What the throttle rejected."""
        self._windows: dict[str, deque[float]] = {name: deque() for name in limits}
        self._answers: dict[
            tuple[str, str, str], Reply | None
        ] = {}  # by idempotency key; None while it is being worked on
        self._keys: dict[str, Asked] = {}
        self.clashes: list[Asked] = []
        """Requests that met one with the same deduplication key for which the client still waited."""
        self._broke_until = -math.inf
        self.tasks: set[asyncio.Task[None]] = set()
        self.url = f"http://127.0.0.1:{len(network.accept) + 80}"
        network.accept[len(network.accept) + 80] = lambda end: Connection(self, end)
        network.refuses = lambda: self.faults.happens()

    def receive(self, asked: Asked) -> None:
        """Work on a request."""
        asked.fault = self.faults.draw()
        self.asked.append(asked)
        task = self._loop.create_task(self._serve(asked))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, asked: Asked) -> None:
        random, end = self._random, asked.end
        match asked.fault:
            case Fault.RESET_BEFORE:
                return end.reset()
            case Fault.GATEWAY:
                return self._answer(
                    asked, Reply(random.choice((502, 503, 504)), wait=self._maybe_wait(), as_date=random.random() < 0.2)
                )
            case Fault.GATEWAY_EARLY:
                self._answer(asked, Reply(random.choice((502, 503, 504))))
                await self._lie(asked)
            case Fault.THROTTLED:
                return self._answer(
                    asked, Reply(429, {"detail": "Slow down."}, self._maybe_wait(), random.random() < 0.2)
                )
            case Fault.BLOCKED:
                return self._answer(asked, Reply(403, {"code": "request_blocked"}))
            case Fault.SLOW_BEFORE:
                await self._lie(asked)
        reply = await self._work(asked)
        match asked.fault:
            case Fault.RESET_AFTER:
                return end.reset()
            case Fault.CLOSED_AFTER:
                return end.finish()
            case Fault.GATEWAY_AFTER:
                reply = Reply(random.choice((502, 503, 504)), wait=self._maybe_wait(), as_date=random.random() < 0.2)
            case Fault.SLOW_AFTER:
                await asyncio.sleep(self._timeout * (0.5 + random.random()))
            case Fault.MIXED_UP if isinstance(reply.document, dict) and "id" in reply.document and asked.target:
                reply = reply._replace(document={**reply.document, "id": NOBODY})
            case Fault.TRUNCATED | Fault.GARBLED if reply.status < 300:
                return self._answer(asked, reply, spoilt=asked.fault)
        return self._answer(asked, reply)

    async def _lie(self, asked: Asked) -> None:
        """Be late in counting a request, but not later than clients are promised."""
        left = asked.sent_at + self._latest - self._loop.time()
        await asyncio.sleep(max(0.0, left * self._random.random()))

    def _maybe_wait(self) -> float | None:
        return self._random.choice((None, 0, 1, 2, 4))

    def forget(self) -> None:
        """Forget what is over, so that a long run takes no more memory than a short one."""
        self.asked.clear()
        self.calendars.clear()
        self._answers.clear()

    def now(self) -> datetime:
        """The time of day."""
        return EPOCH + timedelta(seconds=self._loop.time())

    async def bother(self) -> None:
        """Let somebody use the workspace, too, whom no client knows of."""
        while True:
            await asyncio.sleep(self._random.random() * self._per)
            operation = self._random.choice(list(self.limits))
            for _ in range(self._random.randint(1, self.limits[operation])):
                self._count(operation)

    def _count(self, operation: str) -> float | None:
        """Count a request now; or say how many seconds are left until one could be."""
        now, window = self._loop.time(), self._windows[operation]
        while window and window[0] <= now - self._per:
            window.popleft()
        if len(window) >= self.limits[operation]:
            return window[0] + self._per - now
        window.append(now)
        return None

    # The application.

    async def _work(self, asked: Asked) -> Reply:
        now = self._loop.time()
        if (left := self._count(asked.operation)) is not None:
            self.refused.append(asked)
            return Reply(429, {"detail": "Request was throttled."}, math.ceil(left))
        asked.counted_at = now
        if asked.fault is Fault.BROKE:
            self._broke_until = now + 1
        if now < self._broke_until:
            return Reply(402, {"code": "insufficient_credit"})
        if asked.key is None:
            return await self._perform(asked)
        name = (asked.operation, asked.target, asked.key)
        if name in self._answers:
            earlier = self._answers[name]
            return earlier if earlier is not None else Reply(409, {"detail": "This key is being worked on."})
        self._answers[name] = None
        reply = await self._perform(asked)
        if reply.status == 409:
            del self._answers[name]
        else:
            self._answers[name] = reply
        return reply

    async def _perform(self, asked: Asked) -> Reply:
        if asked.fault is Fault.FULL_POOL:
            return Reply(507, {"detail": "No bot is free."}, 1)
        key = asked.body.get("deduplication_key")
        if key is not None and (other := self._keys.get(key)) is not None:
            if all(each.status is None and each.end.closed_at is None for each in (other, asked)):
                self.clashes.append(asked)
            return Reply(409, {"detail": "This deduplication key is being worked on."})
        if key is not None:
            self._keys[key] = asked
        try:
            slow = self._timeout if asked.fault is Fault.SLOW_WORK else 0.0
            await asyncio.sleep(self._random.random() * 0.1 + slow * (0.8 + self._random.random()))
            return self._effect(asked)
        finally:
            if key is not None:
                del self._keys[key]

    def _effect(self, asked: Asked) -> Reply:
        match asked.operation.partition("."):
            case "calendars", _, "create":
                asked.effect_at = self._loop.time()
                number = f"00000000-0000-4000-9000-{len(self.calendars):012x}"
                self.calendars[number] = asked.nonce or ""
                return Reply(201, self._calendar(number))
            case "calendars", _, "retrieve":
                return Reply(200, self._calendar(asked.target))
            case _, _, "list":
                return self._page(asked)
        event = self.events.get(asked.target)
        if event is None:
            return Reply(404, {"detail": "Not found."})
        match asked.operation.partition(".")[2]:
            case "schedule_bot":
                if event.over or event.deleted:
                    reason = "has ended" if event.over else "has been deleted"
                    fields = {"non_field_errors": [f"Cannot schedule bot as calendar event {reason}."]}
                    return Reply(400, {"code": "invalid_request_data", "errors": fields})
                event.bots[asked.body["deduplication_key"]] = Bot(asked.nonce or "", event.start, event.meeting_url)
                event.changed = self.now()
                asked.effect_at = self._loop.time()
            case "remove_bot":
                if event.dispatched:
                    return Reply(405, {"detail": "The bot was dispatched."})
                event.bots.clear()
                event.changed = self.now()
                asked.effect_at = self._loop.time()
        return Reply(200, self._event(asked.target))

    def _page(self, asked: Asked) -> Reply:
        query = {name: values[0] for name, values in asked.query.items()}
        since = datetime.fromisoformat(query.get("updated_at__gte", "2000-01-01T00:00:00Z"))
        names = [
            name
            for name, event in self.events.items()
            if query.get("calendar_id", event.calendar) == event.calendar and event.changed >= since
        ]
        begin = int(query.pop("cursor", "0"))
        rest = urlencode({**query, "cursor": begin + PAGE})
        following = f"{self.url}/api/v2/calendar-events/?{rest}" if begin + PAGE < len(names) else None
        results = [self._event(name) for name in names[begin : begin + PAGE]]
        return Reply(200, {"next": following, "previous": None, "results": results})

    def _event(self, name: str) -> dict[str, Any]:
        event = self.events[name]
        bots = [
            {
                "bot_id": bot.name, "start_time": bot.start.isoformat(), "deduplication_key": key,
                "meeting_url": bot.meeting_url,
            }
            for key, bot in event.bots.items()
        ]  # fmt: skip
        return {
            "id": name, "calendar_id": event.calendar, "platform": "google_calendar", "bots": bots,
            "start_time": event.start.isoformat(), "end_time": (event.start + timedelta(hours=1)).isoformat(),
            "created_at": EPOCH.isoformat(), "updated_at": event.changed.isoformat(), "is_deleted": event.deleted,
            "meeting_url": event.meeting_url, "ical_uid": "wanted" if event.wanted else "unwanted",
        }  # fmt: skip

    def _calendar(self, number: str) -> dict[str, Any]:
        time = EPOCH.isoformat()
        return {
            "id": number, "platform": "google_calendar", "oauth_email": self.calendars[number], "status": "connecting",
            "created_at": time, "updated_at": time,
        }  # fmt: skip

    # Answers.

    def _answer(self, asked: Asked, reply: Reply, *, spoilt: Fault | None = None) -> None:
        if asked.status is not None:
            return None
        asked.status, asked.answered_at = reply.status, self._loop.time()
        body = b"" if reply.document is None else json.dumps(reply.document).encode()
        if spoilt is Fault.GARBLED:
            body = b"<html>" + body[: self._random.randrange(1, len(body))]
        asked.retry_after = reply.wait
        lines = [f"HTTP/1.1 {reply.status} x", f"Content-Length: {len(body)}", "Content-Type: application/json"]
        if reply.wait is not None and reply.as_date:  # with `Date`, so that the client's clock does not matter
            date = self.now().replace(microsecond=0)
            lines += [
                f"Date: {format_datetime(date)}",
                f"Retry-After: {format_datetime(date + timedelta(seconds=reply.wait))}",
            ]
        elif reply.wait is not None:
            lines.append(f"Retry-After: {reply.wait}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        if spoilt is Fault.TRUNCATED:
            asked.end.send(head.encode() + body[: self._random.randrange(len(body))])
            return self._random.choice((asked.end.finish, asked.end.reset))()
        asked.end.send(head.encode() + body)
        if asked.fault is Fault.TWICE:
            asked.end.send_unasked(head.encode() + body, self._random.random())
        if self.faults.happens():
            asked.end.finish()  # a connection that was kept open, closed while the client may use it again
        return None


class Connection:
    """The server's end of one connection: it reads requests."""

    def __init__(self, server: Server, end: ClientEnd) -> None:
        self._server, self._end = server, end
        self._data = b""
        self._connected_at: float | None = end.made_at
        self._sent_at: float | None = None

    def received(self, data: bytes, sent_at: float) -> None:
        self._sent_at = sent_at if self._sent_at is None else self._sent_at
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if len(body) < int(headers.get("content-length", 0)):
            return
        self._data = b""
        asked = self._read(first, headers, body, self._sent_at)
        self._connected_at = self._sent_at = None
        self._server.receive(asked)

    def gone(self) -> None:
        """What is being worked on goes on."""

    def _read(self, first: str, headers: dict[str, str], body: bytes, sent_at: float) -> Asked:
        method, url, _ = first.split(" ")
        assert headers["authorization"] in ("Token key-0", "Token key-1"), headers
        parts = urlsplit(url)
        assert parts.path.startswith("/api/v2/"), url
        assert parts.path.endswith("/"), url
        match method, parts.path.split("/")[3:-1]:
            case "GET", ["calendar-events"]:
                operation, target = "calendar_events.list", ""
            case "GET", ["calendar-events", target]:
                operation = "calendar_events.retrieve"
            case "POST", ["calendar-events", target, "bot"]:
                operation = "calendar_events.schedule_bot"
            case "DELETE", ["calendar-events", target, "bot"]:
                operation = "calendar_events.remove_bot"
            case "GET", ["calendars", target]:
                operation = "calendars.retrieve"
            case "POST", ["calendars"]:
                operation, target = "calendars.create", ""
            case _:
                raise AssertionError(first)
        key = headers.get("idempotency-key")
        assert (key is not None) == (method == "POST"), headers
        document = json.loads(body) if body else {}
        query = parse_qs(parts.query)
        process = headers["authorization"][-1]
        return Asked(self._end, operation, target, document, key, query, sent_at, self._connected_at, process)
