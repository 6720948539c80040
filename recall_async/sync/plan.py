"""`Plan`: what to do about each event, as a value that can be read, stored, and applied later."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Self

from msgspec import Struct

from ..lenient import in_utc
from ..models import Time
from .decide import CHANGES, KINDS, Decision, Kind
from .plan_file import PLAN_FIELDS, decode_plan, encode_plan

CLOCK_ERROR = timedelta(minutes=5)
"""The largest accepted difference between this computer's clock and the API's, as for webhooks."""

ALWAYS = datetime.min.replace(tzinfo=UTC)
"""As a watermark or the start of a sync: all events must be read."""


def watermark_of(newest: datetime, began: datetime) -> datetime:
    """Return the time before which a list of events, read from `began` on, contains every change.

    `newest` is the latest `updated_at` in the list. The list misses an event of the first page that changes while the
    second page is read.
    """
    return min(newest, began - CLOCK_ERROR)


class Plan(Struct, frozen=True, kw_only=True):
    """A decision about each event that was read.

    Iterating yields the decisions that send a request, soonest event first, and `len` counts them: a plan without
    changes is empty and false. `str` returns a table. docs/sync.md
    """

    decisions: tuple[Decision, ...]
    """One decision per event, including `keep` and `skip`, soonest event first."""
    made_at: Time
    """When the plan was made, by this computer's clock."""
    watermark: Time | None
    """The plan contains every change before this time of the API's clock: pass it as `updated_since` to the next plan.
    `None` if there were no events."""
    calendars: tuple[str, ...] | None = None
    """The calendars that were read; `None` for all."""
    disconnected: tuple[str, ...] = ()
    """Calendars that the API can no longer read. Their events are left alone."""
    lead_time: float = 0.0
    """A meeting gets a new bot only if it begins in at least this number of seconds, also when the plan is applied."""
    seconds: float = 0.0
    """Seconds that the requests take at the quota, if no other client uses it."""

    def __iter__(self) -> Iterator[Decision]:
        return (decision for decision in self.decisions if decision.kind in CHANGES)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def requests(self) -> int:
        """The number of requests in the plan, without retries."""
        return sum(len(decision.actions) for decision in self)

    @property
    def removals(self) -> int:
        """The number of events that lose their bot."""
        return self.counts["remove"]

    @property
    def events_with_bots(self) -> int:
        """The number of events that have an upcoming bot before the plan is applied."""
        counts = self.counts
        return counts["keep"] + counts["reschedule"] + counts["remove"] + self.skipped.get("foreign bot", 0)

    @property
    def flapping(self) -> tuple[Decision, ...]:
        """Events that are left alone because the same change was made repeatedly and did not last."""
        return tuple(decision for decision in self.decisions if decision.reason == "flapping")

    @property
    def counts(self) -> dict[Kind, int]:
        """The number of decisions of each kind."""
        counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        for decision in self.decisions:
            counts[decision.kind] += 1
        return counts

    @property
    def skipped(self) -> dict[str, int]:
        """The number of skipped events by reason, the most frequent first."""
        counts: dict[str, int] = {}
        for decision in self.decisions:
            if decision.kind == "skip":
                counts[decision.reason or ""] = counts.get(decision.reason or "", 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def to_json(self) -> str:
        """Return the plan as a JSON document, which `from_json` reads."""
        return encode_plan(self.decisions, {name: getattr(self, name) for name in PLAN_FIELDS})

    @classmethod
    def from_json(cls, document: str | bytes) -> Self:
        """Read a plan that `to_json` wrote. It may have been edited by hand.

        Raises `ConfigurationError` for an invalid plan, or one of another version.
        """
        decisions, fields = decode_plan(document)
        return cls(decisions=decisions, **fields)

    def __str__(self) -> str:
        rows = [("start (UTC)", "action", "because", "event", "title")]
        rows += [
            (
                f"{in_utc(decision.start_time):%Y-%m-%d %H:%M}",
                decision.kind,
                (decision.reason or "no bot") + (", shared" if decision.detach else ""),
                decision.event_id,
                _line(decision.title),
            )
            for decision in self
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*(lines if len(rows) > 1 else []), self.summary()])

    def summary(self) -> str:
        """Return the plan in one or two lines."""
        counts = self.counts
        skipped = ", ".join(f"{number} {reason}" for reason, number in self.skipped.items())
        lines = [
            f"{counts['schedule']} to schedule, {counts['reschedule']} to reschedule, {counts['remove']} to remove; "
            f"{counts['keep']} as they should be, {counts['skip']} skipped{f' ({skipped})' if skipped else ''}.",
        ]
        if foreign := sum(decision.reason == "foreign bot" for decision in self):
            lines.append(f"{foreign} of the bots to reschedule are foreign: the plan replaces them.")
        if flapping := len(self.flapping):
            lines.append(
                f"WARNING: {flapping} {'event is' if flapping == 1 else 'events are'} flapping: the same change was made "
                "twice and did not last. Skipped until the event changes."
            )
        if requests := self.requests:
            lines.append(f"{requests} {'request' if requests == 1 else 'requests'}, {self.seconds:.0f} s at the quota.")
        if number := len(self.disconnected):
            lines.append(f"{number} {'calendar is' if number == 1 else 'calendars are'} disconnected.")
        return "\n".join(lines)


def _line(title: str | None) -> str:
    """Return a title for a table: on one line, without terminal control characters, at most 60 characters."""
    text = "".join(letter if letter.isprintable() else " " for letter in title or "")
    return text if len(text) <= 60 else text[:59] + "…"
