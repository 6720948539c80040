"""Who takes part in an event: the calendar's owner, colleagues, and people from elsewhere."""

from __future__ import annotations

from ..models import Calendar, CalendarEvent


def domain_of(email: str | None) -> str | None:
    """The domain of an email address in lower case; `None` for what is no address."""
    name, _, domain = (email or "").strip().casefold().rpartition("@")
    return domain if name and domain else None


def own_addresses(calendar: Calendar) -> tuple[str, ...]:
    """The addresses of the calendar's owner in lower case, the calendar platform's first."""
    return tuple(email.casefold() for email in (calendar.platform_email, calendar.oauth_email) if email)


def own_response(event: CalendarEvent, calendar: Calendar) -> str | None:
    """What the calendar's owner answered, in the terms of `Attendee.response`.

    Who organizes a meeting takes part in it, unless the answer is another one. `None` if the owner is not invited.
    """
    own = own_addresses(calendar)
    answers = [
        person.response
        for person in event.attendees
        if person.is_self or (person.email is not None and person.email.casefold() in own)
    ]
    answer = answers[0] if answers else _outlook_response(event)
    if answer in (None, "needs_action") and (event.organizer or "").casefold() in own:
        return "accepted"
    return answer


def _outlook_response(event: CalendarEvent) -> str | None:
    """The owner's answer where the invitation went to a group or another of the owner's addresses."""
    status = event.raw_document().get("responseStatus") if event.platform == "microsoft_outlook" else None
    response = status.get("response") if isinstance(status, dict) else None
    return "accepted" if response in ("accepted", "organizer") else None


def has_outsiders(event: CalendarEvent, calendar: Calendar) -> bool:
    """Whether somebody takes part whose email domain is not that of the calendar.

    Rooms, equipment and calendars of groups are nobody. Where the platform gives no attendees, or the calendar has no
    address to compare with, nobody is known to be from elsewhere.
    """
    attendees = event.attendees
    home = {domain_of(email) for email in own_addresses(calendar)}
    if not attendees or not home:
        return False
    people = [person.email for person in attendees if not person.is_resource]
    return any(_is_company(domain) and domain not in home for domain in map(domain_of, [*people, event.organizer]))


def _is_company(domain: str | None) -> bool:
    # Google's addresses of rooms (resource.calendar.google.com) and of shared calendars (group.calendar.google.com)
    return domain is not None and not domain.endswith(".calendar.google.com")
