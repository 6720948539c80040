"""The calendar operations."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.sandbox.conftest import CALENDARS, EVENTS, Api, moment

FIELDS = {
    "oauth_client_id": "id",
    "oauth_client_secret": "secret",
    "oauth_refresh_token": "refresh",
    "platform": "microsoft_outlook",
    "oauth_email": "ada@northwind.example",
}


async def test_create_answers_201_with_the_calendar(api: Api) -> None:
    """A created calendar would not be there afterwards, or not be what was asked for."""
    reply = await api.send("POST", CALENDARS, json={**FIELDS, "id": "mine", "status": "broken", "color": "blue"})
    assert reply.status == 201
    assert {name: reply.body[name] for name in FIELDS} == FIELDS
    assert UUID(reply.body["id"])
    assert (reply.body["status"], reply.body["platform_email"]) == ("connecting", None)
    assert moment(reply.body["created_at"]) == moment(reply.body["updated_at"]) == api.clock.now()
    assert (await api.send("GET", f"{CALENDARS}{reply.body['id']}/")).body == reply.body


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"platform": "lotus_notes"}, "platform"),
        ({"platform": 5}, "platform"),
        ({"oauth_client_id": ""}, "oauth_client_id"),
        ({"oauth_client_secret": None}, "oauth_client_secret"),
        ({"oauth_refresh_token": "x" * 2001}, "oauth_refresh_token"),
        ({"oauth_email": "nobody"}, "oauth_email"),
        ({"webhook_url": "ftp://x"}, "webhook_url"),
    ],
)
async def test_wrong_fields_get_400_with_their_name(api: Api, changes: dict[str, Any], field: str) -> None:
    """Nonsense would be stored, by create or by update."""
    calendar = api.sandbox.snapshot()["calendars"][0]["id"]
    created = await api.send("POST", CALENDARS, json={**FIELDS, **changes})
    updated = await api.send("PATCH", f"{CALENDARS}{calendar}/", json=changes)
    assert [(reply.status, list(reply.body)) for reply in (created, updated)] == [(400, [field])] * 2


async def test_missing_fields_are_all_named(api: Api) -> None:
    """Only the first missing field would be told."""
    reply = await api.send("POST", CALENDARS, json={})
    assert reply.status == 400
    assert list(reply.body) == ["oauth_client_id", "oauth_client_secret", "oauth_refresh_token", "platform"]


async def test_update_changes_only_what_it_names(api: Api) -> None:
    """A partial update would replace the calendar, or write what is read-only."""
    before = api.sandbox.snapshot()["calendars"][0]
    api.clock.seconds += 60
    document = {"oauth_email": "new@northwind.example", "status": "broken", "created_at": "2000-01-01T00:00:00Z"}
    after = (await api.send("PATCH", f"{CALENDARS}{before['id']}/", json=document)).body
    assert moment(after.pop("updated_at")) == api.clock.now()
    assert before.pop("updated_at")
    assert after == {**before, "oauth_email": "new@northwind.example"}


async def test_delete_disconnects_the_calendar(api: Api) -> None:
    """A deleted calendar would vanish with its events, where the API marks them; or its bots would stay."""
    event = api.upcoming()[0]
    other = next(other for other in api.upcoming() if other["calendar_id"] != event["calendar_id"])
    await api.schedule(event["id"], "one")
    await api.schedule(other["id"], "two")
    path = f"{CALENDARS}{event['calendar_id']}/"
    api.clock.seconds += 1
    for _ in range(2):
        reply = await api.send("DELETE", path)
        assert (reply.status, reply.body) == (204, "")
    calendar = (await api.send("GET", path)).body
    assert calendar["status"] == "disconnected"
    assert [change["status"] for change in calendar["status_changes"]] == ["connecting", "connected", "disconnected"]
    gone = await api.event(event["id"])
    assert (gone["is_deleted"], gone["bots"]) == (True, [])
    assert moment(gone["updated_at"]) == api.clock.now()
    assert [bot["key"] for bot in api.sandbox.snapshot()["bots"]] == ["two"]
    reply = await api.send("PATCH", path, json={"oauth_refresh_token": "new"})
    assert reply.body["status"] == "connected"


async def test_a_new_calendar_connects(api: Api) -> None:
    """A program that works with a calendar that is not connected yet, or has no events yet, would look right."""
    before = len(api.events())
    created = (await api.send("POST", CALENDARS, json=FIELDS)).body
    path = f"{CALENDARS}{created['id']}/"
    assert (await api.send("GET", path)).body["status"] == "connecting"
    assert len(api.events()) == before
    api.clock.seconds += 1
    calendar = (await api.send("GET", path)).body
    assert (calendar["status"], calendar["platform_email"]) == ("connected", "ada@northwind.example")
    assert [change["status"] for change in calendar["status_changes"]] == ["connecting", "connected"]
    new = api.events(lambda event: event["calendar_id"] == created["id"])
    assert len(new) == 24
    assert {event["updated_at"] for event in new} == {calendar["updated_at"]}
    found = (
        await api.send("GET", f"{EVENTS}?calendar_id={created['id']}&updated_at__gte={calendar['updated_at']}")
    ).body
    assert len(found["results"]) == 24


async def test_a_calendar_that_is_deleted_while_it_connects_stays_so(api: Api) -> None:
    """A calendar would come back to life."""
    created = (await api.send("POST", CALENDARS, json=FIELDS)).body
    path = f"{CALENDARS}{created['id']}/"
    await api.send("DELETE", path)
    api.clock.seconds += 10
    assert (await api.send("GET", path)).body["status"] == "disconnected"
    assert api.events(lambda event: event["calendar_id"] == created["id"]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"oauth_refresh_token": "new"},
        {"oauth_client_secret": "new"},
        {"oauth_client_certificate": "new", "oauth_client_private_key": "new"},
    ],
)
async def test_new_credentials_reconnect(api: Api, changes: dict[str, str]) -> None:
    """A calendar whose client secret was rotated would stay disconnected, or one that only got another address would not."""
    calendar = api.sandbox.snapshot()["calendars"][0]
    api.sandbox.revoke(calendar["id"])
    path = f"{CALENDARS}{calendar['id']}/"
    assert (await api.send("PATCH", path, json={"oauth_email": "new@x.example"})).body["status"] == "disconnected"
    reply = (await api.send("PATCH", path, json=changes)).body
    assert reply["status"] == "connected"
    assert {name: reply[name] for name in changes} == changes


async def test_certificates(api: Api) -> None:
    """A Microsoft calendar could not be connected with a certificate, or a Google calendar could."""
    base = {"oauth_client_id": "id", "oauth_refresh_token": "refresh", "platform": "microsoft_outlook"}
    certificate = {"oauth_client_certificate": "c" * 3000, "oauth_client_private_key": "k" * 3000}
    reply = await api.send("POST", CALENDARS, json={**base, **certificate})
    assert reply.status == 201
    assert {name: reply.body[name] for name in certificate} == certificate
    both = await api.send("POST", CALENDARS, json={**base, **certificate, "oauth_client_secret": "secret"})
    assert (both.status, both.body["oauth_client_secret"]) == (201, "secret")
    for document, missing in (
        ({**base, "oauth_client_certificate": "c"}, "oauth_client_private_key"),
        ({**base, "oauth_client_private_key": "k"}, "oauth_client_certificate"),
        ({**base, **certificate, "platform": "google_calendar"}, "oauth_client_secret"),
    ):
        reply = await api.send("POST", CALENDARS, json=document)
        assert (reply.status, reply.body) == (400, {missing: ["This field is required."]})


async def test_metadata(api: Api) -> None:
    """What a team notes on its calendars would be lost, or be of a form that the API does not take."""
    created = (await api.send("POST", CALENDARS, json={**FIELDS, "metadata": {"team": "sales", "n": 7}})).body
    assert created["metadata"] == {"team": "sales", "n": "7"}
    path = f"{CALENDARS}{created['id']}/"
    assert (await api.send("PATCH", path, json={"oauth_email": "a@b.example"})).body["metadata"] == created["metadata"]
    assert (await api.send("PATCH", path, json={"metadata": {}})).body["metadata"] == {}
    for wrong in ("text", [], {"a": {}}, {"a": True}):
        reply = await api.send("PATCH", path, json={"metadata": wrong, "platform": "lotus_notes"})
        assert (reply.status, set(reply.body)) == (400, {"metadata", "platform"})


async def test_access_token(api: Api) -> None:
    """No token would come, or one for a calendar that is disconnected."""
    path = f"{CALENDARS}{api.sandbox.snapshot()['calendars'][0]['id']}/"
    reply = await api.send("POST", f"{path}access-token/")
    assert reply.status == 200
    assert set(reply.body) == {"token", "expires_at"}
    assert moment(reply.body["expires_at"]) == api.clock.now() + timedelta(hours=1)
    await api.send("DELETE", path)
    reply = await api.send("POST", f"{path}access-token/")
    assert (reply.status, reply.body["code"]) == (400, "bad_refresh_token")


@pytest.mark.parametrize("identifier", ["9eaeb16c-f112-4d79-b2f5-f448185ebbe8", "5"])
async def test_unknown_calendars_get_404(api: Api, identifier: str) -> None:
    """An operation would invent a calendar."""
    path = f"{CALENDARS}{identifier}/"
    replies = [
        await api.send("GET", path),
        await api.send("PATCH", path, json={}),
        await api.send("DELETE", path),
        await api.send("POST", f"{path}access-token/"),
    ]
    assert [reply.status for reply in replies] == [404] * 4
