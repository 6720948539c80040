"""The participants of an event: the calendar's owner, colleagues, and people from outside.

The calendar platform's own mark of the owner takes precedence over a comparison of addresses, because owners use
aliases that the API does not know.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cached_property

from ..models import Calendar, CalendarEvent
from ..platforms import Attendee
from .wording import address_of, domain_of, mailbox_of

_GOOGLE = "calendar.google.com"
"""The domain of Google's placeholder addresses: rooms, shared calendars, unknown organizers."""
_MASKED = re.compile(r"outlook_[0-9a-z]+@outlook\.com")
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
    """The participants of one event, as seen from its calendar. Addresses are compared as mailboxes."""

    def __init__(self, event: CalendarEvent, calendar: Calendar) -> None:
        self._event = event
        self._attendees = event.attendees
        self._organizer = mailbox_of(event.organizer)
        self._known = set(map(mailbox_of, own_addresses(calendar)))

    @cached_property
    def owner_organizes(self) -> bool:
        """True if the calendar's owner organizes the meeting."""
        said = self._event.is_organizer
        return self._organizer in self._marked | self._known if said is None else said

    @cached_property
    def own_response(self) -> str | None:
        """The owner's reply to the invitation, as in `Attendee.response`; `None` if the owner is not invited.

        An organizer counts as accepted, unless they replied otherwise.
        """
        said = [self._event.own_response]
        if not any(person.is_self for person in self._attendees):
            said += [person.response for person in self._attendees if _mailbox(person) in self._known]
        # Attendee lists can be outdated: if two replies differ, the more cautious one counts.
        for answer in ("declined", "tentative", "accepted"):
            if answer in said:
                return answer
        if self.owner_organizes:
            return "accepted"
        return "needs_action" if "needs_action" in said else None

    @cached_property
    def _marked(self) -> set[str]:
        """The addresses that the platform marks as the owner's."""
        return {_mailbox(person) for person in self._attendees if person.is_self} - {""}

    @cached_property
    def _rooms(self) -> set[str]:
        return {_mailbox(person) for person in self._attendees if person.is_resource}

    @cached_property
    def _own(self) -> set[str]:
        """All addresses of the owner in this event."""
        own = self._marked | self._known
        if self.owner_organizes:
            own.add(self._organizer)
        elif self._event.own_response is not None and own.isdisjoint(map(_mailbox, self._attendees)):
            own |= self._alias
        return own - {""}

    @property
    def _alias(self) -> set[str]:
        """The address under which the owner was probably invited, of an owner whose own addresses are not listed."""
        replies = (self._event.own_response, "needs_action", None)
        listed = {_mailbox(person) for person in self._attendees if person.response in replies}
        listed -= {*self._rooms, self._organizer}
        masked = {address for address in listed if _MASKED.fullmatch(address)}
        names = {_name(address) for address in self._known}
        namesakes = {address for address in listed if _name(address) in names}
        return next((alike for alike in (masked, namesakes) if len(alike) == 1), set())

    @cached_property
    def _others(self) -> set[str]:
        """The participants other than the owner, by address, or by name if they have no address."""
        listed = [person for person in self._attendees if not person.is_resource and not person.is_self]
        people = {self._organizer, *(_mailbox(person) or person.name or "" for person in listed)}
        return {person for person in people - self._own - self._rooms if person and not _is_placeholder(person)}

    def has_outsiders(self, internal_domains: Collection[str] = ()) -> bool:
        """Return whether a participant has an email domain that is neither the owner's nor one of `internal_domains`.

        Returns False if the platform gives neither attendees nor the owner's reply, or if the calendar has no address
        to compare with.
        """
        home = _domains(self._known) | set(internal_domains) | (_domains(self._own) - _PUBLIC)
        if not (self._attendees or self.own_response) or not home:
            return False
        suffixes = tuple(domain[1:] for domain in home if domain.startswith("*."))
        return any(domain not in home and not domain.endswith(suffixes) for domain in _domains(self._others))

    @property
    def count(self) -> int:
        """The number of participants, including the owner and the organizer."""
        return len(self._others) + (self.own_response is not None)

    @property
    def organizers(self) -> set[str]:
        """The addresses and domains of the organizer."""
        written = {self._organizer, address_of(self._event.organizer)}
        addresses = written | (self._known if self.owner_organizes else set())
        return {*addresses, *_domains(each for each in addresses if not _is_placeholder(each))} - {""}


def _mailbox(person: Attendee) -> str:
    return mailbox_of(person.email)


def _name(address: str) -> str:
    return address.rpartition("@")[0]


def _domains(addresses: Iterable[str]) -> set[str]:
    """Return the domains of email addresses. Other texts have none."""
    return set(filter(None, map(domain_of, addresses)))


def _is_placeholder(address: str) -> bool:
    domain = domain_of(address) or ""
    return domain == _GOOGLE or domain.endswith(f".{_GOOGLE}")
