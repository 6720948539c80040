"""An API that behaves otherwise than the sandbox: it normalizes, delays, forgets, and changes shared bots in place.

Its rules are its own: nothing here comes from the library or the sandbox.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from random import Random
from time import monotonic
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

from aiohttp import web

PAGE = 40


@dataclass
class Behaviour:
    """How this API differs from what its documentation suggests."""

    url: Callable[[str], Any] = lambda url: url
    """What a bot's `meeting_url` is written as."""
    start: Callable[[datetime], datetime] = lambda start: start
    """What a bot's `start_time` is written as."""
    delay: float = 0.0
    """Seconds until a new bot shows."""
    in_place: bool = False
    """Scheduling changes the bot that an event has, key included, for all events that share it."""
    keeps_key: bool = False
    """Scheduling changes the bot that an event has, but for its key."""
    touches: bool = False
    """Bots change the event's `updated_at`."""
    tells_status: bool = True
    """Calendars have `status_changes`."""
    outlook: bool = False
    """Calendars are Outlook's: only the top of an invitation tells what the owner answered."""
    spelling: Callable[[str], str] = lambda word: word
    """How answers are written."""


@dataclass
class Bot:
    id: str
    key: str
    start: datetime
    url: str
    config: Any
    shows_at: float
    events: set[str] = field(default_factory=set)


@dataclass
class Event:
    id: str
    calendar_id: str
    start: datetime
    url: str | None
    updated_at: datetime
    response: str = "accepted"
    title: str = "Weekly sync"
    is_deleted: bool = False
    bot: str | None = None


class Api:
    """A server; use it with `async with`."""

    def __init__(self, events: int = 20, calendars: int = 1, seed: int = 1, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self.rng = Random(seed)
        self.numbers = count(1)
        self.began = datetime.now(UTC).replace(microsecond=123456)
        self.calendars = {self.identifier(): self._calendar(number) for number in range(calendars)}
        self.status_changes: dict[str, list[dict[str, str]]] = {key: [] for key in self.calendars}
        self.events: dict[str, Event] = {}
        self.bots: dict[str, Bot] = {}
        self.asked: list[tuple[str, str]] = []
        """Requests that changed bots: what, and for which event."""
        self.looked: list[str] = []
        """Other requests, by path."""
        self.refused: set[str] = set()
        """Events whose requests are answered 400."""
        self.down = 0.0
        """The share of requests that are answered 503, half of them after taking effect."""
        for number in range(events):
            self.create(list(self.calendars)[number % calendars], timedelta(hours=2, minutes=number))

    def identifier(self) -> str:
        return str(UUID(int=next(self.numbers), version=4))

    def create(self, calendar_id: str, ahead: timedelta, url: str | None = "") -> Event:
        number = next(self.numbers)
        address = f"https://us02web.zoom.us/j/8{number:09}?pwd=Ab{number}#success" if url == "" else url
        event = Event(self.identifier(), calendar_id, self.began + ahead, address, datetime.now(UTC))
        self.events[event.id] = event
        return event

    def share(self, event: Event, calendar_id: str) -> Event:
        """The same meeting in another calendar."""
        copy = self.create(calendar_id, timedelta(0), event.url)
        copy.start = event.start
        return copy

    def touch(self, event: Event, **changes: Any) -> None:
        """A person changes an event; a deleted one loses its bot."""
        for name, value in changes.items():
            setattr(event, name, value)
        event.updated_at = datetime.now(UTC)
        if event.is_deleted:
            self.release(event)

    def release(self, event: Event) -> None:
        """The event lets go of its bot, which is gone with its last event."""
        bot, event.bot = self.bots.get(event.bot or ""), None
        if bot is not None:
            bot.events.discard(event.id)
            if not bot.events:
                del self.bots[bot.id]

    def revoke(self, calendar_id: str) -> None:
        """A calendar's owner takes its permission back: its bots are gone."""
        self._status(calendar_id, "disconnected")
        for event in self.events.values():
            if event.calendar_id == calendar_id:
                self.release(event)

    def reconnect(self, calendar_id: str) -> None:
        self._status(calendar_id, "connected")

    def shown(self) -> dict[str, tuple[str, datetime, str] | None]:
        """By event: key, start and address of its bot."""
        bots = {key: self.bots.get(event.bot or "") for key, event in self.events.items()}
        return {key: bot and (bot.key, bot.start, bot.url) for key, bot in bots.items()}

    # What requests do

    def schedule(self, event: Event, key: str, config: Any) -> None:
        how = self.behaviour
        assert event.url is not None
        bot = self.bots.get(event.bot or "") if how.in_place or how.keeps_key else None
        if bot is None:
            bot = next((each for each in self.bots.values() if each.key == key), None)
            self.release(event)
            if bot is None or bot.id not in self.bots:
                shows_at = monotonic() + how.delay
                bot = Bot(self.identifier(), key, event.start, event.url, config, shows_at)
        self.bots[bot.id] = bot
        bot.start, bot.url, bot.config = event.start, event.url, config
        bot.key = bot.key if how.keeps_key else key
        event.bot = bot.id
        bot.events.add(event.id)
        if how.touches:
            event.updated_at = datetime.now(UTC)

    def _calendar(self, number: int) -> dict[str, Any]:
        moment = _text(self.began - timedelta(days=30))
        return {
            "platform": "google_calendar",
            "platform_email": f"u{number}@acme.example",
            "status": "connected",
            "created_at": moment,
            "updated_at": moment,
        }

    def _status(self, calendar_id: str, status: str) -> None:
        moment = _text(datetime.now(UTC))
        self.calendars[calendar_id] |= {"status": status, "updated_at": moment}
        self.status_changes[calendar_id].append({"status": status, "created_at": moment})

    def _calendar_document(self, calendar_id: str) -> dict[str, Any]:
        changes = {"status_changes": self.status_changes[calendar_id]} if self.behaviour.tells_status else {}
        return {"id": calendar_id, **self.calendars[calendar_id], **changes}

    def _bot_document(self, bot: Bot) -> dict[str, Any]:
        metadata = (bot.config or {}).get("metadata") or {}
        return {"id": bot.id, "meeting_url": bot.url, "join_at": _text(bot.start), "metadata": metadata}

    def _document(self, event: Event) -> dict[str, Any]:
        bot = self.bots.get(event.bot or "")
        bots = []
        if bot is not None and bot.shows_at <= monotonic():
            how = self.behaviour
            shown = {"start_time": _text(how.start(bot.start)), "meeting_url": how.url(bot.url)}
            bots.append({"bot_id": bot.id, "deduplication_key": bot.key, **shown})
        return {
            "id": event.id,
            "calendar_id": event.calendar_id,
            "start_time": _text(event.start),
            "end_time": _text(event.start + timedelta(hours=1)),
            "raw": self._raw(event),
            "platform": "microsoft_outlook" if self.behaviour.outlook else "google_calendar",
            "meeting_platform": "zoom",
            "meeting_url": event.url,
            "created_at": _text(self.began),
            "updated_at": _text(event.updated_at),
            "is_deleted": event.is_deleted,
            "bots": bots,
        }

    def _raw(self, event: Event) -> dict[str, Any]:
        answer = self.behaviour.spelling(event.response)
        if not self.behaviour.outlook:
            own = {"email": "me@alias.example", "self": True, "responseStatus": answer}
            return {"summary": event.title, "attendees": [own]}
        guest = {"type": "required", "status": {"response": "none"}, "emailAddress": {"address": "bo@guest.example"}}
        top = {"isOrganizer": False, "responseStatus": {"response": answer}}
        return {"subject": event.title, "attendees": [guest], **top}

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        failed = self.rng.random() < self.down
        if failed and self.rng.random() < 0.5:
            return web.json_response({}, status=503)
        answer = self._answer(request, body)
        return web.json_response({}, status=503) if failed else answer

    def _answer(self, request: web.BaseRequest, body: bytes) -> web.Response:
        _, _, kind, *rest = [part for part in request.path.split("/") if part]
        if request.method == "GET":
            self.looked.append(request.path)
        if kind == "bot":
            return self._page([self._bot_document(bot) for bot in self.bots.values()], request)
        if kind == "calendars":
            if not rest:
                return self._page([self._calendar_document(key) for key in self.calendars], request)
            if rest[0] not in self.calendars:
                return web.json_response({"detail": "Not found."}, status=404)
            return web.json_response(self._calendar_document(rest[0]))
        if not rest:
            return self._page([self._document(event) for event in self._listed(request.query)], request)
        event = self.events.get(rest[0])
        if event is None:
            return web.json_response({"detail": "Not found."}, status=404)
        if request.method != "GET":
            self.asked.append(("schedule" if request.method == "POST" else "remove", event.id))
            connected = self.calendars[event.calendar_id]["status"] == "connected"
            possible = request.method != "POST" or (connected and event.url and not event.is_deleted)
            if event.id in self.refused or not possible:
                return web.json_response({"code": "invalid", "message": "refused"}, status=400)
            if request.method == "POST":
                document = json.loads(body)
                self.schedule(event, document["deduplication_key"], document["bot_config"])
            else:
                self.release(event)
                if self.behaviour.touches:
                    event.updated_at = datetime.now(UTC)
        return web.json_response(self._document(event))

    def _listed(self, query: Any) -> list[Event]:
        events = sorted(self.events.values(), key=lambda event: (event.start, event.id))
        for name, value in query.items():
            match name:
                case "calendar_id":
                    events = [event for event in events if event.calendar_id == value]
                case "start_time__gte":
                    events = [event for event in events if event.start >= _time(value)]
                case "start_time__lte":
                    events = [event for event in events if event.start <= _time(value)]
                case "updated_at__gte":
                    events = [event for event in events if event.updated_at >= _time(value)]
                case "cursor":
                    pass
                case _:
                    raise AssertionError(name)
        return events

    def _page(self, documents: list[dict[str, Any]], request: web.BaseRequest) -> web.Response:
        begin = int(request.query.get("cursor", "0"))
        following = None
        if begin + PAGE < len(documents):
            following = str(request.url.update_query(cursor=str(begin + PAGE)))
        page = {"next": following, "previous": None, "results": documents[begin : begin + PAGE]}
        return web.json_response(page)

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._handle, access_log=None), shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def without_fragment(url: str) -> str:
    return url.partition("#")[0]


def lower_host(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(scheme=parts.scheme.upper(), netloc=parts.netloc.upper()).geturl()


def with_slash(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(path=parts.path + "/").geturl()


def as_object(url: str) -> dict[str, str]:
    return {"platform": "zoom", "meeting_id": urlsplit(url).path.rpartition("/")[2]}


def to_the_minute(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)


def to_the_second(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
