"""Request bodies: the content types that the API reads, large ones, compressed ones, and what breaks them."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import Any

import aiohttp
import pytest

from recall_async.sandbox import bodies
from recall_async.sandbox.fields import metadata
from tests.sandbox.conftest import CALENDARS, EVENTS, Api

CALENDAR = {
    "oauth_client_id": "id",
    "oauth_client_secret": "secret",
    "oauth_refresh_token": "refresh",
    "platform": "google_calendar",
}
BOT = {"deduplication_key": "key", "bot_config": {"bot_name": "Notes"}}


async def post_bot(api: Api, body: Any, **headers: str) -> tuple[int, Any]:
    reply = await api.send("POST", f"{EVENTS}{api.upcoming()[0]['id']}/bot/", data=body, headers=headers)
    return reply.status, reply.body


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_json_by_any_of_its_names(api: Api, content_type: str) -> None:
    """Clients that name the character set could not be tried."""
    status, event = await post_bot(api, json.dumps(BOT).encode(), **{"Content-Type": content_type})
    assert (status, len(event["bots"])) == (200, 1)


async def test_forms(api: Api) -> None:
    """Clients that send forms, as Django REST Framework takes them, could not be tried."""
    reply = await api.send("POST", CALENDARS, data=CALENDAR)
    assert (reply.status, reply.body["oauth_client_secret"]) == (201, "secret")
    fields = {"deduplication_key": "ä &=", "bot_config": '{"bot_name": "Notes"}'}
    assert (await post_bot(api, fields))[0] == 200
    assert api.sandbox.snapshot()["bots"][0]["config"] == {"bot_name": "Notes"}
    with aiohttp.MultipartWriter("form-data") as parts:
        for name, value in fields.items():
            part = parts.append(value)
            part.set_content_disposition("form-data", name=name)
        status, event = await post_bot(api, parts)
    assert (status, event["bots"][0]["deduplication_key"]) == (200, "ä &=")
    assert await post_bot(api, {**fields, "bot_config": "{"}) == (400, {"bot_config": ["Value must be valid JSON."]})


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"a=%ff&b", "application/x-www-form-urlencoded"),
        (b"\xff\xfe=1", "application/x-www-form-urlencoded"),
        (b"a&" * 5000, "application/x-www-form-urlencoded"),
        (b"nothing", "multipart/form-data"),
        (b"nothing", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x"),
        (
            b"--x\r\nContent-Disposition: form-data; name*=utf-9''%ff\r\n\r\n\xff\r\n--x--",
            "multipart/form-data; boundary=x",
        ),
        (
            b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n--x--" * 50,
            "multipart/form-data; boundary=x",
        ),
    ],
    ids=range(8),
)
async def test_broken_forms_get_400(api: Api, body: bytes, content_type: str) -> None:
    """A form that cannot be read would break the server."""
    assert (await post_bot(api, body, **{"Content-Type": content_type}))[0] == 400


@pytest.mark.parametrize("content_type", ["text/plain", "application/octet-stream", "application/xml", "x", "é", ";"])
async def test_another_content_type_gets_415(api: Api, content_type: str) -> None:
    """A client that forgets to say that it sends JSON would look right."""
    status, body = await post_bot(api, json.dumps(BOT).encode(), **{"Content-Type": content_type})
    assert (status, list(body)) == (415, ["detail"])
    assert api.sandbox.report()["bots"] == 0


async def test_large_bodies(api: Api) -> None:
    """A picture in a `bot_config` would be too much for the sandbox, which it is not for the API."""
    picture = "x" * 3_000_000
    body = json.dumps({**BOT, "bot_config": {"picture": picture}}).encode()
    assert (await post_bot(api, io.BytesIO(body), **{"Content-Type": "application/json"}))[0] == 200
    assert api.sandbox.snapshot()["bots"][0]["config"]["picture"] == picture


async def test_compressed_bodies(api: Api) -> None:
    """A compressed body would not be read, or a broken one would break the server."""
    plain = json.dumps(BOT).encode()
    json_type = {"Content-Type": "application/json"}
    assert (await post_bot(api, gzip.compress(plain), **json_type, **{"Content-Encoding": "gzip"}))[0] == 200
    assert (await post_bot(api, zlib.compress(plain), **json_type, **{"Content-Encoding": "deflate"}))[0] == 200
    for broken in (plain, gzip.compress(plain)[:-9] + b"x" * 9, gzip.compress(plain)[:20], b"\x1f\x8b" * 50):
        for encoding in ("gzip", "deflate"):
            status, body = await post_bot(api, broken, **json_type, **{"Content-Encoding": encoding})
            assert (status, list(body)) == (400, ["detail"]), (broken, encoding)


async def test_a_body_that_grows_when_unpacked_is_bounded(api: Api) -> None:
    """Some kilobytes would take all memory of the machine."""
    bomb = gzip.compress(b" " * 80_000_000)
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert (await post_bot(api, bomb, **headers))[0] == 413


async def test_a_large_body_is_refused_while_it_arrives(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body without end would take all memory of the machine."""
    monkeypatch.setattr(bodies, "LARGEST", 1000)
    status, _ = await post_bot(api, b" " * 1001, **{"Content-Type": "application/json"})
    assert status == 413


async def test_many_small_objects_are_not_deep(api: Api) -> None:
    """A configuration with many pictures or headers would be refused as if it were nested without end."""
    document = BOT | {"bot_config": {"bot_name": "Notes", "metadata": {}, "list": [{} for _ in range(500)]}}
    assert (await post_bot(api, json.dumps(document).encode(), **{"Content-Type": "application/json"}))[0] == 200


def test_metadata_that_is_null() -> None:
    """A client that sends null for no metadata would be refused, unlike by the API."""
    assert metadata(None, "metadata") == {}
