"""Invitations as they really come: each kind occurs on both platforms, and only when it is asked for."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from recall_async.sandbox.data import Generator
from recall_async.sandbox.documents import Event
from recall_async.sandbox.payloads import render
from recall_async.sandbox.unusual import KINDS, PLACEHOLDER
from tests.sandbox.conftest import Api, moment

NOW = datetime(2025, 6, 10, 12, 30, tzinfo=UTC)


def events(platform: str, kind: str) -> list[tuple[Event, dict[str, Any]]]:
    """Events of one kind with their payloads."""
    generator = Generator(7, NOW)
    drawn = generator.events(200, generator.calendars(4))
    found = []
    for event in drawn:
        if event.document.platform == platform:
            event.unusual = kind
            found.append((event, msgspec.json.decode(render(event))))
    assert len(found) > 50
    return found


def test_seeds_give_what_they_gave() -> None:
    """Asking for nothing unusual would change the data of every test that names a seed."""
    plain, unusual = [Generator(7, NOW, **options) for options in ({}, {"unusual": 1.0})]
    calendars = plain.calendars(3)
    assert unusual.calendars(3) == calendars
    assert not any(event.unusual for event in plain.events(200, calendars))
    drawn = unusual.events(200, calendars)
    assert {event.unusual for event in drawn} == set(KINDS)
    assert {event.document.platform for event in drawn} == {"google_calendar", "microsoft_outlook"}


@pytest.mark.parametrize("platform", ["google_calendar", "microsoft_outlook"])
def test_text_is_decomposed(platform: str) -> None:
    """Titles would compare equal by luck."""
    for _, payload in events(platform, "odd_text"):
        title = payload.get("summary") or payload.get("subject")
        assert unicodedata.normalize("NFC", title) != title
        assert "\u00a0" in title


def test_google_owners() -> None:
    """The owner would be found by the address, which is not how Google tells who it is."""
    seen = set()
    for event, payload in events("google_calendar", "alias"):
        own = [person for person in (*payload["attendees"], payload["organizer"]) if person.get("self")]
        assert event.owner.email not in {person["email"] for person in own}
        seen.add(bool(own))
    assert True in seen
    for _, payload in events("google_calendar", "owner_not_invited"):
        assert not any(person.get("self") for person in payload["attendees"])
        assert payload["organizer"]["self"] is True


def test_outlook_owners() -> None:
    """What the top of an Outlook event says of its owner would never differ from the list of attendees."""
    for event, payload in events("microsoft_outlook", "owner_not_invited"):
        assert event.owner.email not in [person["emailAddress"]["address"] for person in payload["attendees"]]
        assert payload["responseStatus"]["response"] in ("organizer", "accepted")
    for event, payload in events("microsoft_outlook", "own_answer_elsewhere"):
        own = [person for person in payload["attendees"] if person["emailAddress"]["address"] == event.owner.email]
        assert {person["status"]["response"] for person in own} <= {"none"}
        assert payload["responseStatus"]["response"] in ("organizer", "accepted")
    for _, payload in events("microsoft_outlook", "declined_elsewhere"):
        assert payload["responseStatus"]["response"] == "declined"
    aliases = [payload["organizer"]["emailAddress"]["address"] for _, payload in events("microsoft_outlook", "alias")]
    assert any(alias.startswith("outlook_") and alias.endswith("@outlook.com") for alias in aliases)


@pytest.mark.parametrize("platform", ["google_calendar", "microsoft_outlook"])
def test_placeholders_and_nobody(platform: str) -> None:
    """Addresses that are nobody would never be met."""
    for _, payload in events(platform, "placeholder_organizer"):
        assert PLACEHOLDER in str(payload["organizer"])
    for _, payload in events(platform, "null_organizer"):
        assert payload["organizer"] is None
    for _, payload in events(platform, "groups_and_rooms"):
        assert "@group.calendar.google.com" in str(payload["attendees"])
        assert "@resource.calendar.google.com" in str(payload["attendees"])
    for _, payload in events(platform, "organizer_not_invited"):
        organizer = payload["organizer"].get("email") or payload["organizer"]["emailAddress"]["address"]
        assert organizer not in str(payload["attendees"])


async def test_a_test_writes_a_payload_of_its_own(api: Api) -> None:
    """A test could not try a payload that somebody has met, or it would be gone with the next change."""
    event = api.upcoming()[0]
    api.clock.seconds += 5
    api.sandbox.write_raw(event["id"], {"summary": "Mine", "attendees": None})
    for _ in range(2):
        found = await api.event(event["id"])
        assert found["raw"] == {"summary": "Mine", "attendees": None}
        assert moment(found["updated_at"]) == api.clock.now()
        api.state.move_event(api.state.events[event["id"]], moment(event["start_time"]), api.clock.now())


async def test_urls_as_text_only(start: Callable[..., Any]) -> None:
    """A client that takes URLs as text only could not be tried on data of any size."""
    api: Api = await start(events=500, url_objects=False)
    assert {type(event["meeting_url"]) for event in api.events()} == {str, type(None)}
    with_objects: Api = await start(events=500)
    assert [event["id"] for event in with_objects.events()] == [event["id"] for event in api.events()]


@pytest.mark.parametrize(
    "settings",
    [{"unusual": 1.5}, {"unusual": -1}, {"connect_after": -1}, {"shared_bots": "x"}, {"webhook_headers": "x"}],
)
async def test_impossible_settings(start: Callable[..., Any], settings: dict[str, Any]) -> None:
    """A typing mistake would show as odd data."""
    with pytest.raises(ValueError, match=next(iter(settings))):
        await start(**settings)
