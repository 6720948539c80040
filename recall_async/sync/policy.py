"""Policies decide which events get a bot: as data, or as a function of an event and its calendar."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import Enum
from inspect import isawaitable
from typing import Any, Self

from ..checks import flag, invalid, seconds, shown, whole
from ..errors import ConfigurationError
from ..models import Calendar, CalendarEvent
from ..platforms import KINDS_OF_EVENTS
from ..resources.fields import check_deduplication_key, encode_bot_config
from .attendance import Attendance, own_addresses
from .deduplication import Deduplication, KeyScheme, KeyTemplate
from .wording import folded, readable_domain


@dataclass(frozen=True, slots=True)
class BotSpec:
    """The bot that an event should have. Pass the complete `bot_config`: missing settings get the API's defaults.

    Raises `ConfigurationError` for a key that the API would reject. https://docs.recall.ai/reference/bot_create
    """

    deduplication_key: str
    bot_config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "deduplication_key", check_deduplication_key(self.deduplication_key))


class Undecided(Enum):
    """A policy's return value for an event on which it cannot decide."""

    UNDECIDED = "undecided"
    """Leave the event as it is: it is not known whether it should have a bot."""


UNDECIDED = Undecided.UNDECIDED

Policy = Callable[[CalendarEvent, Calendar], BotSpec | Undecided | Awaitable[BotSpec | Undecided | None] | None]
"""Returns the bot that an event should have, or `None` for no bot. May be a coroutine function.

A callable object may have two attributes: `lead_time`, in seconds, and `deduplication`, whose method `could_make`
distinguishes foreign bots from the workspace's own. `RecordingPolicy` has both.
"""


def check_policy(policy: Policy) -> Policy:
    """Return a policy. Raises `ConfigurationError` for any other object."""
    if not callable(policy):
        raise invalid("policy", "a RecordingPolicy, or a function", policy)
    return policy


async def ask(policy: Policy, event: CalendarEvent, calendar: Calendar) -> BotSpec | Undecided | None:
    """Call the policy for an event and return its result.

    Raises what the policy raises, and `ConfigurationError` for a result of another type.
    """
    answer = policy(event, calendar)
    spec: object = await answer if isawaitable(answer) else answer
    if spec is None or isinstance(spec, BotSpec | Undecided):
        return spec
    raise ConfigurationError(f"the policy must return a BotSpec or None, got {shown(spec)}")


@dataclass(frozen=True, slots=True)
class RecordingPolicy:
    """A policy as data: an event gets a bot if it is not cancelled, has a `meeting_url`, and passes every rule given.

    Rules about people, titles and kinds read the calendar platform's own payload; an event fails a rule whose data is
    missing. An event without a payload fails all of them, but one without a title has no excluded title. The comparison
    of addresses, domains and titles ignores case, Unicode normalization and the kind of white space.

    - `external_only`: a participant has an email domain other than the owner's; rooms and groups do not count.
    - `internal_domains`: further domains of the owner's company, for `external_only`; `*.northwind.example` stands for
      all subdomains.
    - `accepted_only`: the calendar's owner accepted, or organizes the meeting.
    - `skip_declined`: the calendar's owner did not decline. Without a reply the event passes.
    - `skip_kinds`: the event is of none of these kinds: `focus_time`, `out_of_office`, `working_location`, `birthday`,
      `from_gmail`, `all_day`, `free`.
    - `organizers`: the organizer has one of these addresses, or an address in one of these domains.
    - `title_includes`, `title_excludes`: the title contains at least one of these strings, or none of them.
    - `series`: the event belongs to one of these recurring series, by the platform's id or by `ical_uid`.
    - `platforms`: the meeting is on one of these platforms, such as `zoom` or `google_meet`.
    - `calendars`: the event is in one of these calendars, by id or by its owner's address.
    - `min_attendees`: the least number of participants, including the owner and the organizer; rooms do not count.
    - `lead_time`: a meeting gets a new bot only if it begins in at least this many seconds (or this `timedelta`).
    - `deduplication`: which events share a bot: a `Deduplication`, a template such as `{start_time}-{meeting_url}` (see
      `KeyTemplate`), or a function of an event and its calendar.
    - `bot_config`: the configuration to schedule each bot with.

    Raises `ConfigurationError` for invalid values. docs/sync.md
    """

    external_only: bool = False
    internal_domains: Collection[str] = ()
    accepted_only: bool = False
    skip_declined: bool = False
    skip_kinds: Collection[str] = ()
    organizers: Collection[str] = ()
    title_includes: Collection[str] = ()
    title_excludes: Collection[str] = ()
    series: Collection[str] = ()
    platforms: Collection[str] = ()
    calendars: Collection[str] = ()
    min_attendees: int = 0
    lead_time: float | timedelta = 0.0
    deduplication: Deduplication | KeyTemplate | KeyScheme | str = Deduplication.MEETING
    bot_config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in fields(self):
            object.__setattr__(self, rule.name, check_setting(rule.name, getattr(self, rule.name)))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """Read a policy from a TOML file. Its keys are the parameters' names; `bot_config` is a table.

        Raises `ConfigurationError` that names the line of each invalid key or value, and `OSError`.
        """
        from .policy_file import read_policy_file  # most programs do not need the TOML parser

        return cls(**read_policy_file(path, [rule.name for rule in fields(cls)], check_setting))

    def __call__(self, event: CalendarEvent, calendar: Calendar) -> BotSpec | None:
        """Return the bot that the event should have, or `None`."""
        if event.meeting_url is None or not self.wants(event, calendar):
            return None
        scheme: Any = self.deduplication
        return BotSpec(scheme(event, calendar), self.bot_config)

    def wants(self, event: CalendarEvent, calendar: Calendar) -> bool:
        """Return whether the event passes every rule."""
        # Rules that do not parse the platform's payload come first.
        return (
            not event.is_deleted
            and (not self.platforms or event.meeting_platform in self.platforms)
            and (not self.calendars or not {calendar.id, *own_addresses(calendar)}.isdisjoint(self.calendars))
            and (not self.series or event.ical_uid in self.series or event.series_id in self.series)
            and (not self._reads_payload or event.has_payload)
            and self._wants_title(folded(event.title or ""))
            and (not self.skip_kinds or event.kinds.isdisjoint(self.skip_kinds))
            and self._wants_people(event, calendar)
            and not event.is_cancelled
        )

    @property
    def _reads_people(self) -> bool:
        return bool(
            self.organizers or self.min_attendees or self.accepted_only or self.skip_declined or self.external_only
        )

    @property
    def _reads_payload(self) -> bool:
        return bool(self.title_includes or self.title_excludes or self.skip_kinds or self._reads_people)

    def _wants_people(self, event: CalendarEvent, calendar: Calendar) -> bool:
        if not self._reads_people:
            return True
        people = Attendance(event, calendar)
        return (
            (not self.organizers or not people.organizers.isdisjoint(self.organizers))
            and people.count >= self.min_attendees
            and (not self.accepted_only or people.own_response == "accepted")
            and (not self.skip_declined or people.own_response != "declined")
            and (not self.external_only or people.has_outsiders(self.internal_domains))
        )

    def _wants_title(self, title: str) -> bool:
        if self.title_includes and not any(text in title for text in self.title_includes):
            return False
        return not any(text in title for text in self.title_excludes)


_FOLDED = frozenset({"organizers", "title_includes", "title_excludes", "calendars", "internal_domains"})
_EXACT = frozenset({"series", "platforms", "skip_kinds"})
_PLATFORM = re.compile(r"[a-z0-9_]+")
_DOMAIN = re.compile(r"(?:\*\.)?[^\s@*/:.]+(?:\.[^\s@*/:.]+)*")


def check_setting(name: str, value: Any) -> Any:
    """Check a parameter of `RecordingPolicy`, and return it normalized for comparisons.

    Raises `ConfigurationError`.
    """
    if name in _FOLDED | _EXACT:
        return _check_texts(name, value)
    match name:
        case "external_only" | "accepted_only" | "skip_declined":
            return flag(name, value)
        case "min_attendees":
            return whole(name, value, at_least=0)
        case "lead_time":
            return seconds(name, value.total_seconds() if isinstance(value, timedelta) else value, zero=True)
        case "deduplication":
            if isinstance(value, str):
                value = next((scheme for scheme in Deduplication if scheme == value), value)
                value = KeyTemplate(value) if not callable(value) and "{" in value else value
            if not callable(value):
                schemes = ", ".join(Deduplication)
                raise invalid(
                    name, f"one of {schemes}, a template such as {{start_time}}-{{meeting_url}}, or a function", value
                )
        case "bot_config":  # pragma: no branch - the last one
            if not isinstance(value, Mapping):
                raise invalid(name, "a mapping that can be written as JSON", value)
            encode_bot_config(value)
    return value


def _is_kind(value: object) -> bool:
    return isinstance(value, str) and value in KINDS_OF_EVENTS


def _check_texts(name: str, value: Any) -> tuple[str, ...]:
    if name == "skip_kinds":
        if isinstance(value, str) or not isinstance(value, Collection) or not all(map(_is_kind, value)):
            raise invalid(name, f"a list of {', '.join(KINDS_OF_EVENTS)}", value)
        return tuple(value)
    if isinstance(value, str) or not isinstance(value, Collection):
        raise invalid(name, "a list of strings", value)
    if not all(isinstance(text, str) and folded(text).strip() for text in value):
        raise invalid(name, "a list of non-empty strings", value)
    if name in ("organizers", "internal_domains"):
        parts = [folded(text).strip().removeprefix("@").rpartition("@") for text in value]
        texts = tuple(user + at + readable_domain(domain) for user, at, domain in parts)
        if any(not text or text.endswith("@") for text in texts):
            raise invalid(name, "a list of addresses or domains, such as northwind.example", value)
        if name == "internal_domains" and not all(map(_DOMAIN.fullmatch, texts)):
            raise invalid(name, "a list of domains, such as northwind.example or *.northwind.example", value)
        return texts
    if name == "calendars":
        return tuple(folded(text).strip() for text in value)
    if name == "platforms" and not all(map(_PLATFORM.fullmatch, value)):
        raise invalid(name, "a list of values of meeting_platform, such as zoom or google_meet", value)
    return tuple(folded(text) if name in _FOLDED else text for text in value)
