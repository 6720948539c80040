"""Generate calendars and events like those of two companies, reproducible by seed, at times relative to now.

About three quarters are upcoming meetings with a URL: one-off, recurring, shared by several calendars, and a few
perpetual ones, which are moved forward repeatedly. The others have ended, were deleted, have no URL, last all day, or
are in progress. Events start between one day ago and 28 days ahead, as in the API.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from random import Random
from uuid import UUID

import msgspec

from .documents import CalendarDocument, Event, EventDocument, Meeting, MeetingURL, Person, StatusChange
from .payloads import render
from .unusual import KINDS

DAYS_AHEAD = 28
_SHARES = {"ended": 0.08, "deleted": 0.05, "without_url": 0.06, "all_day": 0.03, "under_way": 0.02, "perpetual": 0.02}
_UNDOCUMENTED = ("without_url", "all_day")
"""Kinds whose events the API's reference does not describe: it requires a `meeting_platform`, and a time of day."""
_COMPANIES = ("northwind.example", "contoso.example")
_GUESTS = ("fabrikam.example", "tailspin.example", "northwind.example", "contoso.example")
_FIRST = (
    "Ada", "Bo", "Chen", "Dina", "Emil", "Fatou", "Goran", "Hana", "Ivo", "June", "Kofi", "Lena", "Mia", "Noor",
    "Omar", "Pia", "Quinn", "Rosa", "Sam", "Tove",
)  # fmt: skip
_LAST = (
    "Abbott", "Berg", "Costa", "Dahl", "Evans", "Ferro", "Gupta", "Haas", "Ito", "Jensen", "Kaya", "Lopez",
    "Moran", "Novak", "Okoye", "Park", "Ruiz", "Sato",
)  # fmt: skip
_TITLES = (
    "Weekly sync", "Customer call", "1:1", "Design review", "Sprint planning", "Interview", "Roadmap", "Demo",
    "Standup", "Quarterly review", "Onboarding", "Pipeline review",
)  # fmt: skip
_AGENDA = (
    "<p>Please read the notes of the last meeting beforehand and add your points to the <b>shared document</b>.</p>",
    "<ul><li>Status and blockers</li><li>Numbers of the week</li><li>Decisions that are due</li></ul>",
    "<p>If you cannot make it, leave your answer in the thread &ndash; we will go through all of them.</p>",
    "<p>This invitation may contain confidential information and is meant for the people it names only.</p>",
    "<table><tr><td>00:00</td><td>Welcome</td></tr><tr><td>00:05</td><td>Review</td></tr></table>",
)
_RESPONSES = ("accepted", "accepted", "accepted", "accepted", "needsAction", "tentative", "declined")


class Generator:
    """Generate calendars, meetings and events from a seed, relative to `now` (in whole minutes)."""

    def __init__(
        self,
        seed: int,
        now: datetime,
        *,
        url_objects: bool = True,
        unusual: float = 0.0,
        documented: bool = False,
    ) -> None:
        self.rng: Random = Random(seed)
        self._now = now.replace(second=0, microsecond=0)
        self._documented = documented
        self._url_objects = url_objects and not documented
        self._unusual = unusual
        """The share of events whose invitation is unusual."""

    def identifier(self) -> str:
        """Return a UUID. Every run with the same seed returns the same ones."""
        return str(UUID(int=self.rng.getrandbits(128), version=4))

    def calendars(self, count: int) -> list[CalendarDocument]:
        """Generate `count` connected calendars, alternating between platforms and between two companies."""
        return [self._calendar(place) for place in range(count)]

    def events(self, count: int, calendars: list[CalendarDocument]) -> list[Event]:
        """Generate exactly `count` events, in the mix described above."""
        shares = {kind: share for kind, share in _SHARES.items() if not (self._documented and kind in _UNDOCUMENTED)}
        special = {kind: int(count * share) or int(count >= 20) for kind, share in shares.items()}
        upcoming = count - sum(special.values())
        events = list(islice(self._upcoming(calendars), upcoming))
        for kind, number in special.items():
            events.extend(self._special(kind, self.rng.choice(calendars)) for _ in range(number))
        return events

    def events_of(self, calendar: CalendarDocument, count: int, now: datetime) -> list[Event]:
        """Generate the events of a calendar that is connected at `now`."""
        self._now = now.replace(second=0, microsecond=0)
        events = self.events(count, [calendar])
        for event in events:
            event.document.created_at = event.document.updated_at = now
            event.document.raw = render(event)
        return events

    def address_of(self, calendar: CalendarDocument) -> str:
        """Return the email address of a calendar's account: its `oauth_email`, or a made-up one."""
        return calendar.oauth_email or _person(self.rng.randrange(360), self.rng.choice(_COMPANIES)).email

    def one_off(self, calendar: CalendarDocument, created_at: datetime) -> Event:
        """Generate a meeting with a URL that is created at `created_at` and starts later."""
        meeting = self._meeting([calendar])
        meeting.created_at = created_at
        start = self._soon() + (created_at.replace(second=0, microsecond=0) - self._now)
        return self._event(meeting, calendar, start, timedelta(minutes=30))

    def link(self) -> tuple[str, MeetingURL]:
        """Generate a meeting platform and a URL on it. One URL in twenty-five is an object."""
        rng = self.rng
        platform = rng.choice(("zoom", "google_meet", "microsoft_teams", "webex"))
        number, token = str(rng.randrange(10**10, 10**11)), f"{rng.getrandbits(96):024x}"
        letters = "".join(rng.choices("abcdefghijkmnpqrstuvwxyz", k=10))
        meet = f"{letters[:3]}-{letters[3:7]}-{letters[7:]}"
        as_object = rng.random() < 0.04 and self._url_objects
        match platform:
            case "zoom" if as_object:
                return platform, {"platform": platform, "meeting_id": number, "meeting_password": token[:10]}
            case "google_meet" if as_object:
                return platform, {"platform": platform, "meeting_id": meet}
            case "zoom":
                return platform, f"https://us02web.zoom.us/j/{number}?pwd={token}"
            case "google_meet":
                return platform, f"https://meet.google.com/{meet}"
            case "webex":
                return platform, f"https://northwind.webex.com/northwind/j.php?MTID=m{token}"
        context = f"%7b%22Tid%22%3a%22{self.identifier()}%22%2c%22Oid%22%3a%22{self.identifier()}%22%7d"
        return (
            platform,
            f"https://teams.microsoft.com/l/meetup-join/19%3ameeting_{token}%40thread.v2/0?context={context}",
        )

    def _calendar(self, place: int) -> CalendarDocument:
        created_at = self._now - timedelta(days=90, minutes=-place)
        owner = _person(place, _COMPANIES[place % 2])
        return CalendarDocument(
            id=self.identifier(),
            oauth_client_id=f"{self.rng.randrange(10**11, 10**12)}.apps.example",
            oauth_client_secret=f"sandbox-secret-{place}",
            oauth_refresh_token=f"sandbox-refresh-{place}",
            platform=("google_calendar", "microsoft_outlook")[place // 2 % 2 ^ place % 2],
            platform_email=owner.email,
            status="connected",
            status_changes=[StatusChange("connecting", created_at), StatusChange("connected", created_at)],
            created_at=created_at,
            updated_at=created_at,
            oauth_email=owner.email,
        )

    def _upcoming(self, calendars: list[CalendarDocument]) -> Iterator[Event]:
        """Yield one-off and recurring meetings endlessly, each in one or several calendars."""
        rng = self.rng
        while True:
            sharers = rng.choices((1, 2, 3), weights=(6, 3, 1))[0]
            members = rng.sample(calendars, min(sharers, len(calendars)))
            interval, occurrences = rng.choice(((0, 1), (0, 1), (0, 1), (1, 5), (7, 4), (14, 2)))
            meeting = self._meeting(members, interval)
            length = timedelta(minutes=rng.choice((25, 30, 45, 60)))
            start = self._soon(days=interval or DAYS_AHEAD)
            for _ in range(occurrences):
                for calendar in members:
                    yield self._event(meeting, calendar, start, length)
                start += timedelta(days=interval)

    def _special(self, kind: str, calendar: CalendarDocument) -> Event:
        rng = self.rng
        meeting, start, length = self._meeting([calendar]), self._soon(), timedelta(minutes=45)
        match kind:
            case "ended":
                start = self._now - timedelta(minutes=rng.randrange(60, 23 * 60))
            case "under_way":
                start, length = self._now - timedelta(minutes=rng.randrange(5, 20)), timedelta(minutes=120)
            case "without_url":
                meeting.meeting_platform = meeting.meeting_url = None
            case "all_day":
                meeting.meeting_platform = meeting.meeting_url = None
                meeting.all_day = True
                start = start.replace(hour=0, minute=0)
                length = timedelta(days=1)
            case "perpetual":
                meeting.perpetual = True
                start += timedelta(seconds=18, milliseconds=951)
        return self._event(meeting, calendar, start, length, is_deleted=kind == "deleted")

    def _soon(self, days: int = DAYS_AHEAD) -> datetime:
        """Return a start time from ten minutes to `days` ahead. Near times are more frequent."""
        steps = days * 24 * 12 - 3
        return self._now + timedelta(minutes=5 * (2 + int(steps * self.rng.random() ** 2)))

    def _meeting(self, members: Iterable[CalendarDocument], interval: int = 0) -> Meeting:
        rng = self.rng
        owners = [owner_of(calendar) for calendar in members]
        guests = [_person(rng.randrange(360), rng.choice(_GUESTS)) for _ in range(rng.randrange(1, 7))]
        room = [Person("Room Aurora", "room.aurora@resource.example", is_room=True)] if rng.random() < 0.1 else []
        people = {person.email: person for person in (*owners, *guests, *room)}
        alone = len(owners) == 1 and rng.random() < 0.05
        platform, url = self.link()
        return Meeting(
            title=rng.choice(_TITLES),
            agenda="".join(rng.choices(_AGENDA, k=rng.randrange(3, 7))),
            ical_uid=f"{rng.getrandbits(128):032x}@google.com"
            if rng.random() < 0.6
            else f"040000008200E{rng.getrandbits(300):075X}",
            organizer=owners[0] if alone or rng.random() < 0.6 else guests[0],
            attendees=None if alone else tuple(people.values()),
            meeting_platform=platform,
            meeting_url=url,
            created_at=self._now - timedelta(minutes=rng.randrange(24 * 60, 80 * 24 * 60)),
            series_id=f"series{rng.getrandbits(120):030x}" if interval else None,
            interval_days=interval,
        )

    def _event(
        self,
        meeting: Meeting,
        calendar: CalendarDocument,
        start: datetime,
        length: timedelta,
        *,
        is_deleted: bool = False,
    ) -> Event:
        rng = self.rng
        google = calendar.platform == "google_calendar"
        platform_id = f"{rng.getrandbits(130):026x}"[:26] if google else f"AAMkAG{rng.getrandbits(560):0140x}AAA="
        if google and meeting.series_id:
            platform_id = f"{meeting.series_id}_{start:%Y%m%dT%H%M%SZ}"
        document = EventDocument(
            id=self.identifier(),
            start_time=start,
            end_time=start + length,
            calendar_id=calendar.id,
            raw=msgspec.Raw(b"{}"),
            platform=calendar.platform,
            platform_id=platform_id,
            ical_uid=meeting.ical_uid,
            meeting_platform=meeting.meeting_platform,
            meeting_url=meeting.meeting_url,
            created_at=meeting.created_at,
            updated_at=max(
                meeting.created_at, min(meeting.created_at + timedelta(seconds=rng.randrange(3600)), self._now)
            ),
            is_deleted=is_deleted,
            bots=[],
        )
        moves = rng.randrange(20, 90) if meeting.perpetual else rng.randrange(3)
        event = Event(document, meeting, owner_of(calendar), rng.choice(_RESPONSES), moves, start)
        event.documented = self._documented
        if self._unusual and rng.random() < self._unusual:
            event.unusual = rng.choice(KINDS)
        document.raw = render(event)
        return event


def owner_of(calendar: CalendarDocument) -> Person:
    """Return the owner of a calendar."""
    email = calendar.platform_email or "nobody@example.com"
    return Person(email.partition("@")[0].replace(".", " ").title(), email)


def _person(number: int, domain: str) -> Person:
    first, last = _FIRST[number % len(_FIRST)], _LAST[number // len(_FIRST) % len(_LAST)]
    suffix = str(number // 360) if number >= 360 else ""
    return Person(f"{first} {last}", f"{first}.{last}{suffix}@{domain}".lower())
