"""What is to be done about one event: a pure function of the event, the bot it should have, and the time.

    | the event                | has no bot to come | its bot is right | has only wrong ones |
    | ------------------------ | ------------------ | ---------------- | ------------------- |
    | is deleted, or is over   | skip               | skip             | skip                |
    | calendar is disconnected | skip               | skip             | skip                |
    | should have no bot       | skip               | remove           | remove              |
    | has no meeting URL       | skip               | remove           | remove              |
    | starts within lead_time  | skip               | keep             | reschedule          |
    | otherwise                | schedule           | keep             | reschedule          |

Three rules keep it true:

* Every bot on an event is ours: keys are those of the workspace. A bot is right if it has the key, the start and the
  meeting URL that the event's bot should have now. Where the right bot is, others beside it are left alone: scheduling
  again would not take them away, and removing would take the right one too.
* A bot whose start has passed is out, and nobody can change it: an event that is moved forward again and again collects
  them. Such a bot counts only if it is right.
* Scheduling an event again replaces the bot that it has, whatever key that had, so that every change is one request.

Documentation: https://docs.recall.ai/docs/scheduling-guide
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote

from msgspec import Struct

from ..bulk.actions import Action, RemoveBot, ScheduleBot
from ..models import CalendarEvent, CalendarEventBot, MeetingURL, Time
from ..resources.fields import parse_time
from .policy import BotSpec

Kind: TypeAlias = Literal["schedule", "reschedule", "remove", "keep", "skip"]
Reason: TypeAlias = Literal[
    "moved",
    "new meeting URL",
    "new key",
    "refresh",
    "policy",
    "no meeting URL",
    "deleted",
    "ended",
    "started",
    "lead time",
    "calendar disconnected",
]
KINDS: tuple[Kind, ...] = ("schedule", "reschedule", "remove", "keep", "skip")
CHANGES = frozenset(KINDS[:3])
"""Those that take a request."""
_TOLERANCE = timedelta(seconds=1)
"""No meeting moves by less, whatever precision the API writes its times with."""


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is to be done about one event, and why."""

    kind: Kind
    reason: Reason | None = None
    event_id: str
    calendar_id: str
    start_time: Time
    end_time: Time
    updated_at: Time
    """The version of the event that was looked at."""
    title: str | None = None
    deduplication_key: str | None = None
    """The key that the event's bot should have, if it should have one."""
    bot_config: dict[str, Any] = {}
    """What the bot is scheduled with, where it is."""

    def __post_init__(self) -> None:
        if self.kind in ("schedule", "reschedule") and not self.deduplication_key:
            raise ValueError(f"a decision to {self.kind} a bot has no deduplication_key")

    @property
    def action(self) -> Action | None:
        """The request that it takes, if it takes one."""
        if self.kind not in CHANGES:
            return None
        if self.kind == "remove":
            return RemoveBot(self.event_id, self.start_time, self.end_time)
        return ScheduleBot(self.event_id, self.deduplication_key or "", self.bot_config, self.start_time, self.end_time)


def decide(
    event: CalendarEvent,
    spec: BotSpec | None,
    *,
    now: datetime,
    lead_time: float = 0.0,
    connected: bool = True,
    refresh: bool = False,
) -> tuple[Kind, Reason | None]:
    """What is to be done about an event that should have the bot `spec`, and why; the table above.

    `lead_time` is in seconds. With `refresh`, bots that are right are scheduled again, for what the API does not show.
    """
    if event.is_deleted:
        return "skip", "deleted"
    if event.end_time <= now:
        return "skip", "ended"
    if not connected:
        return "skip", "calendar disconnected"
    to_come = [bot for bot in event.bots if bot.start_time > now]
    meeting_url = spec and (spec.bot_config.get("meeting_url") or event.meeting_url)
    if spec is None or not meeting_url:
        reason: Reason = "policy" if event.meeting_url else "no meeting URL"
        return ("remove" if to_come else "skip"), reason
    starts = _starts(event, spec)
    wrong: Reason | None = None
    for bot in event.bots:
        difference = _difference(bot, spec.deduplication_key, starts, meeting_url)
        if difference is None:
            return ("reschedule", "refresh") if refresh and to_come else ("keep", None)
        if bot in to_come:
            wrong = wrong or difference
    if wrong:
        return "reschedule", wrong
    if event.start_time <= now:
        return "skip", "started"
    if event.start_time - now < timedelta(seconds=lead_time):
        return "skip", "lead time"
    return "schedule", None


def _starts(event: CalendarEvent, spec: BotSpec) -> list[datetime]:
    """When the event's bot may be said to start: the API does not document whether `join_at` shows."""
    join_at = spec.bot_config.get("join_at")
    return [event.start_time] if join_at is None else [event.start_time, parse_time(join_at, "join_at")]


def _difference(bot: CalendarEventBot, key: str, starts: list[datetime], meeting_url: object) -> Reason | None:
    if not any(abs(bot.start_time - start) < _TOLERANCE for start in starts):
        return "moved"
    if not is_same_meeting(bot.meeting_url, meeting_url):
        return "new meeting URL"
    return "new key" if bot.deduplication_key != key else None


def is_same_meeting(one: object, other: object) -> bool:
    """Whether two values of `meeting_url` name one meeting.

    The API writes some as an object where others are a URL. An object and a URL are the same meeting if any of the
    object's ids occurs in the URL; passwords and tenants are written too differently to tell.
    """
    if isinstance(one, str) and isinstance(other, str):
        return one == other
    address, details = (one, other) if isinstance(one, str) else (other, one)
    parts = _parts(details)
    if not isinstance(address, str):
        return parts == _parts(address)
    plain = unquote(address).casefold()
    ids = [str(parts[name]).casefold() for name in _IDS if name in parts]
    return not ids or any(text in plain for text in ids)


_IDS = ("meeting_id", "thread_id", "business_meeting_id", "meeting_mtid", "meeting_path", "meeting_personal_room_id")


def _parts(meeting_url: object) -> dict[str, Any]:
    """The fields that say something; a bot's configuration may hold the object as a plain mapping."""
    if isinstance(meeting_url, MeetingURL):
        meeting_url = {name: getattr(meeting_url, name) for name in meeting_url.__struct_fields__}
    return {name: value for name, value in meeting_url.items() if value} if isinstance(meeting_url, dict) else {}
