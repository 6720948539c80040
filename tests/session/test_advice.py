"""An error says what happened, whether it may have taken effect, and what to do next, in words that fit the operation."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from recall_async import (
    APIError,
    BadRequestError,
    ConnectionFailedError,
    DeadlineExceededError,
    EventEndedError,
    NotFoundError,
    RecallError,
    RecallSession,
    ResponseDecodeError,
    RetryPolicy,
    SessionClosedError,
)
from tests.session.scripted_server import Behaviour, ScriptedServer, raw, reply, reset, silence

ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
CALLS: dict[str, Callable[[RecallSession], Any]] = {
    "schedule": lambda recall: recall.calendar_events.schedule_bot(ID, deduplication_key="k"),
    "retrieve": lambda recall: recall.calendar_events.retrieve(ID),
    "list": lambda recall: recall.calendar_events.list_page(),
    "cursor": lambda recall: recall.calendar_events.list_page(cursor="c"),
    "bots": lambda recall: recall.bots.list_page(page=9),
    "create": lambda recall: recall.calendars.create(
        platform="google_calendar", oauth_client_id="i", oauth_client_secret="s", oauth_refresh_token="t"
    ),
    "token": lambda recall: recall.calendars.create_access_token(ID),
    "remove": lambda recall: recall.calendar_events.remove_bot(ID),
    "delete": lambda recall: recall.calendars.delete(ID),
    "leave": lambda recall: recall.bots.leave_call(ID),
    "other": lambda recall: recall.request("DELETE", f"/api/v1/bot/{ID}/"),
}


async def said(server: ScriptedServer, connect: Any, call: str, behaviour: Behaviour) -> RecallError:
    recall = connect(retry=RetryPolicy(attempts=1), timeout=0.2 if behaviour is silence else 5.0)
    server.script(behaviour)
    with pytest.raises(RecallError) as caught:
        await CALLS[call](recall)
    return caught.value


@pytest.mark.parametrize(
    ("call", "status", "body", "speaks_of", "not_of"),
    [
        ("schedule", 405, {}, "leave_call", "base_url"),
        ("list", 405, {}, "base_url", "bot"),
        ("create", 405, {}, "base_url", "bot"),
        ("schedule", 409, {}, "deduplication key", "idempotency"),
        ("create", 409, {}, "idempotency key", "deduplication"),
        ("schedule", 507, {}, "No bot is free", "room"),
        ("list", 507, {}, "try again later", "bot"),
        ("retrieve", 404, {"detail": "Not found."}, "Check the id", "base_url"),
        ("list", 404, {"detail": "Not found."}, "base_url", "Check the id"),
        ("create", 404, {"detail": "Not found."}, "base_url", "Check the id"),
        ("cursor", 404, {"detail": "Invalid cursor."}, "cursor is invalid", "base_url"),
        ("bots", 404, {"detail": "Invalid page."}, "page does not exist", "base_url"),
        ("list", 403, {"detail": "You do not have permission to perform this action."}, "permissions", "firewall"),
        ("list", 403, {"code": "request_blocked", "message": "Not allowed"}, "firewall", "permissions"),
        ("list", 401, {}, "another region", "firewall"),
        ("schedule", 406, {}, "JSON", "bot "),
        ("schedule", 408, {}, "may have taken effect", "firewall"),
        ("retrieve", 408, {}, "again is safe", "may have taken effect"),
        ("retrieve", 410, {}, "was deleted", "firewall"),
        ("schedule", 422, {"detail": "Wrong."}, "correct what", "firewall"),
        ("retrieve", 304, {}, "cache", "redirect"),
        ("schedule", 302, {}, "redirects to nowhere", "firewall"),
        ("schedule", 500, {}, "may have taken effect", "firewall"),
        ("schedule", 503, {}, "may have taken effect", "firewall"),
        ("create", 503, {}, "look for it with calendars.list", "again is safe"),
        ("token", 400, {"code": "bad_refresh_token", "message": "x"}, "Connect the calendar again", "firewall"),
    ],
)
async def test_advice_fits_the_operation(
    call: str, status: int, body: Any, speaks_of: str, not_of: str, server: ScriptedServer, connect: Any
) -> None:
    """Would speak of bots to who lists calendars, or of a firewall where a permission is missing."""
    error = await said(server, connect, call, reply(status, body))
    assert isinstance(error, APIError)
    assert error.status == status
    assert speaks_of.lower() in str(error).lower()
    advice = str(error).removeprefix(f"{error.operation} failed with")
    assert not_of.lower() not in advice.lower()


MAY = "An earlier attempt had no response. The request may have taken effect"
GONE = "An earlier attempt had no response and has most likely taken effect: the object is gone."


@pytest.mark.parametrize("first", [reset, reply(503)], ids=["reset", "503"])
@pytest.mark.parametrize(
    ("call", "status", "speaks_of"),
    [
        ("schedule", 401, MAY),
        ("schedule", 400, MAY),
        ("schedule", 409, MAY),
        ("remove", 404, MAY),
        ("remove", 405, MAY),
        ("leave", 400, MAY),
        ("delete", 404, GONE),
        ("delete", 403, MAY),
        ("other", 404, GONE),
        ("create", 400, "An earlier attempt had no response. The calendar may have been created"),
        ("retrieve", 404, "Check the id, and that it belongs to this workspace and region."),
    ],
)
async def test_a_refusal_after_an_attempt_without_a_response(
    server: ScriptedServer, connect: Any, first: Behaviour, call: str, status: int, speaks_of: str
) -> None:
    """Says that a calendar does not exist, or that a bot cannot leave, because the lost first attempt did its work."""
    recall = connect(retry=RetryPolicy(attempts=2, backoff=0.0))
    server.script(first, reply(status))
    with pytest.raises(RecallError) as caught:
        await CALLS[call](recall)
    assert speaks_of in str(caught.value)
    assert str(caught.value).count("taken effect") <= 1


async def test_a_server_that_vanishes(connect: Any) -> None:
    """Says that nothing was sent, which is true of the last attempt, and the first one may have done its work."""
    for call, speaks_of in (("schedule", MAY), ("retrieve", "Nothing was sent.")):
        async with ScriptedServer() as server:
            server.script(server.vanish)
            recall = connect(base_url=server.url, retry=RetryPolicy(attempts=2, backoff=0.0))
            with pytest.raises(ConnectionFailedError) as caught:
                await CALLS[call](recall)
            assert caught.value.refused
            assert speaks_of in str(caught.value)
            assert str(caught.value).count("taken effect") == (call == "schedule")


async def test_a_refusal_of_the_first_attempt(server: ScriptedServer, connect: Any) -> None:
    """Says of an id that was mistyped that its object was deleted."""
    for first in ((), (reply(429, retry_after="0"),)):
        server.script(*first, reply(404))
        with pytest.raises(NotFoundError) as caught:
            await CALLS["delete"](connect(retry=RetryPolicy(attempts=2, backoff=0.0)))
        assert "earlier attempt" not in str(caught.value)


@pytest.mark.parametrize("status", [400, 411, 414, 415, 421, 425, 431, 451])
async def test_a_refusal_without_a_reason(server: ScriptedServer, connect: Any, status: int) -> None:
    """Says nothing but a number."""
    assert "without a reason: check base_url" in str(await said(server, connect, "schedule", reply(status)))
    told = reply(status, {"detail": "Because."})
    assert str(await said(server, connect, "schedule", told)).endswith(": Because")


async def test_a_subscription_that_has_ended(server: ScriptedServer, connect: Any) -> None:
    """Would skip every event, as if all of them were over, because nobody has paid."""
    for text, kind in (
        ("Your subscription has ended.", BadRequestError),
        ("The trial period has already ended.", BadRequestError),
        ("Cannot schedule bot as calendar event has ended.", EventEndedError),
        ("This meeting has already ended", EventEndedError),
    ):
        error = await said(server, connect, "schedule", reply(400, {"detail": text}))
        assert type(error) is kind, text


@pytest.mark.parametrize(
    ("behaviour", "kind", "parts"),
    [
        (reset, ConnectionFailedError, ("no answer from http://127.0.0.1", "may have taken effect", "again is safe")),
        (raw(b""), ConnectionFailedError, ("closed the connection before it answered", "may have taken effect")),
        (
            raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
            ConnectionFailedError,
            ("in the middle of the answer",),
        ),
        (raw(b"220 mail ESMTP\r\n"), ResponseDecodeError, ("not valid HTTP", "may have taken effect", "base_url")),
        (reply(200, body=b""), ResponseDecodeError, ("0 bytes", "most likely taken effect", "base_url")),
        (silence, RecallError, ("no answer within 0.2 s", "may have taken effect")),
    ],
)
async def test_where_no_answer_came(
    behaviour: Behaviour, kind: type[RecallError], parts: tuple[str, ...], server: ScriptedServer, connect: Any
) -> None:
    """Would leave the reader to guess whether there is a bot now."""
    error = await said(server, connect, "schedule", behaviour)
    assert isinstance(error, kind)
    for part in parts:
        assert part in str(error)


async def test_where_nothing_was_sent(connect: Any) -> None:
    """Would let the reader look for what a request did that never left."""
    recall = connect(base_url="http://127.0.0.1:1", retry=RetryPolicy(attempts=1))
    with pytest.raises(ConnectionFailedError, match=r"Connection refused\. Nothing was sent\."):
        await CALLS["schedule"](recall)


async def test_a_deadline_of_nothing(server: ScriptedServer, recall: RecallSession) -> None:
    """Would send a request that nobody waits for, and say that the next slot is 0.0 s away."""
    with pytest.raises(DeadlineExceededError) as caught:
        await recall.calendar_events.retrieve(ID, deadline=0)
    assert "0.0 s" not in str(caught.value)
    assert "deadline has passed before a request could be sent" in str(caught.value)
    assert not server.requests
    assert recall.statistics()["calendar_events.retrieve"].taken == 0


async def test_every_error_of_a_call_is_whole(server: ScriptedServer, connect: Any) -> None:
    """Would end in a colon, double a full stop, or be torn by a translation of its parts."""
    for call in CALLS:
        for status in (
            301,
            304,
            400,
            401,
            402,
            403,
            404,
            405,
            406,
            408,
            409,
            410,
            418,
            422,
            429,
            500,
            502,
            503,
            507,
            599,
        ):
            error = await said(server, connect, call, reply(status, {"detail": "It failed."}, retry_after="0"))
            text = str(error)
            assert not text.endswith((":", " ", ","))
            assert ".." not in text
            assert text[-1] in ".)" or status == 418 or text.endswith("failed"), text
            json.dumps(text)


async def test_a_closed_session(recall: RecallSession) -> None:
    """Would not say what to do with a session that is closed."""
    await recall.aclose()
    with pytest.raises(SessionClosedError, match="open a new one"):
        await CALLS["retrieve"](recall)
