"""What the vendor adds can be used before this package knows it: fields, paths, keys and policies of a call's own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from recall_async import ConfigurationError, NotFoundError, Page, Quota, RecallSession, RetryPolicy
from tests.session.scripted_server import CALENDAR, EVENT, ScriptedServer, reply, reset

EVENT_ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
CREATE = {"platform": "microsoft_outlook", "oauth_client_id": "i", "oauth_refresh_token": "t"}


async def test_extra_fields_of_a_request(server: ScriptedServer, recall: RecallSession) -> None:
    """Would not let a program send a field that was added to the API yesterday."""
    extra = {"priority": {"level": 1}}
    await recall.calendar_events.schedule_bot(EVENT_ID, deduplication_key="k", bot_config={"a": 1}, extra=extra)
    assert json.loads(server.last.body) == {"deduplication_key": "k", "bot_config": {"a": 1}, **extra}
    await recall.calendars.create(**CREATE, oauth_client_secret="s", extra=extra)
    assert json.loads(server.last.body) == {**CREATE, "oauth_client_secret": "s", **extra}
    await recall.calendars.update(EVENT_ID, extra=extra)
    assert json.loads(server.last.body) == extra


@pytest.mark.parametrize("extra", [{"platform": "x"}, {"oauth_client_id": None}, [1], {"x": {1}}, "x", {1: 2}])
async def test_extra_fields_never_replace_named_ones(extra: Any, recall: RecallSession) -> None:
    """Would let a field in `extra` silently win over the parameter of that name."""
    with pytest.raises(ConfigurationError, match="extra"):
        await recall.calendars.create(**CREATE, oauth_client_secret="s", extra=extra)


async def test_microsoft_certificates_and_metadata(server: ScriptedServer, recall: RecallSession) -> None:
    """Would not connect a Microsoft calendar whose application has a certificate in place of a secret."""
    certificate = {"oauth_client_certificate": "c", "oauth_client_private_key": "p"}
    await recall.calendars.create(**CREATE, **certificate, metadata={"team": "sales", "old": None})
    assert json.loads(server.last.body) == {**CREATE, **certificate, "metadata": {"team": "sales", "old": None}}
    server.script(reply(200, CALENDAR | {"id": EVENT_ID, "metadata": {"team": "sales"}}))
    assert (await recall.calendars.update(EVENT_ID, metadata={"team": "sales"})).metadata == {"team": "sales"}
    for incomplete in ({}, {"oauth_client_certificate": "c"}, {"oauth_client_private_key": "p"}):
        with pytest.raises(ConfigurationError, match="oauth_client_secret must be given, or"):
            await recall.calendars.create(**CREATE, **incomplete)


async def test_any_path_of_the_api(server: ScriptedServer, connect: Any) -> None:
    """Would need another client, beside the quota, for a path that has no method here."""
    recall = connect(quotas={"request": Quota(7, 60.0), "bots.retrieve": Quota(9, 60.0)})
    server.script(reply(200, {"a": [1]}), reset, reply(201, {"b": 2}), reply(204), reply(404, {"detail": "No."}))
    assert await recall.request("GET", "/api/v1/x/", query={"q": "ä &"}) == {"a": [1]}
    assert server.last.target == "/api/v1/x/?q=%C3%A4+%26"
    assert await recall.request("POST", "/api/v1/x/", body={"c": None}, quota="bots.retrieve") == {"b": 2}
    assert json.loads(server.last.body) == {"c": None}
    assert len({request.key for request in server.requests[1:3]} - {None}) == 1
    assert await recall.request("DELETE", "/api/v1/x/", retry=RetryPolicy(attempts=1)) is None
    with pytest.raises(NotFoundError, match="request failed with 404: No") as caught:
        await recall.request("GET", "/api/v1/y/")
    assert caught.value.operation == "request"
    assert recall.statistics()["bots.retrieve"].taken == 2
    assert recall._client.lane("request").statistics().taken == 3
    assert recall._client.lane("request").quota.limit == 7


@pytest.mark.parametrize(
    "arguments",
    [
        ("TRACE", "/api/v1/x/"),
        ("get", "/api/v1/x/"),
        ("GET", "https://evil.example/api/"),
        ("GET", "//evil.example/api/"),
        ("GET", "/api/../x"),
        ("GET", "/api/%2e%2e/x"),
        ("GET", "/api/x?y=1"),
        ("GET", "/api/x y"),
        ("GET", "/api/x\r\nX: y"),
        ("GET", "x"),
        ("GET", 7),
    ],
)
async def test_paths_that_cannot_be(arguments: tuple[Any, Any], server: ScriptedServer, recall: RecallSession) -> None:
    """Would send the key, or a request, to where it must not go."""
    with pytest.raises(ConfigurationError):
        await recall.request(*arguments)
    with pytest.raises(ConfigurationError, match="quota must be one of"):
        await recall.request("GET", "/api/v1/x/", quota="everything")
    assert not server.requests


async def test_unknown_fields_are_kept_on_request(server: ScriptedServer, connect: Any) -> None:
    """Would drop what the vendor added, or keep it for everybody and fill the memory."""
    recall = connect(keep_extra=True)
    page = {"next": None, "previous": None, "results": [EVENT | {"added": {"x": 1}}, EVENT]}
    server.script(reply(200, page), reply(200, CALENDAR | {"id": EVENT_ID, "new": "y"}), reply(200, page))
    first, second = (await recall.calendar_events.list_page()).results
    assert (first.extra, second.extra) == ({"added": {"x": 1}}, {})
    assert (await recall.calendars.retrieve(EVENT_ID)).extra == {"new": "y"}
    assert [event.extra async for event in connect().calendar_events.list()] == [{}, {}]


async def test_an_idempotency_key_of_the_callers_own(server: ScriptedServer, recall: RecallSession) -> None:
    """Would create a second calendar when a program repeats, with the key that it kept, what it does not know of."""
    server.script(reply(503), reply(507, retry_after="0.01"))
    await recall.calendars.create(**CREATE, oauth_client_secret="s", idempotency_key="mine")
    assert [request.key for request in server.requests][:2] == ["mine", "mine"]
    assert server.requests[2].key != "mine"


@pytest.mark.parametrize("key", ["", 7, "a\r\nX: y", "\u00e9" * 3, "x" * 300])
async def test_idempotency_keys_that_cannot_be(key: Any, server: ScriptedServer, recall: RecallSession) -> None:
    """Would put a line break into a header."""
    with pytest.raises(ConfigurationError, match="idempotency_key must"):
        await recall.calendars.create(**CREATE, oauth_client_secret="s", idempotency_key=key)
    assert not server.requests


async def test_pages_by_their_cursors(server: ScriptedServer, recall: RecallSession) -> None:
    """Would need to cut the cursor out of a URL."""
    link = f"{server.url}/api/v2/calendar-events/?cursor=cD0x%2B&is_deleted=false"
    server.script(reply(200, {"next": link, "previous": None, "results": [EVENT]}))
    page = await recall.calendar_events.list_page(is_deleted=False)
    assert page.next_cursor == "cD0x+"
    last: Page[Any] = await recall.calendar_events.list_page(is_deleted=False, cursor=page.next_cursor)
    assert server.last.target.endswith("cursor=cD0x%2B")
    assert last.next_cursor is None


async def test_unknown_filters(recall: RecallSession) -> None:
    """Would send a misspelled filter, which the API ignores, and list everything."""
    with pytest.raises(TypeError, match="unknown filter 'start_time__gt'; the filters are calendar_id"):
        await recall.calendar_events.list_page(start_time__gt="x")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unknown filter 'state'; the filters are join_at_after"):
        await recall.bots.list_page(state="done")  # type: ignore[call-arg]
