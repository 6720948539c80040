"""`Plan`: what is to be done about every event, as a value that can be looked at, stored, and applied later."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Self

from msgspec import Struct

from ..models import Time
from .decide import CHANGES, KINDS, Decision, Kind
from .plan_file import PLAN_FIELDS, decode_plan, encode_plan

CLOCK_ERROR = timedelta(minutes=5)
"""By how much this computer's clock may differ from the API's; webhooks rest on the same."""


def watermark_of(newest: datetime, began: datetime) -> datetime:
    """Before which moment no change can be missing in a list of events that began to be read at `began`.

    `newest` is the latest `updated_at` in it. An event on the first page that changes while the second is read is missing.
    """
    return min(newest, began - CLOCK_ERROR)


class Plan(Struct, frozen=True, kw_only=True):
    """What is to be done about every event that was looked at.

    Iterating gives the decisions that take a request, soonest event first, and `len` counts them: a plan without changes
    is empty and falsy. `str` gives a table. docs/sync.md
    """

    decisions: tuple[Decision, ...]
    """Every event that was looked at, `keep` and `skip` included, soonest first."""
    made_at: Time
    """When, by this computer's clock."""
    watermark: Time | None
    """Every earlier change is in the plan, by the API's clock: `updated_since` of the next. `None` if nothing was there."""
    calendars: tuple[str, ...] | None = None
    """The calendars that were looked at; `None` for all."""
    disconnected: tuple[str, ...] = ()
    """Calendars whose events were left alone because the API can no longer read them."""
    lead_time: float = 0.0
    """Seconds that must be left before a meeting begins for it to get a new bot, also when the plan is applied."""
    seconds: float = 0.0
    """How long the requests take at the quota, if nobody else uses it."""

    def __iter__(self) -> Iterator[Decision]:
        return (decision for decision in self.decisions if decision.kind in CHANGES)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def requests(self) -> int:
        """How many requests the plan takes, retries aside."""
        return sum(len(decision.actions) for decision in self)

    @property
    def removals(self) -> int:
        """How many events lose their bot."""
        return self.counts["remove"]

    @property
    def events_with_bots(self) -> int:
        """How many events have a bot to come before the plan is applied."""
        counts = self.counts
        return counts["keep"] + counts["reschedule"] + counts["remove"] + self.skipped.get("foreign bot", 0)

    @property
    def flapping(self) -> tuple[Decision, ...]:
        """Events that are left alone because the same was done to them again and again, and did not last."""
        return tuple(decision for decision in self.decisions if decision.reason == "flapping")

    @property
    def counts(self) -> dict[Kind, int]:
        """How many decisions there are of each kind."""
        counts: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        for decision in self.decisions:
            counts[decision.kind] += 1
        return counts

    @property
    def skipped(self) -> dict[str, int]:
        """How many events are skipped, by reason, the most frequent first."""
        counts: dict[str, int] = {}
        for decision in self.decisions:
            if decision.kind == "skip":
                counts[decision.reason or ""] = counts.get(decision.reason or "", 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    def to_json(self) -> str:
        """Write the plan as a JSON document, from which `from_json` makes an equal plan."""
        return encode_plan(self.decisions, {name: getattr(self, name) for name in PLAN_FIELDS})

    @classmethod
    def from_json(cls, document: str | bytes) -> Self:
        """Read the plan that `to_json` wrote, or what a person made of it.

        Raises `ConfigurationError` for anything else, also for a plan of another version.
        """
        decisions, fields = decode_plan(document)
        return cls(decisions=decisions, **fields)

    def __str__(self) -> str:
        rows = [("start (UTC)", "action", "because", "event", "title")]
        rows += [
            (
                f"{decision.start_time.astimezone(UTC):%Y-%m-%d %H:%M}",
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
        """The plan in a line or two."""
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
                f"WARNING: {flapping} flapping: the same was done to {'it' if flapping == 1 else 'them'} twice and did not "
                "last. Left alone until something changes."
            )
        if requests := self.requests:
            lines.append(f"{requests} {'request' if requests == 1 else 'requests'}, {self.seconds:.0f} s at the quota.")
        if number := len(self.disconnected):
            lines.append(f"{number} {'calendar is' if number == 1 else 'calendars are'} disconnected.")
        return "\n".join(lines)


def _line(title: str | None) -> str:
    """A title as it fits into a table: on one line, without what a terminal would obey, 60 characters at the most."""
    text = "".join(letter if letter.isprintable() else " " for letter in title or "")
    return text if len(text) <= 60 else text[:59] + "…"
