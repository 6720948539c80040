"""Which events get a bot: as data, or as any function of an event and its calendar."""

from __future__ import annotations

import math
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Self

from ..errors import ConfigurationError
from ..models import Calendar, CalendarEvent
from ..resources.fields import check_deduplication_key, encode_bot_config
from .attendance import domain_of, has_outsiders, own_addresses, own_response
from .deduplication import Deduplication, KeyScheme


@dataclass(frozen=True, slots=True)
class BotSpec:
    """The bot that an event should have. `bot_config` is complete: what it leaves out gets the API's defaults.

    Raises `ConfigurationError` for a key that the API would not take. https://docs.recall.ai/reference/bot_create
    """

    deduplication_key: str
    bot_config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_deduplication_key(self.deduplication_key)


Policy = Callable[[CalendarEvent, Calendar], BotSpec | Awaitable[BotSpec | None] | None]
"""Says which bot an event should have, or `None` for none. May be a coroutine function."""


@dataclass(frozen=True, slots=True)
class RecordingPolicy:
    """A policy as data: an event gets a bot if it is not cancelled, has a `meeting_url`, and passes every rule given.

    Rules about people and titles read the calendar platform's own payload; where it does not say, the answer is no.
    Addresses, domains and titles are compared without regard to case.

    - `external_only`: somebody takes part whose email domain differs from the calendar's; rooms and groups do not count.
    - `accepted_only`: the calendar's owner accepted, or organizes the meeting.
    - `organizers`: the organizer is one of these addresses, or of one of these domains.
    - `title_includes`, `title_excludes`: the title contains at least one of these texts, none of these texts.
    - `series`: the event belongs to one of these recurring series, by the platform's id of it or by `ical_uid`.
    - `platforms`: the meeting is on one of these platforms, such as `zoom` or `google_meet`.
    - `calendars`: the event is in one of these calendars, by id or by its owner's address.
    - `min_attendees`: at least so many people are invited; rooms do not count.
    - `lead_time`: seconds, or a `timedelta`, that must be left before a meeting begins for it to get a new bot.
    - `deduplication`: which events share a bot. `bot_config`: what each bot is scheduled with.

    Raises `ConfigurationError` for values that make no policy. docs/sync.md
    """

    external_only: bool = False
    accepted_only: bool = False
    organizers: Collection[str] = ()
    title_includes: Collection[str] = ()
    title_excludes: Collection[str] = ()
    series: Collection[str] = ()
    platforms: Collection[str] = ()
    calendars: Collection[str] = ()
    min_attendees: int = 0
    lead_time: float | timedelta = 0.0
    deduplication: Deduplication | KeyScheme = Deduplication.MEETING
    bot_config: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in fields(self):
            object.__setattr__(self, rule.name, check_setting(rule.name, getattr(self, rule.name)))

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """The policy in a TOML file, whose keys are named as the parameters; `bot_config` is a table.

        Raises `ConfigurationError` that names the line of each key or value that cannot be, and `OSError`.
        """
        from .policy_file import read_policy_file  # whose parser most programs do not need

        return cls(**read_policy_file(path, [rule.name for rule in fields(cls)], check_setting))

    def __call__(self, event: CalendarEvent, calendar: Calendar) -> BotSpec | None:
        """The bot that the event should have, if any."""
        if event.meeting_url is None or not self.wants(event, calendar):
            return None
        return BotSpec(self.deduplication(event, calendar), self.bot_config)

    def wants(self, event: CalendarEvent, calendar: Calendar) -> bool:
        """Whether the event passes every rule."""
        # Rules that need no look into the platform's payload come first.
        return (
            not event.is_deleted
            and (not self.platforms or event.meeting_platform in self.platforms)
            and (not self.calendars or not {calendar.id, *own_addresses(calendar)}.isdisjoint(self.calendars))
            and (not self.series or event.ical_uid in self.series or event.series_id in self.series)
            and (not self.organizers or not _names_of(event.organizer).isdisjoint(self.organizers))
            and self._wants_title((event.title or "").casefold())
            and (not self.min_attendees or _invited(event) >= self.min_attendees)
            and (not self.accepted_only or own_response(event, calendar) == "accepted")
            and (not self.external_only or has_outsiders(event, calendar))
            and not event.is_cancelled
        )

    def _wants_title(self, title: str) -> bool:
        if self.title_includes and not any(text in title for text in self.title_includes):
            return False
        return not any(text in title for text in self.title_excludes)


_FOLDED = frozenset({"organizers", "title_includes", "title_excludes", "calendars"})
_EXACT = frozenset({"series", "platforms"})


def check_setting(name: str, value: Any) -> Any:
    """The value of a parameter of `RecordingPolicy`, in the form in which it is compared, or `ConfigurationError`."""
    if name in _FOLDED | _EXACT:
        if isinstance(value, str) or not isinstance(value, Collection):
            raise ConfigurationError(f"{name} is {value!r}: it is a list of texts")
        if not all(isinstance(text, str) and text.strip() for text in value):
            raise ConfigurationError(f"{name} is {value!r}: each of its items is a text that is not empty")
        texts = (text.casefold() if name in _FOLDED else text for text in value)
        return tuple(text.removeprefix("@") if name == "organizers" else text for text in texts)
    expected, valid = "", False
    match name:
        case "external_only" | "accepted_only":
            expected, valid = "true or false", isinstance(value, bool)
        case "min_attendees":
            expected = "a whole number, not negative"
            valid = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        case "lead_time":
            value = value.total_seconds() if isinstance(value, timedelta) else value
            expected = "a number of seconds, not negative"
            valid = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
        case "deduplication":
            expected = f"one of {', '.join(Deduplication)}, or a function"
            if isinstance(value, str):
                value = next((scheme for scheme in Deduplication if scheme == value), value)
            valid = callable(value)
        case "bot_config":
            expected = "a mapping that can be written as JSON"
            valid = isinstance(value, Mapping)
            if valid:
                encode_bot_config(value)
    if not valid:
        raise ConfigurationError(f"{name} is {value!r}: it is {expected}")
    return value


def _names_of(organizer: str | None) -> set[str]:
    return {(organizer or "").casefold(), domain_of(organizer) or ""}


def _invited(event: CalendarEvent) -> int:
    return sum(not person.is_resource for person in event.attendees)
