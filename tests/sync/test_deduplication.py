"""Deduplication keys: as the documentation writes them, and the same for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recall_async import Deduplication, MeetingURL
from recall_async.resources.fields import MAX_DEDUPLICATION_KEY
from recall_async.sync.deduplication import time_text
from tests.sync.invitations import HOME, ZOOM, calendar, event, uuid

WHEN = datetime(2025, 6, 10, 18, 54, 18, 951000, UTC)


def key(scheme: Deduplication, *, home: dict[str, object] | None = None, **fields: object) -> str:
    return scheme(event(start_time=WHEN, **fields), calendar(**(home or {})))


def test_keys_as_documented():
    """A workspace's keys change, and with them every bot."""
    assert key(Deduplication.MEETING) == f"2025-06-10T18:54:18.951Z-{ZOOM}"
    assert key(Deduplication.COMPANY) == f"2025-06-10T18:54:18.951Z-{ZOOM}-{HOME}"
    assert key(Deduplication.EVENT) == f"2025-06-10T18:54:18.951Z-{ZOOM}-{uuid(1)}"


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (WHEN.astimezone(timezone(timedelta(hours=5, minutes=30))), "2025-06-10T18:54:18.951Z"),
        (datetime(2025, 6, 10, tzinfo=UTC), "2025-06-10T00:00:00.000Z"),
        (datetime(2025, 6, 10, 23, 59, 59, 999999, UTC), "2025-06-10T23:59:59.999Z"),
        (datetime(2025, 6, 10, 0, 30, tzinfo=timezone(timedelta(hours=1))), "2025-06-09T23:30:00.000Z"),
        (datetime(25, 1, 1, tzinfo=UTC), "0025-01-01T00:00:00.000Z"),
    ],
)
def test_times_are_written_one_way(moment, text):
    """Two calendars in two time zones send two bots into one meeting."""
    assert time_text(moment) == text


@given(st.datetimes(timezones=st.timezones()))
def test_time_does_not_depend_on_how_it_came(moment):
    """The same instant, read with another offset or a finer clock, makes another key."""
    utc = moment.astimezone(UTC)
    assert time_text(moment) == time_text(utc) == time_text(utc.replace(microsecond=utc.microsecond // 1000 * 1000))
    assert timedelta(0) <= utc - datetime.fromisoformat(time_text(moment)) < timedelta(milliseconds=1)


def test_object_gives_a_stable_key():
    """The order of an object's fields, or a null among them, makes another key."""
    one = MeetingURL(platform="zoom", meeting_id="831", meeting_password=None)
    other = MeetingURL(meeting_id="831", platform="zoom")
    expected = '2025-06-10T18:54:18.951Z-{"meeting_id":"831","platform":"zoom"}'
    assert key(Deduplication.MEETING, meeting_url=one) == key(Deduplication.MEETING, meeting_url=other) == expected


def test_every_field_of_an_object_counts():
    """Two meetings that differ in one field share a bot."""
    names = MeetingURL.__struct_fields__
    keys = {key(Deduplication.MEETING, meeting_url=MeetingURL(**{name: "x"})) for name in names}
    assert len(keys) == len(names)


@pytest.mark.parametrize("scheme", Deduplication)
@pytest.mark.parametrize("nothing", [None, "", MeetingURL()])
def test_events_without_a_url_share_nothing(scheme, nothing):
    """All events without a URL at one time share one bot."""
    event_key = key(scheme, meeting_url=nothing)
    assert event_key == f"2025-06-10T18:54:18.951Z-{uuid(1)}"


def test_company_of_a_calendar():
    """A calendar's company depends on how its address is spelled, or on which of its addresses is known."""
    home = {"platform_email": "Ada@NORTHWIND.example", "oauth_email": "ada@other.example"}
    assert key(Deduplication.COMPANY, home=home).endswith(f"-{HOME}")
    home = {"platform_email": None, "oauth_email": f"ada@{HOME}"}
    assert key(Deduplication.COMPANY, home=home).endswith(f"-{HOME}")


def test_calendars_without_an_address_are_no_company():
    """Calendars that were connected a moment ago share bots across companies."""
    home = {"platform_email": None, "oauth_email": None}
    assert key(Deduplication.COMPANY, home=home).endswith(f"-{uuid(1000)}")


@pytest.mark.parametrize("scheme", Deduplication)
def test_keys_fit(scheme):
    """An event with a very long link cannot be scheduled, or shares its bot with another one's."""
    long = ZOOM + "&" + "x" * MAX_DEDUPLICATION_KEY
    keys = {key(scheme, meeting_url=long), key(scheme, meeting_url=long + "y")}
    assert len(keys) == 2
    assert max(map(len, keys)) <= MAX_DEDUPLICATION_KEY
    assert all(text.startswith("2025-06-10T18:54:18.951Z-sha256:") for text in keys)
