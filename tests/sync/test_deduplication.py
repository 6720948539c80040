"""Deduplication keys: as the documentation writes them, and the same for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recall_async import ConfigurationError, Deduplication, KeyTemplate, MeetingURL, RecordingPolicy
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


@pytest.mark.parametrize("scheme", [*Deduplication, KeyTemplate("{start_time}-{meeting_url}")], ids=str)
def test_meetings_of_a_platform_that_is_not_known(scheme):
    """All meetings of a new platform that begin at one time share one bot, which joins one of them."""
    new = {"meeting_url": MeetingURL(platform="new", meeting_password="x")}
    keys = [key(scheme, **new, number=1, ical_uid="a"), key(scheme, **new, number=2, ical_uid="b")]
    assert len(set(keys)) == 2
    assert scheme.could_make(keys[0], event(1))
    shared = key(scheme, **new, number=3, ical_uid="a") == keys[0]
    assert shared is (scheme is not Deduplication.EVENT)
    assert key(scheme, **new, number=1, ical_uid=None) != key(scheme, **new, number=2, ical_uid=None)


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


def test_most_schemes_need_no_calendar():
    """A program that schedules one bot has to fetch a calendar for its key, and writes a scheme of its own instead."""
    one = event(start_time=WHEN)
    assert Deduplication.MEETING(one) == Deduplication.MEETING(one, calendar()) == f"2025-06-10T18:54:18.951Z-{ZOOM}"
    assert Deduplication.EVENT(one) == Deduplication.EVENT(one, calendar())
    with pytest.raises(ConfigurationError, match="needs the event's calendar"):
        Deduplication.COMPANY(one)
    with pytest.raises(ConfigurationError, match="needs the event's calendar"):
        KeyTemplate("{event_id}-{email_domain}")(one)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{start_time}-{meeting_url}", Deduplication.MEETING(event(start_time=WHEN))),
        ("{start_time}-{meeting_url}-{email_domain}", Deduplication.COMPANY(event(start_time=WHEN), calendar())),
        ("{start_time}-{meeting_url}-{event_id}", Deduplication.EVENT(event(start_time=WHEN))),
        ("{start_time:%Y-%m-%dT%H:%M:%SZ}-{meeting_url}", f"2025-06-10T18:54:18Z-{ZOOM}"),
        ("{{{start_time}}}/{ical_uid}", "{2025-06-10T18:54:18.951Z}/" + uuid(1)),
        ("team a: {event_id}", f"team a: {uuid(1)}"),
        ("{calendar_id}{platform_id}{event_id}", uuid(1000) + uuid(1) * 2),
    ],
)
def test_a_scheme_as_a_template(template, expected):
    """A team that has a scheme cannot keep it, and sends every bot anew."""
    policy = RecordingPolicy(deduplication=template)
    assert policy(event(start_time=WHEN), calendar()).deduplication_key == expected
    assert str(policy.deduplication) == template


def test_a_template_in_a_file(tmp_path):
    """A scheme of a team's own needs a program."""
    path = tmp_path / "policy.toml"
    path.write_text('deduplication = "{start_time}-{meeting_url}"')
    assert RecordingPolicy.from_toml(path) == RecordingPolicy(deduplication=KeyTemplate("{start_time}-{meeting_url}"))


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{meeting_url}", "a template with {event_id}, or with {start_time} and"),
        ("{start_time}", "a template with {event_id}, or with {start_time} and"),
        ("{start_time}-{title}", "the fields start_time, meeting_url"),
        ("{}-{event_id}", "the fields start_time"),
        ("{event_id.__class__}", "the fields start_time"),
        ("{event_id!r}", "the fields start_time"),
        ("{event_id:>40}", "the fields start_time"),
        ("{event_id", "must be a template, got"),
        ("{start_time:%H:%M}-{meeting_url}", "no two minutes are the same"),
        ("{start_time:%Y-%m-%d}-{meeting_url}", "no two minutes are the same"),
        ("{start_time:{event_id}}-{meeting_url}", "no two minutes are the same"),
    ],
)
def test_templates_that_are_none(template, said):
    """A mistake in a template sends one bot into all meetings."""
    with pytest.raises(ConfigurationError) as error:
        RecordingPolicy(deduplication=template)
    assert said in str(error.value)


def test_a_long_address_in_a_template():
    """A template with a very long link makes a key that the API refuses."""
    one, other = (event(meeting_url=ZOOM + "x" * 3000 + end) for end in "ab")
    scheme = KeyTemplate("{start_time}-{meeting_url}")
    assert scheme(one) != scheme(other)
    assert scheme(one) == Deduplication.MEETING(one)


def test_any_long_field_in_a_template():
    """One event with a very long id of its platform makes a key that the API refuses, so that no plan can be made."""
    scheme = KeyTemplate("{start_time}-{ical_uid}-{platform_id}")
    one, other = (event(ical_uid="x" * 1500 + end, platform_id="y" * 1500) for end in "ab")
    keys = {scheme(each) for each in (one, other)}
    assert len(keys) == 2
    assert all(len(key) <= 2000 and scheme.could_make(key, one) for key in keys)
    assert RecordingPolicy(deduplication=scheme)(one, calendar()) is not None
    with pytest.raises(ConfigurationError, match="at most 1000 characters"):
        KeyTemplate("x" * 2000 + "{event_id}")


def test_templates_are_values():
    """Two policies with the same template would differ, or a log would show an address in memory."""
    one, same, other = KeyTemplate("{event_id}"), KeyTemplate("{event_id}"), KeyTemplate("{event_id}!")
    assert {one: 1}[same] == 1
    assert other not in {one}
    assert repr(one) == "KeyTemplate('{event_id}')"
