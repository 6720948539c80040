"""What a program gets wrong is told before anything is sent, as one of our errors and as a ValueError."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async import ConfigurationError, RecallSession, Region
from recall_async.checks import uuid
from tests.session.scripted_server import ScriptedServer

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"


class _NotToBeUsed:
    """Stands for an `aiohttp.ClientSession` through which nothing may be sent."""

    closed = False

    def request(self, *args: Any, **options: Any) -> None:
        raise AssertionError(f"something was sent: {args}")


@pytest.fixture
async def unsent() -> AsyncIterator[RecallSession]:
    """A session whose requests fail the test."""
    http: Any = _NotToBeUsed()
    async with RecallSession("key", http=http) as recall:
        yield recall
        assert not any(lane.admitted for lane in recall.statistics().values())


HOSTILE_IDS: list[Any] = [
    "",
    " ",
    ".",
    "..",
    "../",
    "../../calendars",
    "%2e%2e%2f",
    "%2e",
    "/",
    "?",
    "#",
    f"{EVENT_ID}/../",
    f"{EVENT_ID}?x=1",
    f"{EVENT_ID}#x",
    f"{EVENT_ID}%00",
    f"{EVENT_ID}\n",
    f"\n{EVENT_ID}",
    f"{EVENT_ID}\r\nX-Evil: 1",
    f" {EVENT_ID}",
    f"{EVENT_ID} ",
    f"urn:uuid:{EVENT_ID}",
    f"{{{EVENT_ID}}}",
    EVENT_ID.replace("-", ""),
    EVENT_ID.replace("-", "") + "0",
    EVENT_ID.replace("-", "_"),
    EVENT_ID[:-1],
    EVENT_ID + "0",
    EVENT_ID[:-1] + "g",
    EVENT_ID[:-1] + "\u0668",  # an Arabic-Indic eight, which int() takes
    EVENT_ID[:-1] + "\uff18",
    EVENT_ID.replace("-", "\u2010"),
    EVENT_ID.replace("e", "\u0435"),
    EVENT_ID.encode(),
    None,
    0,
    True,
    UUID(EVENT_ID).int,
    [EVENT_ID],
    {"id": EVENT_ID},
    object(),
]

CALLS_WITH_AN_ID: dict[str, Callable[[RecallSession, Any], Any]] = {
    "schedule_bot": lambda recall, id: recall.calendar_events.schedule_bot(id, deduplication_key="k"),
    "remove_bot": lambda recall, id: recall.calendar_events.remove_bot(id),
    "retrieve": lambda recall, id: recall.calendar_events.retrieve(id),
    "list_page": lambda recall, id: recall.calendar_events.list_page(calendar_id=id if id is not None else ""),
    "calendars.retrieve": lambda recall, id: recall.calendars.retrieve(id),
    "calendars.update": lambda recall, id: recall.calendars.update(id, webhook_url="https://x.example/"),
    "calendars.delete": lambda recall, id: recall.calendars.delete(id),
    "calendars.create_access_token": lambda recall, id: recall.calendars.create_access_token(id),
}


@pytest.mark.parametrize("name", CALLS_WITH_AN_ID)
async def test_hostile_ids(name: str, unsent: RecallSession) -> None:
    """Would send a request to another path than the operation's, or for something that is no id."""
    for id in HOSTILE_IDS:
        with pytest.raises(ConfigurationError, match="_id must be a UUID, got"):
            await CALLS_WITH_AN_ID[name](unsent, id)


@settings(max_examples=150)
@given(st.text(max_size=45) | st.from_regex(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}.?"))
def test_only_uuids_are_ids(text: str) -> None:
    """Would let a text through that is not a UUID in its usual form, or change one that is."""
    try:
        checked = uuid("event_id", text)
    except ConfigurationError:
        assert not _is_uuid(text)
    else:
        assert checked == str(UUID(text)) == text.lower()


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


class Loop(dict[str, Any]):
    """Holds itself."""

    def __init__(self) -> None:
        super().__init__(itself=self)


def deep() -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(100_000):
        document = {"x": document}
    return document


class NoZone(tzinfo):
    """A zone that does not know how far off it is, so its datetimes are naive."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None


NAIVE = [datetime(2025, 6, 10), datetime(2025, 6, 10, tzinfo=NoZone())]
NO_TIMES: list[Any] = [
    *NAIVE,
    "2025-06-10",
    "2025-06-10T12:00:00",
    "tomorrow",
    "",
    "2025-06-10T12:00:00Z\n",
    "2025-06-10T12:00:00Z&is_deleted=true",
    "2025-13-10T12:00:00Z",
    1749556800,
    1749556800.0,
    True,
    date(2025, 6, 10),
    timedelta(1),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=1))),
]

NO_JSON: list[Any] = [
    {"x": object()},
    {"x": {1, 2}},
    {"x": b"bytes"},
    {"x": math.nan},
    {"x": [1, {"y": math.inf}]},
    {"x": -math.inf},
    {"x": 1j},
    {"x": Decimal("1.5")},
    {"x": lambda: None},
    {"x": "\ud800"},
    {"\ud800": "x"},
    {"x": 10**5000},
    {("a", "b"): 1},
    {object(): 1},
    {b"x": 1},
    {1: "x"},
    {None: "x"},
    {"x": {1.5: "x"}},
    {"x": [{True: "x"}]},
    Loop(),
    deep(),
    *({"x": time} for time in NAIVE),
    {"x": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
    [],
    "text",
    7,
    object(),
    [("x", 1)],
]


class Markup(str):
    """Text from a library that has a class of its own for it."""

    def __str__(self) -> str:
        return "shown, not meant"


class Share(float):
    """A number of the same kind."""


def written(value: object) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, datetime) else str(value)


async def test_bot_config_that_is_no_json(unsent: RecallSession) -> None:
    """Would send a document that is none, or fail in the words of a library."""
    for config in NO_JSON:
        with pytest.raises(ConfigurationError, match="bot_config"):
            await unsent.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k", bot_config=config)


@pytest.mark.parametrize(
    "config",
    [
        MappingProxyType({"x": 1}),
        {"x": UUID(EVENT_ID)},
        {"x": (1, 2)},
        {"x": datetime(2025, 6, 10, tzinfo=UTC)},
        {"x": [None, True, 1.5, "\x00\u2028\U0001f600"]},
        {"": {}},
        {"x": Region.US_EAST_1},
        {"x": Markup("a"), Markup("y"): [Markup("b")]},
        {"x": OrderedDict(y=Share(0.5))},
        {"x": 2**70},
    ],
)
async def test_bot_config_that_is_accepted(config: Any, server: ScriptedServer, recall: RecallSession) -> None:
    """Would refuse what can well be written as JSON."""
    await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k", bot_config=config)
    assert json.loads(server.last.body)["bot_config"] == json.loads(json.dumps(dict(config), default=written))


@pytest.mark.parametrize("key", ["", " ", "\n\t", "x" * 2001, "\ud800", None, 7, b"key", ["key"], True])
async def test_deduplication_keys_that_cannot_be(key: Any, unsent: RecallSession) -> None:
    """Would send a key that the API refuses, or that cannot be written down."""
    with pytest.raises(ConfigurationError, match="deduplication_key"):
        await unsent.calendar_events.schedule_bot(EVENT_ID, deduplication_key=key)


@pytest.mark.parametrize("key", ["x", "x" * 2000, "é" * 2000, "a b\n\x00", "\U0001f600" * 2000])
async def test_deduplication_key_that_is_accepted(key: str, server: ScriptedServer, recall: RecallSession) -> None:
    """Would count bytes instead of characters, or refuse a key for its characters."""
    await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key=key)
    assert json.loads(server.last.body)["deduplication_key"] == key


@pytest.mark.parametrize("name", ["start_time", "start_time__gte", "start_time__lte", "updated_at__gte"])
async def test_times_in_filters(name: str, unsent: RecallSession) -> None:
    """Would send a time that the server takes for another one, in whichever zone it stands, or for none."""
    for value in NO_TIMES:
        with pytest.raises(ConfigurationError, match=name):
            await unsent.calendar_events.list_page(**{name: value})
        with pytest.raises(ConfigurationError, match=name):
            unsent.calendar_events.list(**{name: value})


async def test_start_times(unsent: RecallSession) -> None:
    """Would order the calls that wait by a time in an unknown zone."""
    for value in NO_TIMES:
        with pytest.raises(ConfigurationError, match="start_time"):
            await unsent.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k", start_time=value)
        with pytest.raises(ConfigurationError, match="start_time"):
            await unsent.calendar_events.remove_bot(EVENT_ID, start_time=value)


@pytest.mark.parametrize("value", [7, b"x", ["x"], object(), "\ud800"])
@pytest.mark.parametrize("name", ["ical_uid", "cursor"])
async def test_other_filters(name: str, value: Any, unsent: RecallSession) -> None:
    """Would send the representation of an object as a filter."""
    with pytest.raises(ConfigurationError, match=name):
        await unsent.calendar_events.list_page(**{name: value})


@pytest.mark.parametrize("value", [0, 1, "yes", "true", [], object()])
async def test_is_deleted(value: Any, unsent: RecallSession) -> None:
    """Would send something that the server reads as neither true nor false."""
    with pytest.raises(ConfigurationError, match="is_deleted"):
        await unsent.calendar_events.list_page(is_deleted=value)


@pytest.mark.parametrize("value", ["", 7, b"x", "\ud800", ["x"]])
async def test_fields_of_calendars(value: Any, unsent: RecallSession) -> None:
    """Would send an empty secret, or one that is no text, and not say which."""
    with pytest.raises(ConfigurationError, match="oauth_client_secret"):
        await unsent.calendars.update(EVENT_ID, oauth_client_secret=value)
    required: dict[str, Any] = dict.fromkeys(("platform", "oauth_client_id", "oauth_refresh_token"), "x")
    with pytest.raises(ConfigurationError, match="oauth_client_secret"):
        await unsent.calendars.create(**required, oauth_client_secret=value)


@pytest.mark.parametrize("deadline", [-1, math.nan, "5", True, timedelta(seconds=5)])
async def test_deadlines_that_cannot_be(deadline: Any, unsent: RecallSession) -> None:
    """Would wait for ever, or fail in the words of arithmetic."""
    with pytest.raises(ConfigurationError, match="deadline"):
        await unsent.calendar_events.retrieve(EVENT_ID, deadline=deadline)
    with pytest.raises(ConfigurationError, match="deadline"):
        _ = [event async for event in unsent.calendar_events.list(deadline=deadline)]


@pytest.mark.parametrize("priority", ["bulk", 7, -1, None, 0.5, object()])
async def test_priorities_that_cannot_be(priority: Any, unsent: RecallSession) -> None:
    """Would break the queue for everybody who comes later."""
    with pytest.raises(ConfigurationError, match="priority"):
        await unsent.calendar_events.retrieve(EVENT_ID, priority=priority)


async def test_a_failed_check_leaves_nothing_open() -> None:
    """Would open connections for a call that is wrong."""
    recall = RecallSession("key")
    with pytest.raises(ConfigurationError):
        await recall.calendar_events.retrieve("x")
    assert recall._client.transport._http is None
