"""The participants of an event: the calendar's owner, colleagues, and people from outside.

The calendar platform's own mark of the owner takes precedence over a comparison of addresses, because owners use
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
"""The domain of Google's placeholder addresses: rooms, shared calendars, unknown organizers."""
_MASKED = re.compile(r"outlook_[0-9a-f]+@outlook\.com")
"""The address that Outlook shows for a mailbox owner whose own address is not at Microsoft."""
_PUBLIC = frozenset(
    {
        "aol.com", "gmail.com", "gmx.de", "gmx.net", "googlemail.com", "hotmail.com", "icloud.com", "live.com", "mac.com",
        "mail.com", "me.com", "msn.com", "outlook.com", "proton.me", "protonmail.com", "qq.com", "web.de", "yahoo.com",
        "yandex.com", "zoho.com", "163.com",
    }
)  # fmt: skip
"""Public mail hosts: two users of one are not colleagues."""


def own_addresses(calendar: Calendar) -> tuple[str, ...]:
    """Return the owner's addresses in lower case, beginning with that of the calendar platform."""
    return tuple(filter(None, map(address_of, (calendar.platform_email, calendar.oauth_email))))


class Attendance:
    """The participants of one event, as seen from its calendar."""

    def __init__(self, event: CalendarEvent, calendar: Calendar) -> None:
        self._event = event
        self._attendees = event.attendees
        self._organizer = address_of(event.organizer)
        self._known = own_addresses(calendar)

    @cached_property
    def owner_organizes(self) -> bool:
        """True if the calendar's owner organizes the meeting."""
        said = self._event.is_organizer
        return self._organizer in self._known if said is None else said

    @cached_property
    def own_response(self) -> str | None:
        """The owner's reply to the invitation, as in `Attendee.response`; `None` if the owner is not invited.

        An organizer counts as accepted, unless they replied otherwise.
        """
        said = [self._event.own_response]
        if not any(person.is_self for person in self._attendees):
            said += [person.response for person in self._attendees if _address(person) in self._known]
        # Attendee lists can be outdated: if two replies differ, the more cautious one counts.
        for answer in ("declined", "tentative", "accepted"):
            if answer in said:
                return answer
        if self.owner_organizes:
            return "accepted"
        return "needs_action" if "needs_action" in said else None

    @cached_property
    def _own(self) -> set[str]:
        """All addresses of the owner in this event."""
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
        """The participants other than the owner, by address, or by name if they have no address."""
        listed = [person for person in self._attendees if not person.is_resource and not person.is_self]
        people = {self._organizer, *(_address(person) or person.name or "" for person in listed)} - self._own
        return {person for person in people if person and not _is_placeholder(person)}

    def has_outsiders(self, internal_domains: Collection[str] = ()) -> bool:
        """Return whether a participant has an email domain that is neither the owner's nor one of `internal_domains`.

        Returns False if the platform gives neither attendees nor the owner's reply, or if the calendar has no address
        to compare with.
        """
        home = {domain_of(email) for email in self._known} | set(internal_domains)
        home |= {domain_of(email) for email in self._own} - _PUBLIC
        if not (self._attendees or self.own_response) or not home - {None}:
            return False
        return any(domain is not None and domain not in home for domain in map(domain_of, self._others))

    @property
    def count(self) -> int:
        """The number of participants, including the owner and the organizer."""
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
