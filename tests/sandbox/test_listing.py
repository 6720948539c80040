"""Pages, cursors and filters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import pytest

from tests.sandbox.conftest import CALENDARS, EVENTS, Api, moment


async def follow(api: Api, path: str, direction: str = "next") -> list[list[dict[str, Any]]]:
    """All pages from `path` on."""
    pages = []
    url: str | None = path
    while url is not None:
        reply = await api.send("GET", url)
        assert reply.status == 200, reply.body
        pages.append(reply.body["results"])
        url = reply.body[direction]
    return pages


def ids(pages: list[list[dict[str, Any]]]) -> list[str]:
    return [item["id"] for page in pages for item in page]


@pytest.mark.parametrize("events", [0, 1, 99, 100, 101, 230])
async def test_pages_of_100_hold_every_event_once(start: Callable[..., Any], events: int) -> None:
    """A page would be too large, an event missing or repeated, or a page empty at the end."""
    api: Api = await start(events=events)
    pages = await follow(api, EVENTS)
    assert [len(page) for page in pages] == ([100] * (events // 100) + [events % 100] * (events % 100 > 0) or [0])
    found = [(moment(event["start_time"]), event["id"]) for page in pages for event in page]
    assert found == sorted(found)
    assert len(set(found)) == events


async def test_links_are_full_urls_that_keep_the_filters(start: Callable[..., Any]) -> None:
    """Clients could not follow `next` as it is, or would lose their filters on page two."""
    api: Api = await start(events=400, calendars=1)
    query = {"is_deleted": "false", "start_time__gte": "2025-06-10T12:00:00+02:00"}
    page = (await api.send("GET", f"{EVENTS}?{urlencode(query)}")).body
    assert page["previous"] is None
    parts = urlsplit(page["next"])
    assert f"{parts.scheme}://{parts.netloc}" == api.sandbox.url
    assert parts.path == EVENTS
    names = parse_qs(parts.query)
    assert names.pop("cursor")
    assert names == {name: [value] for name, value in query.items()}
    second = (await api.send("GET", page["next"])).body
    assert all(not event["is_deleted"] for event in second["results"])


async def test_previous_leads_back(start: Callable[..., Any]) -> None:
    """`previous` would lead somewhere else than to the page before."""
    api: Api = await start(events=250)
    first = (await api.send("GET", EVENTS)).body
    second = (await api.send("GET", first["next"])).body
    third = (await api.send("GET", second["next"])).body
    assert third["next"] is None
    back = (await api.send("GET", third["previous"])).body
    assert back["results"] == second["results"]
    assert (await api.send("GET", back["next"])).body["results"] == third["results"]
    front = (await api.send("GET", back["previous"])).body
    assert front["results"] == first["results"]
    assert front["previous"] is None
    assert (await api.send("GET", front["next"])).body["results"] == second["results"]


async def test_a_cursor_survives_changes_of_the_data(start: Callable[..., Any]) -> None:
    """Deleting, moving or creating events between two pages would shift the others out of sight."""
    api: Api = await start(events=250)
    first = (await api.send("GET", EVENTS)).body
    seen = {event["id"] for event in first["results"]}
    changed = {event_id for change in api.sandbox.mutate(40) for event_id in change["event_ids"]}
    rest = set(ids(await follow(api, first["next"])))
    assert {event["id"] for event in api.events()} - seen - changed <= rest


async def test_an_invalid_cursor_gets_404(start: Callable[..., Any]) -> None:
    """Clients that pass the whole `next` URL as cursor would not be caught, or be told something else than by the API."""
    api: Api = await start(events=150)
    first = (await api.send("GET", EVENTS)).body
    for cursor in (first["next"], "nonsense", "\x00", "bmV4dA", "é"):
        reply = await api.send("GET", f"{EVENTS}?{urlencode({'cursor': cursor})}")
        assert (reply.status, reply.body) == (404, {"detail": "Invalid cursor."})


async def test_empty_filters_are_ignored(api: Api) -> None:
    """Clients that send every parameter, most of them empty, would get an error or nothing."""
    names = ("calendar_id", "cursor", "ical_uid", "is_deleted", "start_time", "start_time__gte", "updated_at__gte")
    empty = (await api.send("GET", f"{EVENTS}?{urlencode(dict.fromkeys(names, ''))}")).body
    assert empty["results"] == (await api.send("GET", EVENTS)).body["results"]
    names = ("created_at__gte", "email", "platform", "status", "cursor")
    empty = (await api.send("GET", f"{CALENDARS}?{urlencode(dict.fromkeys(names, ''))}")).body
    assert empty["results"] == (await api.send("GET", CALENDARS)).body["results"]


Filter = tuple[str, Callable[[dict[str, Any]], Any], Callable[[dict[str, Any], Any], bool]]
FILTERS: list[Filter] = [
    ("calendar_id", lambda event: event["calendar_id"], lambda event, value: event["calendar_id"] == value),
    ("ical_uid", lambda event: event["ical_uid"][:3], lambda event, value: event["ical_uid"].startswith(value)),
    ("is_deleted", lambda event: str(event["is_deleted"]), lambda event, value: str(event["is_deleted"]) == value),
    ("start_time", lambda event: event["start_time"], lambda event, value: event["start_time"] == value),
    (
        "start_time__gte",
        lambda event: event["start_time"],
        lambda event, value: not earlier(event, value, "start_time"),
    ),
    ("start_time__lte", lambda event: event["start_time"], lambda event, value: not later(event, value, "start_time")),
    (
        "updated_at__gte",
        lambda event: event["updated_at"],
        lambda event, value: not earlier(event, value, "updated_at"),
    ),
]


def earlier(event: dict[str, Any], value: str, name: str) -> bool:
    return moment(event[name]) < moment(value)


def later(event: dict[str, Any], value: str, name: str) -> bool:
    return moment(event[name]) > moment(value)


@pytest.mark.parametrize(("name", "value_of", "accepts"), FILTERS, ids=[name for name, *_ in FILTERS])
async def test_event_filters(api: Api, name: str, value_of: Callable[..., Any], accepts: Callable[..., bool]) -> None:
    """A filter would be ignored, or leave out what it should let through."""
    for sample in (api.events()[0], api.events()[40], api.events(lambda event: event["is_deleted"])[0]):
        value = value_of(sample)
        found = ids(await follow(api, f"{EVENTS}?{urlencode({name: value})}"))
        assert found == [event["id"] for event in api.events(lambda event, value=value: accepts(event, value))]
        assert sample["id"] in found


async def test_filters_combine_and_unknown_ones_are_ignored(api: Api) -> None:
    """Two filters would be alternatives instead of both holding."""
    event = api.upcoming()[0]
    query = {"calendar_id": event["calendar_id"], "start_time": event["start_time"], "color": "blue"}
    found = ids(await follow(api, f"{EVENTS}?{urlencode(query)}"))
    assert found == [
        other["id"]
        for other in api.events()
        if (other["calendar_id"], other["start_time"]) == (event["calendar_id"], event["start_time"])
    ]
    assert ids(await follow(api, f"{EVENTS}?calendar_id={uuid4()}")) == []


async def test_times_are_compared_as_instants(api: Api) -> None:
    """The same moment written with another offset would not match."""
    event = api.upcoming()[0]
    elsewhere = moment(event["start_time"]).astimezone(timezone(timedelta(hours=5, minutes=30))).isoformat()
    assert event["id"] in ids(await follow(api, f"{EVENTS}?{urlencode({'start_time': elsewhere})}"))
    ancient = await follow(api, f"{EVENTS}?{urlencode({'start_time__gte': '0001-01-01T00:00:00+23:59'})}")
    assert len(ids(ancient)) == 120
    remote = await follow(api, f"{EVENTS}?{urlencode({'start_time__lte': '9999-12-31T23:59:59-23:59'})}")
    assert len(ids(remote)) == 120
    plain = moment(event["start_time"]).astimezone(UTC).replace(tzinfo=None).isoformat()
    assert event["id"] in ids(await follow(api, f"{EVENTS}?{urlencode({'start_time': plain})}"))


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        (EVENTS, "calendar_id", "5"),
        (EVENTS, "is_deleted", "perhaps"),
        (EVENTS, "start_time", "soon"),
        (EVENTS, "start_time__gte", "2025-06-10T12:00:00 02:00"),
        (EVENTS, "updated_at__gte", "yesterday"),
        (CALENDARS, "created_at__gte", "x"),
        (CALENDARS, "platform", "lotus_notes"),
        (CALENDARS, "status", "broken"),
    ],
)
async def test_invalid_filter_values_get_400(api: Api, path: str, name: str, value: str) -> None:
    """A client that sends a wrong filter would get an unfiltered list."""
    reply = await api.send("GET", f"{path}?{urlencode({name: value})}")
    assert reply.status == 400
    assert list(reply.body) == [name]


async def test_calendar_filters_and_pages(start: Callable[..., Any]) -> None:
    """A filter on calendars would be ignored, or their list would end after one page."""
    api: Api = await start(events=10, calendars=130)
    calendars = [calendar for page in await follow(api, CALENDARS) for calendar in page]
    assert len({calendar["id"] for calendar in calendars}) == 130
    sample = calendars[57]
    await api.send("DELETE", f"{CALENDARS}{sample['id']}/")

    async def found(**query: str) -> set[str]:
        return set(ids(await follow(api, f"{CALENDARS}?{urlencode(query)}")))

    assert await found(email=sample["platform_email"]) == {sample["id"]}
    assert await found(status="disconnected") == {sample["id"]}
    assert len(await found(status="connected")) == 129
    google = {calendar["id"] for calendar in calendars if calendar["platform"] == "google_calendar"}
    assert await found(platform="google_calendar") == google != set()
    since = {
        calendar["id"]
        for calendar in calendars
        if datetime.fromisoformat(calendar["created_at"]) >= datetime.fromisoformat(sample["created_at"])
    }
    assert await found(created_at__gte=sample["created_at"]) == since
