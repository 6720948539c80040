"""Who takes part in an event: the calendar's owner, colleagues, and people from elsewhere.

What the calendar platform's payload says of the owner goes before a comparison of addresses: owners take part under
aliases that the API does not know.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cached_property

from ..models import Calendar, CalendarEvent
from ..platforms import Attendee
from .wording import address_of, domain_of

_GOOGLE = "calendar.google.com"
"""The domain of what Google puts in the place of people: rooms, shared calendars, unknown organizers."""
_MASKED = re.compile(r"outlook_[0-9a-f]+@outlook\.com")
"""How Outlook writes the owner of a mailbox whose address is not Microsoft's."""
_PUBLIC = frozenset(
    {
        "aol.com", "gmail.com", "gmx.de", "gmx.net", "googlemail.com", "hotmail.com", "icloud.com", "live.com", "mac.com",
        "mail.com", "me.com", "msn.com", "outlook.com", "proton.me", "protonmail.com", "qq.com", "web.de", "yahoo.com",
        "yandex.com", "zoho.com", "163.com",
    }
)  # fmt: skip
"""Hosts whose users are no colleagues of each other."""


def own_addresses(calendar: Calendar) -> tuple[str, ...]:
    """Return the addresses of the calendar's owner in lower case, the calendar platform's first."""
    return tuple(filter(None, map(address_of, (calendar.platform_email, calendar.oauth_email))))


class Attendance:
    """The people of one event, as seen from the calendar that it is in."""

    def __init__(self, event: CalendarEvent, calendar: Calendar) -> None:
        self._event = event
        self._attendees = event.attendees
        self._organizer = address_of(event.organizer)
        self._known = own_addresses(calendar)

    @cached_property
    def owner_organizes(self) -> bool:
        """Whether the calendar's owner holds the meeting."""
        said = self._event.is_organizer
        return self._organizer in self._known if said is None else said

    @cached_property
    def own_response(self) -> str | None:
        """What the calendar's owner answered, in the terms of `Attendee.response`; `None` if they are not invited.

        The owner takes part in the meetings that they organize, unless they answered otherwise.
        """
        said = [self._event.own_response]
        if not any(person.is_self for person in self._attendees):
            said += [person.response for person in self._attendees if _address(person) in self._known]
        # Lists go stale: where two answers differ, the more cautious one holds.
        for answer in ("declined", "tentative", "accepted"):
            if answer in said:
                return answer
        if self.owner_organizes:
            return "accepted"
        return "needs_action" if "needs_action" in said else None

    @cached_property
    def _own(self) -> set[str]:
        """Every address that is the owner's in this event."""
        own = {_address(person) for person in self._attendees if person.is_self} | set(self._known)
        if self.owner_organizes:
            own.add(self._organizer)
        elif self._event.own_response is not None:
            masked = {address for address in map(_address, self._attendees) if _MASKED.fullmatch(address)}
            if len(masked) == 1 and own.isdisjoint(map(_address, self._attendees)):
                own |= masked
        return own - {""}

    @cached_property
    def _others(self) -> set[str]:
        """Who takes part beside the owner, by address, or by name where there is no address."""
        listed = [person for person in self._attendees if not person.is_resource and not person.is_self]
        people = {self._organizer, *(_address(person) or person.name or "" for person in listed)} - self._own
        return {person for person in people if person and not _is_placeholder(person)}

    def has_outsiders(self, internal_domains: Collection[str] = ()) -> bool:
        """Tell whether somebody takes part whose email domain is neither the owner's nor one of `internal_domains`.

        Where the platform gives neither attendees nor the owner's answer, or the calendar has no address to compare with,
        nobody is known to be from elsewhere.
        """
        home = {domain_of(email) for email in self._known} | set(internal_domains)
        home |= {domain_of(email) for email in self._own} - _PUBLIC
        if not (self._attendees or self.own_response) or not home - {None}:
            return False
        return any(domain is not None and domain not in home for domain in map(domain_of, self._others))

    @property
    def count(self) -> int:
        """How many people take part, the owner and the organizer included."""
        return len(self._others) + (self.own_response is not None)

    @property
    def organizers(self) -> set[str]:
        """The addresses and domains of the organizer."""
        addresses = {self._organizer} | (set(self._known) if self.owner_organizes else set())
        return {*addresses, *(domain_of(each) or "" for each in addresses if not _is_placeholder(each))} - {""}


def _address(person: Attendee) -> str:
    return address_of(person.email)


def _is_placeholder(address: str) -> bool:
    domain = domain_of(address) or ""
    return domain == _GOOGLE or domain.endswith(f".{_GOOGLE}")
