"""What each of the ten operations sends, and what it makes of the documented answer."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest

from recall_async import (
    Calendar,
    CalendarAccessToken,
    CalendarEvent,
    ConflictError,
    Page,
    Priority,
    RecallSession,
    RetryPolicy,
)
from tests.session.conftest import API_KEY
from tests.session.scripted_server import ScriptedServer, reply, reset

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
CALENDAR_ID = "71afd1d8-f2e2-4c08-84ca-72f8cee586d3"
EVENTS, CALENDARS = "/api/v2/calendar-events/", "/api/v2/calendars/"
SECRETS = {"oauth_client_id": "id", "oauth_client_secret": "secret", "oauth_refresh_token": "token"}


async def test_schedule_and_remove_decode_into_the_same(server: ScriptedServer, recall: RecallSession) -> None:
    """Would give the documented answers of POST and DELETE as two different things."""
    scheduled = await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k")
    removed = await recall.calendar_events.remove_bot(EVENT_ID)
    assert type(scheduled) is CalendarEvent
    assert scheduled == removed
    assert scheduled.id == EVENT_ID
    assert [bot.deduplication_key for bot in scheduled.bots] == ["string"]


async def test_schedule_sends_what_is_documented(server: ScriptedServer, recall: RecallSession) -> None:
    """Would add, lose or rename a part of the request that the API documents."""
    config = {"bot_name": "Nötes \u2028 𝄞", "join_at": datetime(2025, 6, 10, 12, tzinfo=UTC), "deep": [{"x": None}]}
    await recall.calendar_events.schedule_bot(
        UUID(EVENT_ID),
        deduplication_key='quote " and \\ and 𝄞',
        bot_config=config,
        start_time="2025-06-10T12:00:00Z",
        priority=Priority.BULK,
        deadline=10,
    )
    sent = server.last
    assert (sent.method, sent.target) == ("POST", f"{EVENTS}{EVENT_ID}/bot/")
    assert json.loads(sent.body) == {
        "deduplication_key": 'quote " and \\ and 𝄞',
        "bot_config": config | {"join_at": "2025-06-10T12:00:00Z"},
    }
    assert sent.headers["authorization"] == f"Token {API_KEY}"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["accept"] == "application/json"
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", sent.key or "")


@pytest.mark.parametrize("config", [None, {}, []])
async def test_schedule_without_configuration(server: ScriptedServer, recall: RecallSession, config: Any) -> None:
    """Would leave out `bot_config`, which the API requires, or send null for it."""
    if config == []:
        config = type("Empty", (dict,), {})()
    await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k", bot_config=config)
    assert json.loads(server.last.body) == {"deduplication_key": "k", "bot_config": {}}


Call = Callable[[RecallSession], Any]
OPERATIONS: list[tuple[str, Call, str, str, Any, type]] = [
    (
        "calendar_events.schedule_bot",
        lambda recall: recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k", bot_config={"a": 1}),
        "POST",
        f"{EVENTS}{EVENT_ID}/bot/",
        {"deduplication_key": "k", "bot_config": {"a": 1}},
        CalendarEvent,
    ),
    (
        "calendar_events.remove_bot",
        lambda recall: recall.calendar_events.remove_bot(EVENT_ID),
        "DELETE",
        f"{EVENTS}{EVENT_ID}/bot/",
        None,
        CalendarEvent,
    ),
    (
        "calendar_events.retrieve",
        lambda recall: recall.calendar_events.retrieve(EVENT_ID.upper()),
        "GET",
        f"{EVENTS}{EVENT_ID}/",
        None,
        CalendarEvent,
    ),
    ("calendar_events.list", lambda recall: recall.calendar_events.list_page(), "GET", EVENTS, None, Page),
    (
        "calendars.create",
        lambda recall: recall.calendars.create(platform="google_calendar", oauth_email="a@example.com", **SECRETS),
        "POST",
        CALENDARS,
        {"platform": "google_calendar", "oauth_email": "a@example.com", **SECRETS},
        Calendar,
    ),
    (
        "calendars.retrieve",
        lambda recall: recall.calendars.retrieve(UUID(CALENDAR_ID)),
        "GET",
        f"{CALENDARS}{CALENDAR_ID}/",
        None,
        Calendar,
    ),
    ("calendars.list", lambda recall: recall.calendars.list_page(), "GET", CALENDARS, None, Page),
    (
        "calendars.update",
        lambda recall: recall.calendars.update(CALENDAR_ID, webhook_url="https://hooks.example.com/"),
        "PATCH",
        f"{CALENDARS}{CALENDAR_ID}/",
        {"webhook_url": "https://hooks.example.com/"},
        Calendar,
    ),
    (
        "calendars.delete",
        lambda recall: recall.calendars.delete(CALENDAR_ID),
        "DELETE",
        f"{CALENDARS}{CALENDAR_ID}/",
        None,
        type(None),
    ),
    (
        "calendars.create_access_token",
        lambda recall: recall.calendars.create_access_token(CALENDAR_ID),
        "POST",
        f"{CALENDARS}{CALENDAR_ID}/access-token/",
        None,
        CalendarAccessToken,
    ),
]


@pytest.mark.parametrize(("name", "call", "method", "target", "body", "answer"), OPERATIONS)
async def test_operation(
    name: str,
    call: Call,
    method: str,
    target: str,
    body: Any,
    answer: type,
    server: ScriptedServer,
    recall: RecallSession,
) -> None:
    """Would reach another path, with another method or body, count against another quota, or give another type."""
    assert type(await call(recall)) is answer
    (sent,) = server.requests
    assert (sent.method, sent.target) == (method, target)
    assert (json.loads(sent.body) if sent.body else None) == body
    assert ("content-type" in sent.headers) == (body is not None) or name == "calendars.create_access_token"
    assert (sent.key is not None) == (method in ("POST", "PATCH"))
    assert {operation: lane.taken for operation, lane in recall.statistics().items() if lane.taken} == {name: 1}


PLUS_TWO = timezone(timedelta(hours=2))
NOON = datetime(2025, 6, 10, 14, 0, 0, 500, tzinfo=PLUS_TWO)
FILTERS: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    ("calendar_events", {"calendar_id": UUID(CALENDAR_ID)}, {"calendar_id": CALENDAR_ID}),
    ("calendar_events", {"calendar_id": CALENDAR_ID.upper()}, {"calendar_id": CALENDAR_ID}),
    ("calendar_events", {"ical_uid": "a b&c=d+e@é%2f"}, {"ical_uid": "a b&c=d+e@é%2f"}),
    ("calendar_events", {"is_deleted": True}, {"is_deleted": "true"}),
    ("calendar_events", {"is_deleted": False}, {"is_deleted": "false"}),
    ("calendar_events", {"start_time": NOON}, {"start_time": "2025-06-10T12:00:00.000500Z"}),
    ("calendar_events", {"start_time__gte": "2025-06-10T14:00:00+02:00"}, {"start_time__gte": "2025-06-10T14:00:00+02:00"}),
    ("calendar_events", {"start_time__lte": NOON}, {"start_time__lte": "2025-06-10T12:00:00.000500Z"}),
    ("calendar_events", {"updated_at__gte": NOON}, {"updated_at__gte": "2025-06-10T12:00:00.000500Z"}),
    ("calendar_events", {"cursor": "cD0yMDI1+/="}, {"cursor": "cD0yMDI1+/="}),
    ("calendar_events", {"is_deleted": None, "cursor": None}, {}),
    ("calendars", {"created_at__gte": NOON}, {"created_at__gte": "2025-06-10T12:00:00.000500Z"}),
    ("calendars", {"email": "a+b@example.com"}, {"email": "a+b@example.com"}),
    ("calendars", {"platform": "google_calendar", "status": "connected"},
     {"platform": "google_calendar", "status": "connected"}),
    ("calendars", {"cursor": "x"}, {"cursor": "x"}),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "given", "expected"), FILTERS)
async def test_filters(
    resource: str, given: dict[str, Any], expected: dict[str, str], server: ScriptedServer, recall: RecallSession
) -> None:
    """Would send a filter that the server reads as another value, or not at all, from a page or from a whole list."""
    await getattr(recall, resource).list_page(**given)
    _ = [item async for item in getattr(recall, resource).list(**given)]
    for sent in server.requests:
        assert (
            dict(parse_qsl(urlsplit(sent.target).query, keep_blank_values=True, strict_parsing=bool(expected)))
            == expected
        )


async def test_deleted_events_are_not_left_out_unasked(server: ScriptedServer, recall: RecallSession) -> None:
    """Would make `is_deleted=false` the default, so that deletions are never seen."""
    await recall.calendar_events.list_page()
    assert "?" not in server.last.target


@pytest.mark.parametrize(
    ("happens", "same"),
    [
        (reset, True),
        (reply(429, retry_after="0"), True),
        (reply(502), True),
        (reply(503, retry_after="0"), True),
        (reply(504), True),
        (reply(409), False),
        (reply(507, retry_after="0"), False),
    ],
)
async def test_idempotency_key_of_a_retry(
    happens: Any, same: bool, server: ScriptedServer, recall: RecallSession
) -> None:
    """Would make a bot twice after an outage, or be given the cached 409 or 507 again for an hour."""
    server.script(happens, happens)
    await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k")
    keys = [request.key for request in server.requests]
    assert len(keys) == 3
    assert None not in keys
    assert len(set(keys)) == (1 if same else 3)
    assert len({request.body for request in server.requests}) == 1


async def test_each_call_has_a_key_of_its_own(server: ScriptedServer, recall: RecallSession) -> None:
    """Would be given another call's answer: keys repeat where a program seeds `random`, as reproducible ones do."""
    for _ in range(2):
        random.seed(7)
        await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k")
    assert len({request.key for request in server.requests}) == 2


async def test_attempts_and_statistics_of_a_failure(server: ScriptedServer, connect: Any) -> None:
    """Would not say how often it was tried, or count retries and attempts that were not made."""
    server.script(*[reply(409)] * 3)
    recall = connect(retry=RetryPolicy(attempts=3, backoff=0.0))
    with pytest.raises(ConflictError) as caught:
        await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k")
    assert (caught.value.attempts, caught.value.operation) == (3, "calendar_events.schedule_bot")
    assert "3 attempts" in str(caught.value)
    lane = recall.statistics()["calendar_events.schedule_bot"]
    assert (lane.admitted, lane.taken, lane.retries, lane.throttled, lane.in_flight) == (3, 3, 2, 0, 0)
    assert len(server.requests) == 3


async def test_budget_is_shared_by_the_workspace(server: ScriptedServer, connect: Any) -> None:
    """Would let every session of a workspace multiply the load of an outage on its own."""
    policy = RetryPolicy(attempts=10, backoff=0.0, budget=4, budget_ratio=0.0)
    server.script(*[reply(503)] * 50)
    for number in range(4):
        recall = connect(retry=policy)
        with pytest.raises(Exception) as caught:
            await recall.calendar_events.retrieve(EVENT_ID)
        if number:
            assert any("budget" in note for note in caught.value.__notes__)
    assert len(server.requests) == 4 + 4


async def test_base_url_with_a_path(server: ScriptedServer, connect: Any) -> None:
    """Would drop the path under which a proxy serves the API."""
    recall = connect(base_url=server.url + "/a%20proxy/v1/")
    await recall.calendars.delete(CALENDAR_ID)
    assert server.last.target == f"/a%20proxy/v1/api/v2/calendars/{CALENDAR_ID}/"
