"""Decide what to do about one event: a pure function of the event, the bot it should have, and the time.

    | the event                | has no bot to come | its bot is right | has only wrong ones |
    | ------------------------ | ------------------ | ---------------- | ------------------- |
    | is deleted, or is over   | skip               | skip             | skip                |
    | calendar is disconnected | skip               | skip             | skip                |
    | should have no bot       | skip               | remove           | remove              |
    | has no meeting URL       | skip               | remove           | remove              |
    | starts within lead_time  | skip               | keep             | reschedule          |
    | otherwise                | schedule           | keep             | reschedule          |

Four rules:

* A bot is right if it has the key, the start and the meeting URL that the event's bot should have now. If an event
  has the right bot, its other bots are left alone: scheduling again would not remove them, and removing would also
  remove the right bot.
* A bot is foreign if the policy's key scheme cannot have made its key: another program scheduled it. It is removed
  only on request. Scheduling a bot replaces it, with a reason of its own.
* A bot whose start has passed has been dispatched and cannot be changed. An event that is moved forward repeatedly
  collects such bots. They count only if they are right.
* Scheduling an event again replaces its bot, whatever the bot's key, so every change is one request.

Documentation: https://docs.recall.ai/docs/scheduling-guide
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from .. import checks
from ..bulk.actions import Action, RemoveBot, ScheduleBot
from ..models import CalendarEvent, CalendarEventBot, MeetingURL, Time
from ..resources.tags import tagged
from .meetings import is_same_meeting, is_same_start
from .policy import BotSpec

Kind: TypeAlias = Literal["schedule", "reschedule", "remove", "keep", "skip"]
Reason: TypeAlias = Literal[
    "moved",
    "new meeting URL",
    "new key",
    "refresh",
    "new configuration",
    "foreign bot",
    "twin bot",
    "policy",
    "no meeting URL",
    "deleted",
    "ended",
    "started",
    "lead time",
    "calendar disconnected",
    "settling",
    "flapping",
    "policy failed",
]
KINDS: tuple[Kind, ...] = ("schedule", "reschedule", "remove", "keep", "skip")
CHANGES = frozenset(KINDS[:3])
"""The kinds that send a request."""


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What to do about one event, and why."""

    kind: Kind
    reason: Reason | None = None
    event_id: str
    calendar_id: str
    start_time: Time
    end_time: Time
    updated_at: Time
    """The event's `updated_at` when it was read."""
    title: str | None = None
    deduplication_key: str | None = None
    """The key that the event's bot should have; `None` if the event should have no bot."""
    bot_config: dict[str, Any] = {}
    """The configuration to schedule the bot with; empty if no bot is scheduled."""
    meeting_url: str | MeetingURL | None = None
    """The event's meeting URL when it was read, for decisions that send a request."""
    bots: tuple[CalendarEventBot, ...] = ()
    """The event's upcoming bots when it was read, for decisions that send a request."""
    detach: bool = False
    """True if the event's bot is right for another event, so it must be removed from this one first: two requests."""
    tag: bool = False
    """True if the bot is scheduled with the tags of `recall_async.tagged` in its `metadata`."""

    def __post_init__(self) -> None:
        if self.kind in ("schedule", "reschedule") and not self.deduplication_key:
            raise ValueError(f"a decision to {self.kind} a bot has no deduplication_key")

    @property
    def action(self) -> Action | None:
        """The request to send, or `None`. Of two requests, the last."""
        return self.actions[-1] if self.kind in CHANGES else None

    @property
    def actions(self) -> tuple[Action, ...]:
        """The requests to send, in order."""
        if self.kind not in CHANGES:
            return ()
        remove = RemoveBot(self.event_id, self.start_time, self.end_time)
        if self.kind == "remove":
            return (remove,)
        key, config = self.deduplication_key or "", self.bot_config
        if self.tag:
            config = tagged(config, event_id=self.event_id, deduplication_key=key)
        schedule = ScheduleBot(self.event_id, key, config, self.start_time, self.end_time)
        return (remove, schedule) if self.detach else (schedule,)


def decide(
    event: CalendarEvent,
    spec: BotSpec | None,
    *,
    now: datetime,
    lead_time: float = 0.0,
    connected: bool = True,
    refresh: bool = False,
    is_ours: Callable[[str], bool] | None = None,
    remove_foreign: bool = False,
) -> tuple[Kind, Reason | None]:
    """Decide what to do about an event that should have the bot `spec`, and why, by the table above.

    `lead_time` is in seconds. `refresh` schedules bots again that are right, to update settings that the API does not
    show. `is_ours` returns whether a key may be the workspace's own; without it, all keys are. Foreign bots are
    removed only with `remove_foreign`.
    """
    if event.is_deleted:
        return "skip", "deleted"
    if event.end_time <= now:
        return "skip", "ended"
    if not connected:
        return "skip", "calendar disconnected"
    coming = bots_to_come(event, now)
    meeting_url = spec and (spec.bot_config.get("meeting_url") or event.meeting_url)
    if spec is None or not meeting_url:
        reason: Reason = "policy" if event.meeting_url else "no meeting URL"
        if not coming:
            return "skip", reason
        if is_ours is not None and not remove_foreign and not all(is_ours(bot.deduplication_key) for bot in coming):
            return "skip", "foreign bot"  # a removal removes all bots of an event
        return "remove", reason
    starts = _starts(event, spec)
    wrong: list[Reason] = []
    for bot in event.bots:
        difference = _difference(bot, spec.deduplication_key, starts, meeting_url)
        if difference is None:
            return ("reschedule", "refresh") if refresh and coming else ("keep", None)
        if bot in coming:
            wrong.append("foreign bot" if is_ours is not None and not is_ours(bot.deduplication_key) else difference)
    if wrong:
        return "reschedule", next((reason for reason in wrong if reason != "foreign bot"), "foreign bot")
    if event.start_time <= now:
        return "skip", "started"
    if event.start_time - now < timedelta(seconds=lead_time):
        return "skip", "lead time"
    return "schedule", None


def bots_to_come(event: CalendarEvent, now: datetime) -> tuple[CalendarEventBot, ...]:
    """Return the bots of an event that can still be changed."""
    return tuple(bot for bot in event.bots if bot.start_time > now)


def is_right(bot: CalendarEventBot, event: CalendarEvent, spec: BotSpec) -> bool:
    """Return whether a bot is the one that the event should have now."""
    meeting_url = spec.bot_config.get("meeting_url") or event.meeting_url
    return _difference(bot, spec.deduplication_key, _starts(event, spec), meeting_url) is None


def _starts(event: CalendarEvent, spec: BotSpec) -> list[datetime]:
    """Return the possible `start_time`s of the event's bot: the API does not document whether it is `join_at`."""
    join_at = spec.bot_config.get("join_at")
    return [event.start_time] if join_at is None else [event.start_time, checks.moment("join_at", join_at)]


def _difference(bot: CalendarEventBot, key: str, starts: list[datetime], meeting_url: object) -> Reason | None:
    if not any(is_same_start(bot.start_time, start) for start in starts):
        return "moved"
    if not is_same_meeting(bot.meeting_url, meeting_url):
        return "new meeting URL"
    return "new key" if bot.deduplication_key != key else None
