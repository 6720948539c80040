"""The models decode what the API sends, say where it is wrong, and give it back unchanged."""

from __future__ import annotations

import copy
import gc
import json
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async.models import Calendar, CalendarAccessToken, CalendarEvent, MeetingURL, Page
from recall_async.platforms import Attendee

DATA = Path(__file__).parent / "data"
EVENTS = msgspec.json.Decoder(Page[CalendarEvent])
EVENT_FILES = ("event_documented", "event_google", "event_outlook", "event_perpetual")
GOOGLE, OUTLOOK = "google_calendar", "microsoft_outlook"
TIMES = {"start_time", "end_time", "created_at", "updated_at", "expires_at"}


def document(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_bytes())


def decode(value: Any) -> CalendarEvent:
    return msgspec.json.decode(json.dumps(value), type=CalendarEvent)


def event(raw: Any, platform: str = GOOGLE) -> CalendarEvent:
    return decode(document("event_documented") | {"platform": platform, "raw": raw})


def instants(value: Any) -> Any:
    """The document with its own times as instants; the platform's payload stays as it is."""
    if isinstance(value, dict):
        return {
            key: datetime.fromisoformat(item) if key in TIMES else item if key == "raw" else instants(item)
            for key, item in value.items()
        }
    return [instants(item) for item in value] if isinstance(value, list) else value


def common(event: CalendarEvent) -> tuple[Any, ...]:
    return event.title, event.organizer, event.attendees, event.series_id, event.is_cancelled, event.is_all_day


NOTHING = (None, None, (), None, False, False)


@pytest.mark.parametrize("name", EVENT_FILES)
def test_event_encodes_back_to_an_equal_document(name: str) -> None:
    """Would lose or change a field of the documented, Google, Outlook and perpetual samples."""
    assert instants(json.loads(msgspec.json.encode(decode(document(name))))) == instants(document(name))


def test_page_encodes_back_to_an_equal_document() -> None:
    """Would lose a null, a meeting URL in object form or a missing one; what is unknown is dropped, and only that."""
    expected = document("page_events")
    del expected["results"][-1]["added_later"]
    page = EVENTS.decode((DATA / "page_events.json").read_bytes())
    assert instants(json.loads(msgspec.json.encode(page))) == instants(expected)


def test_documented_sample() -> None:
    """Would make POST and DELETE answers as documented, without `raw`, undecodable."""
    sample = decode(document("event_documented"))
    assert sample.start_time == datetime(2019, 8, 24, 14, 15, 22, tzinfo=UTC)
    assert sample.raw is msgspec.UNSET
    assert [bot.bot_id for bot in sample.bots] == ["30673e6c-0d2b-4d1c-8f0a-d4dc04c2bd14"]
    assert (*common(sample), sample.raw_document()) == (*NOTHING, {})


def test_bots_of_a_perpetual_event() -> None:
    """Would show only one of the bots of an event that was moved forward again and again."""
    bots = decode(document("event_perpetual")).bots
    assert len({bot.deduplication_key for bot in bots}) == len(bots) == 4


def test_google_payload() -> None:
    """Would misread what Google says about an event."""
    document_ = document("event_google")
    raw, google = document_["raw"], decode(document_)
    assert google.title == raw["summary"]
    assert google.organizer == raw["organizer"]["email"]
    assert google.series_id == raw["recurringEventId"]
    assert [person.email for person in google.attendees] == [person["email"] for person in raw["attendees"]]
    assert [person.email for person in google.attendees if person.is_organizer] == [google.organizer]
    assert sum(person.is_self for person in google.attendees) == 1
    assert google.attendees[-1] == Attendee(
        email=raw["attendees"][-1]["email"], name="Lovelace (6)", response="accepted", is_resource=True
    )
    assert not google.is_cancelled
    assert not google.is_all_day
    assert google.raw_document() == raw


def test_outlook_payload() -> None:
    """Would misread what Outlook says about an event."""
    document_ = document("event_outlook")
    raw, outlook = document_["raw"], decode(document_)
    assert outlook.title == raw["subject"]
    assert outlook.organizer == raw["organizer"]["emailAddress"]["address"]
    assert outlook.series_id == raw["seriesMasterId"]
    assert [p.email for p in outlook.attendees] == [p["emailAddress"]["address"] for p in raw["attendees"]]
    assert outlook.attendees[-1] == Attendee(
        email="room.hopper@example.com", name="Room Hopper", response="accepted", is_resource=True
    )
    assert not outlook.is_cancelled
    assert not outlook.is_all_day
    assert outlook.raw_document() == raw


def test_special_events_of_a_page() -> None:
    """Would misread all-day and cancelled events, meeting URLs in object form, or a platform added since."""
    all_day, cancelled, zoom, teams, new = EVENTS.decode((DATA / "page_events.json").read_bytes()).results
    assert (all_day.is_all_day, all_day.attendees, all_day.meeting_url) == (True, (), None)
    assert (cancelled.is_cancelled, cancelled.is_deleted) == (True, True)
    assert isinstance(zoom.meeting_url, MeetingURL)
    assert (zoom.meeting_url.platform, zoom.meeting_url.meeting_id) == ("zoom", "85550100123")
    assert zoom.meeting_url.thread_id is msgspec.UNSET
    assert isinstance(teams.meeting_url, MeetingURL)
    assert teams.meeting_url.meeting_id is None
    assert (new.platform, new.meeting_platform) == ("new_calendar", "holodeck")
    assert (*common(new), new.raw_document()) == (*NOTHING, {})


@pytest.mark.parametrize(
    ("platform", "person", "response"),
    [
        (GOOGLE, {"responseStatus": "accepted"}, "accepted"),
        (GOOGLE, {"responseStatus": "declined"}, "declined"),
        (GOOGLE, {"responseStatus": "tentative"}, "tentative"),
        (GOOGLE, {"responseStatus": "needsAction"}, "needs_action"),
        (GOOGLE, {"responseStatus": "pondering"}, None),
        (GOOGLE, {"responseStatus": None}, None),
        (GOOGLE, {}, None),
        (OUTLOOK, {"status": {"response": "accepted"}}, "accepted"),
        (OUTLOOK, {"status": {"response": "organizer"}}, "accepted"),
        (OUTLOOK, {"status": {"response": "declined"}}, "declined"),
        (OUTLOOK, {"status": {"response": "tentativelyAccepted"}}, "tentative"),
        (OUTLOOK, {"status": {"response": "notResponded"}}, "needs_action"),
        (OUTLOOK, {"status": {"response": "none"}}, "needs_action"),
        (OUTLOOK, {"status": {"response": "pondering"}}, None),
        (OUTLOOK, {"status": {"response": None}}, None),
        (OUTLOOK, {"status": "accepted"}, None),
        (OUTLOOK, {}, None),
    ],
)
def test_responses_in_common_words(platform: str, person: dict[str, Any], response: str | None) -> None:
    """Would give an attendee's answer in a platform's own words, or take an unknown one for an answer."""
    assert [p.response for p in event({"attendees": [person]}, platform).attendees] == [response]


def test_flags_of_attendees() -> None:
    """Would lose who is optional, or who of Outlook's attendees is the organizer."""
    google = event({"attendees": [{"email": "a@example.com", "optional": True}]})
    assert [person.is_optional for person in google.attendees] == [True]
    address = {"emailAddress": {"address": "A@example.com"}}
    outlook = event(
        {
            "organizer": {"emailAddress": {"address": "a@example.com"}},
            "attendees": [address, {"status": {"response": "organizer"}}, {"type": "optional"}],
        },
        OUTLOOK,
    )
    assert [(p.is_organizer, p.is_optional) for p in outlook.attendees] == [(True, False), (True, False), (False, True)]


def test_one_odd_part_does_not_hide_the_others() -> None:
    """Would make a whole payload, or all of its attendees, unreadable for one malformed part."""
    people = ["x", None, 3, [], {"email": "a@example.com", "emailAddress": {"address": "a@example.com"}}, {"email": {}}]
    raw = {"summary": "T", "subject": "T", "organizer": [1], "start": "today", "status": {}, "attendees": people}
    for platform in (GOOGLE, OUTLOOK):
        odd = event(raw, platform)
        assert (odd.title, odd.organizer, odd.is_cancelled, odd.is_all_day) == ("T", None, False, False)
        assert [person.email for person in odd.attendees] == ["a@example.com", None]


@pytest.mark.parametrize(
    "odd",
    [
        b"1e999",
        b"-1e999",
        b"NaN",
        b"Infinity",
        b'"\\ud83d"',
        b'"\\udc00 \\ud83d\\ude00"',
        b"[" * 5000 + b"]" * 5000,
        b'"\xff"',
        b'"a\nb"',
    ],
)
def test_one_odd_value_does_not_hide_the_others(odd: bytes) -> None:
    """Would empty title, organizer and attendees for one number or character that a decoder refuses."""
    google = json.dumps({"summary": "T", "attendees": [{"email": "a@example.com", "additionalGuests": "??"}]})
    raw = msgspec.Raw(google.encode().replace(b'"??"', odd))
    odd_event = msgspec.structs.replace(event({}), raw=raw)
    assert odd_event.title == "T"
    assert [person.email for person in odd_event.attendees] == ["a@example.com"]
    assert odd_event.raw_document()["summary"] == "T"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
parts = ("summary", "subject", "recurringEventId", "seriesMasterId", "organizer", "attendees", "status", "start")
people = dict.fromkeys(("email", "emailAddress", "responseStatus", "status", "type", "displayName"), json_values)
payloads = json_values | st.fixed_dictionaries(
    {},
    optional=dict.fromkeys((*parts, "isCancelled", "isAllDay"), json_values)
    | {"attendees": json_values | st.lists(json_values | st.fixed_dictionaries({}, optional=people), max_size=3)},
)


@settings(max_examples=100, deadline=None)
@given(raw=payloads, platform=st.sampled_from([GOOGLE, OUTLOOK, "new_calendar"]))
def test_accessors_take_any_payload(raw: Any, platform: str) -> None:
    """Would let a payload that no platform has documented break the reading of an event."""
    odd = event(raw, platform)
    assert len(common(odd)) == 6
    assert isinstance(odd.raw_document(), dict)


def test_payload_that_is_not_text() -> None:
    """Would raise from an accessor for bytes that are not UTF-8, or hide the rest of the payload for them."""
    text = json.dumps(document("event_google") | {"raw": {"summary": "??"}}).encode()
    broken = msgspec.json.decode(text.replace(b"??", b"\xff\xfe"), type=CalendarEvent)
    assert (broken.title, broken.raw_document()) == ("\ufffd\ufffd", {"summary": "\ufffd\ufffd"})


times = st.datetimes(
    min_value=datetime(1970, 1, 2),
    max_value=datetime(2100, 1, 1),
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
).map(datetime.isoformat)
words = st.text(max_size=20)
meeting_urls = (
    st.none()
    | words
    | st.fixed_dictionaries({}, optional=dict.fromkeys(MeetingURL.__struct_fields__, st.none() | words))
)
bots = st.fixed_dictionaries(
    {"bot_id": st.uuids().map(str), "start_time": times, "deduplication_key": words, "meeting_url": meeting_urls}
)
documents = st.fixed_dictionaries(
    {
        "id": st.uuids().map(str),
        "calendar_id": st.uuids().map(str),
        **dict.fromkeys(("start_time", "end_time", "created_at", "updated_at"), times),
        **dict.fromkeys(("platform", "platform_id", "ical_uid"), words),
        "meeting_platform": st.none() | words,
        "meeting_url": meeting_urls,
        "is_deleted": st.booleans(),
        "bots": st.lists(bots, max_size=3),
    },
    optional={"raw": json_values},
)


@settings(max_examples=100, deadline=None)
@given(document=documents, added=json_values)
def test_round_trip(document: dict[str, Any], added: Any) -> None:
    """Would change a document by decoding and encoding it; times may be written anew, unknown fields are dropped."""
    decoded = decode(document | {"added_later": added})
    encoded = msgspec.json.encode(decoded)
    assert instants(json.loads(encoded)) == instants(document)
    again = msgspec.json.decode(encoded, type=CalendarEvent)
    assert (again, hash(again)) == (decoded, hash(decoded))


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"id": 1}, "$.results[0].id"),
        ({"start_time": "tomorrow"}, "$.results[0].start_time"),
        ({"start_time": "2025-11-24T09:00:00"}, "$.results[0].start_time"),
        ({"end_time": None}, "$.results[0].end_time"),
        ({"is_deleted": "no"}, "$.results[0].is_deleted"),
        ({"meeting_url": 3}, "$.results[0].meeting_url"),
        ({"meeting_url": {"meeting_id": 3}}, "$.results[0].meeting_url.meeting_id"),
        ({"meeting_platform": ["zoom"]}, "$.results[0].meeting_platform"),
        ({"bots": None}, "$.results[0].bots"),
        ({"bots": [{"bot_id": None}]}, "$.results[0].bots[0].bot_id"),
        ({"bots": [{}]}, "$.results[0].bots[0]"),
    ],
)
def test_a_wrong_type_names_its_path(change: dict[str, Any], path: str) -> None:
    """Would accept a wrong type, or not say where it is."""
    page = {"next": None, "previous": None, "results": [document("event_documented") | change]}
    with pytest.raises(msgspec.ValidationError) as caught:
        EVENTS.decode(json.dumps(page))
    assert str(caught.value).endswith(f"`{path}`")


def test_a_page_without_results_is_an_error() -> None:
    """Would read an answer that is no page as a page without events, hence as events without bots."""
    with pytest.raises(msgspec.ValidationError, match="results"):
        EVENTS.decode(b'{"next": null}')
    assert EVENTS.decode(b'{"results": []}') == Page[CalendarEvent](results=[])


@pytest.mark.parametrize("name", ["event_documented", "event_google"])
def test_fields_that_may_be_missing(name: str) -> None:
    """Would make answers of deployments that leave out what is not essential undecodable."""
    optional = {"raw", "platform_id", "ical_uid", "meeting_platform", "meeting_url", "is_deleted", "bots"}
    bare = decode({key: value for key, value in document(name).items() if key not in optional})
    assert (bare.bots, bare.is_deleted, bare.meeting_url, bare.ical_uid) == ((), False, None, None)


@pytest.mark.parametrize("model", [Calendar, CalendarAccessToken])
def test_secrets_are_masked(model: type[Calendar | CalendarAccessToken]) -> None:
    """Would write a token or a client's secret into a log or a traceback."""
    name = {Calendar: "calendar", CalendarAccessToken: "access_token"}[model]
    secret = msgspec.json.decode((DATA / f"{name}.json").read_bytes(), type=model)
    for shown in (repr(secret), str(secret), f"{[secret]}", repr(secret.__rich_repr__())):
        assert "do-not-show" not in shown
        assert "'***'" in shown
    assert "do-not-show" in msgspec.json.encode(secret).decode()


def test_calendars() -> None:
    """Would change a calendar by decoding and encoding it, or fail for one that leaves most fields out."""
    page = msgspec.json.decode((DATA / "page_calendars.json").read_bytes(), type=Page[Calendar])
    assert [calendar.status for calendar in page.results] == ["connected", "disconnected"]
    expected = document("page_calendars")
    for calendar in expected["results"]:
        calendar.setdefault("metadata", {})
    assert instants(json.loads(msgspec.json.encode(page))) == instants(expected)
    bare = {key: document("calendar")[key] for key in ("id", "platform", "created_at", "updated_at")}
    assert msgspec.json.decode(json.dumps(bare), type=Calendar).oauth_refresh_token is None


@pytest.mark.parametrize(
    ("history", "found"),
    [
        ([{"status": "connected", "created_at": "2025-06-10T12:00:00Z"}], [("connected", 12)]),
        (
            [{"code": "connected", "at": "2025-06-10T14:00:00+02:00"}, "disconnected"],
            [("connected", 12), ("disconnected", None)],
        ),
        (
            [{"status": "x", "created_at": 5}, {"status": 7}, None, [], {"created_at": "2025-06-10T12:00:00Z"}],
            [("x", None)],
        ),
        ({"status": "connected"}, []),
        ("connected", []),
        (None, []),
    ],
)
def test_history_of_a_calendar(history: Any, found: list[tuple[str, int | None]]) -> None:
    """Would fail on a history of a form that nobody has documented, or lose all of it for one odd entry."""
    calendar = msgspec.json.decode(json.dumps(document("calendar") | {"status_changes": history}), type=Calendar)
    told = [(change.status, change.created_at and change.created_at.hour) for change in calendar.status_changes]
    assert told == found
    assert json.loads(msgspec.json.encode(calendar))["status_changes"] == history


def test_a_huge_history_is_not_decoded() -> None:
    """Would turn a body of 60 MB into gigabytes of lists, and hold up the event loop for seconds."""
    changes = b"[" + b"[]," * 2_000_000 + b"1]"
    body = json.dumps(document("calendar") | {"status_changes": "??"}).encode().replace(b'"??"', changes)
    tracemalloc.start()
    try:
        calendar = msgspec.json.decode(body, type=Calendar)
        assert calendar.status_changes == ()
        assert tracemalloc.get_traced_memory()[1] < 4 * len(body)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("link", "cursor"),
    [
        (None, None),
        ("https://x.example/api/v2/calendar-events/?cursor=cD0x%2B%2F%3D&a=b", "cD0x+/="),
        ("https://x.example/api/v1/bot/?page=2", None),
        ("http://[", None),
    ],
)
def test_where_the_next_page_begins(link: str | None, cursor: str | None) -> None:
    """Would hand over a cursor that the API does not know: still encoded, or with the whole URL."""
    assert Page[CalendarEvent](next=link, results=[]).next_cursor == cursor


def fiftieth(page: Page[CalendarEvent]) -> CalendarEvent:
    return page.results[50]


def fiftieth_of_list(page: Page[CalendarEvent]) -> CalendarEvent:
    results = page.results
    del page
    return results[50]


def fiftieth_in_turn(page: Page[CalendarEvent]) -> CalendarEvent:
    return next(event for number, event in enumerate(page.results) if number == 50)


def fiftieth_of_copied_page(page: Page[CalendarEvent]) -> CalendarEvent:
    return copy.copy(page).results[50]


@pytest.mark.parametrize("keep", [fiftieth, fiftieth_of_list, fiftieth_in_turn, fiftieth_of_copied_page])
@pytest.mark.parametrize("name", ["event_google", "event_outlook"])
def test_one_event_does_not_keep_its_page(name: str, keep: Callable[[Page[CalendarEvent]], CalendarEvent]) -> None:
    """Would keep the buffer of a whole page in memory for one event of it."""
    result = document(name)
    page = json.dumps({"results": [result | {"id": f"{number:036}"} for number in range(100)]}).encode()
    EVENTS.decode(page)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        answer = page[:-1] + b"}"  # a buffer of its own, as the network gives it
        kept = keep(EVENTS.decode(answer))
        del answer
        gc.collect()
        retained = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept.raw_document() == result["raw"]
    assert len(bytes(kept.raw)) < retained <= 8 * 1024  # type: ignore[arg-type]


def test_all_events_outlive_their_page() -> None:
    """Would leave events that are kept with the bytes of their page, or with the payload of another event."""
    documents = [
        document("event_google") | {"id": f"{number:036}", "raw": {"summary": str(number)}} for number in range(9)
    ]
    body = json.dumps({"results": [*documents, *({**each, "raw": None} for each in documents)]}).encode()
    page = EVENTS.decode(body)
    views = [event.raw for event in page.results]
    events = dict(enumerate(page.results))
    del page
    assert [event.title for event in events.values()] == [*map(str, range(9)), *[None] * 9]
    assert not {id(event.raw) for event in events.values()} & set(map(id, views))


def test_events_that_are_looked_at_and_dropped_are_not_copied() -> None:
    """Would copy every payload of every page that a program reads."""
    result = document("event_google")
    page = json.dumps({"results": [result] * 100}).encode()
    payloads = 100 * len(json.dumps(result["raw"]))
    EVENTS.decode(page)
    gc.collect()
    tracemalloc.start()
    try:
        answer = EVENTS.decode(page)
        assert all(event.title for event in answer.results)
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        del answer
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - before < payloads / 10
