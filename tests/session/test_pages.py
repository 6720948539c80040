"""Following a list: every page once, on the same origin, to its end or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from yarl import URL

from recall_async import (
    CalendarEvent,
    ConfigurationError,
    DeadlineExceededError,
    Quota,
    RecallSession,
    ResponseDecodeError,
    ServerError,
)
from recall_async.secrecy import Secret
from recall_async.transport import Transport
from tests.session.scripted_server import CALENDAR, EVENT, Behaviour, ScriptedServer, reply, silence

EVENTS = "/api/v2/calendar-events/"
IDS = [f"00000000-0000-4000-8000-{number:012}" for number in range(1000)]


def page(*ids: str, next: str | None = None) -> Behaviour:
    return reply(200, {"next": next, "previous": None, "results": [EVENT | {"id": id} for id in ids]})


async def read(recall: RecallSession, **filters: Any) -> list[str]:
    return [event.id async for event in recall.calendar_events.list(**filters)]


async def test_pages_are_followed_to_the_end(server: ScriptedServer, recall: RecallSession) -> None:
    """Would read page one for ever, stop after it, or change the link that the server gave."""
    link = f"{EVENTS}?cursor=cD0x%2B%2F&calendar_id={IDS[0]}&a=%20b+c"
    server.script(page(*IDS[:3], next=server.url + link), page(next=server.url + link + "2"), page(*IDS[3:5]))
    assert await read(recall, calendar_id=IDS[0]) == IDS[:5]
    assert [request.target for request in server.requests] == [f"{EVENTS}?calendar_id={IDS[0]}", link, link + "2"]
    assert recall.statistics()["calendar_events.list"].taken == 3


async def test_calendars_are_followed_too(server: ScriptedServer, recall: RecallSession) -> None:
    """Would list only the first hundred calendars."""
    first = {"next": f"{server.url}/api/v2/calendars/?cursor=2", "previous": None, "results": [CALENDAR]}
    server.script(reply(200, first))
    assert len([calendar async for calendar in recall.calendars.list()]) == 2
    assert server.last.target == "/api/v2/calendars/?cursor=2"


async def test_pages_are_read_when_they_are_needed(server: ScriptedServer, recall: RecallSession) -> None:
    """Would spend the quota of lists on pages that nobody looks at."""
    server.script(page(*IDS[:2], next=f"{server.url}{EVENTS}?cursor=2"))
    async for event in recall.calendar_events.list():
        assert isinstance(event, CalendarEvent)
        break
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/api/v2/calendar-events/?cursor=2",
        "//evil.example/api/v2/calendar-events/",
        "http://127.0.0.1:1/api/v2/calendar-events/",
        "http://127.0.0.1/api/v2/calendar-events/",
        "https://HOST/api/v2/calendar-events/",
        "http://HOST.evil.example/",
        "http://HOST@evil.example/",
        "http://evil.example#@HOST/",
        "http://evil.example\\@HOST/",
        "http://evil.example/\\HOST/",
        "http:\\\\evil.example/",
        "http://user@HOST/api/v2/calendar-events/",
        "http://user:password@HOST/api/v2/calendar-events/",
        "http://localhost:PORT/api/v2/calendar-events/",
        "http://[::1]:PORT/",
        "http://127.0.0.1.:PORT/",
        "http://127.1:PORT/",
        "http://2130706433:PORT/",
        "ftp://HOST/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "mailto:somebody@example.com",
        "data:,x",
        "http://[",
        "",
        "http://HOST:99999/",
        "http://127.0.0.1:PORT\r\nX-Evil: 1/",
        "http://HOST/a b",
        "http://HOST/api/v2/\r\nX-Evil: 1\r\n\r\n",
        "http://HOST/api/v2/\n",
        "http://HOST/api/v2/\x00",
        "http://HOST/api/v2/?cursor=\r\n\r\nGET / HTTP/1.1",
        " https://evil.example/",
        "\thttps://evil.example/",
        "ht\ntps://evil.example/",
        "HTTPS://EVIL.EXAMPLE/",
        "http://evil。example/",
    ],
)
async def test_hostile_links(link: str, server: ScriptedServer, recall: RecallSession) -> None:
    """Would send the key to another origin, or a request of the server's own making to the right one."""
    port = URL(server.url).port
    server.script(page(*IDS[:2], next=link.replace("HOST", f"127.0.0.1:{port}").replace("PORT", str(port))))
    with pytest.raises(ResponseDecodeError) as caught:
        await read(recall)
    assert len(server.requests) == 1
    assert (caught.value.operation, caught.value.attempts) == ("calendar_events.list", 1)
    assert "link" in str(caught.value)


async def test_nothing_reaches_the_foreign_server(server: ScriptedServer, recall: RecallSession) -> None:
    """Would send the key to whoever a link points to, be it on the same host."""
    async with ScriptedServer() as foreign:
        server.script(page(IDS[0], next=f"{foreign.url}{EVENTS}?cursor=2"))
        with pytest.raises(ResponseDecodeError, match="another origin"):
            await read(recall)
        assert not foreign.requests
        assert not foreign.connections


@pytest.mark.parametrize(
    "link",
    [
        f"{EVENTS}?cursor=2",
        f"http://127.0.0.1:PORT{EVENTS}?cursor=2#fragment",
        f"HTTP://127.0.0.1:PORT{EVENTS}?cursor=2",
        f"//127.0.0.1:PORT{EVENTS}?cursor=2",
    ],
)
async def test_other_ways_to_write_the_next_link(link: str, server: ScriptedServer, recall: RecallSession) -> None:
    """Would end a list in an error for the sake of form."""
    server.script(page(IDS[0], next=link.replace("PORT", str(URL(server.url).port))), page(IDS[1]))
    assert await read(recall) == IDS[:2]
    assert server.last.target == f"{EVENTS}?cursor=2"


def transport(base_url: str) -> Transport:
    return Transport(URL(base_url), Secret("key"), 1.0, None)


@pytest.mark.parametrize(
    ("base", "link", "followed"),
    [
        ("https://x.example/", "http://x.example/a?b=%20", "https://x.example/a?b=%20"),
        ("https://x.example/", "http://x.example:80/a", "https://x.example/a"),
        ("https://x.example/", "https://x.example:443/a", "https://x.example/a"),
        ("https://x.example/", "https://X.EXAMPLE/a", "https://x.example/a"),
        ("https://x.example:8443/", "http://x.example/a", "https://x.example:8443/a"),
        ("https://x.example:8443/", "http://x.example:8443/a", "https://x.example:8443/a"),
        ("https://x.example/", "http://x.example:8080/a", None),
        ("https://x.example/", "http://y.example/a", None),
        ("https://x.example/", "https://x.example:8443/a", None),
        ("https://x.example:8443/", "https://x.example/a", None),
        ("http://127.0.0.1:80/", "https://127.0.0.1/a", None),
    ],
)
def test_link_to_http_from_https(base: str, link: str, followed: str | None) -> None:
    """Would send the key unencrypted, or refuse the links of deployments that write http: where https: is meant."""
    if followed is None:
        with pytest.raises(ValueError, match="origin"):
            transport(base).same_origin(link)
    else:
        url = transport(base).same_origin(link)
        assert (str(url), url.origin()) == (str(URL(followed, encoded=True)), URL(base).origin())


@pytest.mark.parametrize("back_to", ["", "?cursor=2"])
async def test_circle(back_to: str, server: ScriptedServer, recall: RecallSession) -> None:
    """Would read the same pages until the quota is gone."""
    first, second, third = EVENTS, f"{EVENTS}?cursor=2", f"{EVENTS}?cursor=3"
    again = server.url + first + back_to
    server.script(*[page(IDS[0], next=server.url + link) for link in (second, third)], page(IDS[0], next=again))
    with pytest.raises(ResponseDecodeError, match="circle") as caught:
        await read(recall)
    assert len(server.requests) == 3
    assert caught.value.operation == "calendar_events.list"


@pytest.mark.parametrize(
    "body",
    [b"[]", b"null", b"{}", b'{"next": null}', b'{"next": 3, "results": []}', b'{"next": null, "results": null}', b"{"],
)  # fmt: skip
async def test_truncated_list_is_no_end(body: bytes, server: ScriptedServer, recall: RecallSession) -> None:
    """Would read half a list as the whole: "no bot there", hence a second one."""
    server.script(page(*IDS[:2], next=f"{server.url}{EVENTS}?cursor=2"), reply(200, body=body))
    with pytest.raises(ResponseDecodeError, match=r"calendar_events\.list"):
        await read(recall)


async def test_failure_on_a_later_page(server: ScriptedServer, recall: RecallSession) -> None:
    """Would end the list quietly at a page that could not be read."""
    server.script(page(*IDS[:2], next=f"{server.url}{EVENTS}?cursor=2"), reply(500))
    with pytest.raises(ServerError):
        await read(recall)


async def test_each_page_is_retried_by_itself(server: ScriptedServer, recall: RecallSession) -> None:
    """Would start over, or skip a page, after a page that failed at first."""
    link = f"{server.url}{EVENTS}?cursor=2"
    server.script(page(*IDS[:2], next=link), reply(503), page(*IDS[2:4]))
    assert await read(recall) == IDS[:4]


async def test_deadline_is_for_all_pages(server: ScriptedServer, recall: RecallSession) -> None:
    """Would give every page the whole deadline."""
    server.delay = 0.1
    server.script(*[page(*IDS[:2], next=f"{server.url}{EVENTS}?cursor={number}") for number in range(9)])
    with pytest.raises(DeadlineExceededError):
        await read(recall, deadline=0.35)
    assert len(server.requests) <= 4


async def test_page_that_has_no_slot_in_time(server: ScriptedServer, connect: Callable[..., RecallSession]) -> None:
    """Would wait for the deadline with a list that cannot be read to its end by then."""
    recall = connect(quotas={"calendar_events.list": Quota(1, 60.0)})
    server.script(page(*IDS[:2], next=f"{server.url}{EVENTS}?cursor=2"))
    with pytest.raises(DeadlineExceededError) as caught:
        await read(recall, deadline=30.0)
    assert caught.value.retry_after is not None
    assert 55 < caught.value.retry_after < 61


async def test_deadline_of_a_page_that_does_not_come(server: ScriptedServer, recall: RecallSession) -> None:
    """Would wait for the second page as if the first had taken no time."""
    server.script(page(*IDS[:2], next=f"{server.url}{EVENTS}?cursor=2"), silence)
    with pytest.raises(DeadlineExceededError):
        await read(recall, deadline=0.2)


@pytest.mark.parametrize("cursor", ["https://us-east-1.recall.ai/api/v2/calendar-events/?cursor=x", "?cursor=x"])
async def test_whole_url_for_a_cursor(cursor: str, server: ScriptedServer, recall: RecallSession) -> None:
    """Would send the whole `next` URL as a cursor, which the server takes for none: page one for ever."""
    with pytest.raises(ConfigurationError, match="cursor"):
        await recall.calendar_events.list_page(cursor=cursor)
    with pytest.raises(ConfigurationError, match="cursor"):
        recall.calendars.list(cursor=cursor)
    assert not server.requests


async def test_cursor_of_a_page(server: ScriptedServer, recall: RecallSession) -> None:
    """Would lose characters of a cursor that a program took out of `next`."""
    server.script(page(IDS[0], next=f"{server.url}{EVENTS}?cursor=cD0%2B%3D%3D"))
    first = await recall.calendar_events.list_page()
    assert first.next is not None
    await recall.calendar_events.list_page(cursor=URL(first.next).query["cursor"])
    assert URL(server.last.target).query["cursor"] == "cD0+=="


async def test_a_page_as_large_as_they_come(server: ScriptedServer, recall: RecallSession) -> None:
    """Would cut a page of 100 events with 5 KB of platform payload each."""
    events = [EVENT | {"id": id, "raw": {"description": "x" * 5000}} for id in IDS[:100]]
    server.script(reply(200, body=json.dumps({"next": None, "previous": None, "results": events}).encode()))
    assert await read(recall) == IDS[:100]
