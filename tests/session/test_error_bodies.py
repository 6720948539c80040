"""What is read out of the bodies of errors, in every form that the API and what stands before it put them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recall_async import APIError, BadRequestError, BotAlreadyDispatchedError, EventEndedError, RequestBlockedError
from recall_async.advice import api_error
from recall_async.answers import Response
from recall_async.operations import SCHEDULE_BOT

OPERATION = SCHEDULE_BOT.name
CLOUDFLARE = b"""<!DOCTYPE html><html><head><title>Attention Required!</title><style>body { color: red }</style>
<script>var secret = "<b>not text</b>";</script></head><body><h1>Sorry, you have been blocked</h1>
<p>Ray ID: <b>8f2a</b></p></body></html>"""
FIELDS = st.sampled_from(["code", "errors", "detail", "message", "deduplication_key"])


def error(body: bytes | dict[str, Any], status: int = 400) -> APIError:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return api_error(SCHEDULE_BOT, 1, Response(status, {}, content))


def test_code_message_and_errors() -> None:
    """Would lose the parts of the documented form."""
    complaints = {"bot_config": {"bot_name": ["Too long."]}, "deduplication_key": ["Required.", "Really."]}
    raised = error({"code": "invalid", "message": "Invalid input.", "errors": complaints})
    assert type(raised) is BadRequestError
    assert (raised.code, raised.errors) == ("invalid", complaints)
    assert raised.detail is not None
    for part in ("Invalid input", "Too long", "deduplication_key: Required. Really"):
        assert part in raised.detail
        assert part in str(raised)
    assert OPERATION in str(raised)


def test_complaints_by_field() -> None:
    """Would not say which field is wrong when the body is nothing but fields."""
    raised = error({"deduplication_key": ["This field is required."]})
    assert (raised.code, raised.errors) == (None, {"deduplication_key": ["This field is required."]})
    assert raised.detail == "deduplication_key: This field is required"


def test_detail() -> None:
    """Would lose Django's own form."""
    raised = error({"detail": "Not found.", "code": "not_found"}, 404)
    assert (raised.code, raised.detail, raised.errors) == ("not_found", "Not found", {})


@pytest.mark.parametrize(
    "body",
    [
        {"code": "invalid", "message": "x", "errors": {"non_field_errors": ["This event has ended."]}},
        {"code": "invalid", "message": "x", "errors": {"non_field_errors": "Calendar event has already ended"}},
        {"non_field_errors": ["Cannot schedule a bot: the event has ended"]},
        {"detail": "Calendar event has ended."},
        {"code": "invalid", "message": "x" * 1000, "errors": {"non_field_errors": ["This event has ended."]}},
    ],
)
def test_an_event_that_has_ended(body: dict[str, Any]) -> None:
    """Would report the meeting that is over as one bad request among others."""
    assert type(error(body)) is EventEndedError


@pytest.mark.parametrize("body", [{"detail": "The trial has been extended."}, {"end_time": ["is required"]}, {}])
def test_what_is_no_ended_event(body: dict[str, Any]) -> None:
    """Would leave out events because of another complaint."""
    assert type(error(body)) is BadRequestError


def test_bot_that_cannot_be_deleted() -> None:
    """Would make a dispatched bot look like a bad request."""
    assert type(error({"code": "cannot_delete_bot", "detail": "Cannot delete."})) is BotAlreadyDispatchedError


def test_page_of_a_firewall() -> None:
    """Would show the page's markup, styles and scripts instead of what it says."""
    raised = error(CLOUDFLARE, 403)
    assert type(raised) is RequestBlockedError
    assert (raised.code, raised.detail) == (None, "Sorry, you have been blocked Ray ID: 8f2a")
    assert raised.body == CLOUDFLARE


def test_blocked_as_json() -> None:
    """Would lose the code of the firewall's other form."""
    raised = error({"code": "request_blocked", "message": "Request blocked"}, 403)
    assert (type(raised), raised.code) == (RequestBlockedError, "request_blocked")


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'""', b"0", b"   ", b"<html></html>"])
def test_body_that_says_nothing(body: bytes) -> None:
    """Would end a message in a colon, or in quotes around nothing."""
    text = str(error(body, 418))
    assert text.startswith(f"{OPERATION} failed with 418")
    assert not text.endswith((":", ": ."))


@pytest.mark.parametrize("body", [b'["first", "second"]', b'"only a text"', b'{"errors": ["first", "second"]}'])
def test_other_json(body: bytes) -> None:
    """Would fail on, or pass over, JSON that is no object or has a list where an object is documented."""
    raised = error(body)
    assert raised.detail
    assert ("first" in raised.detail) or ("only a text" in raised.detail)


def test_code_that_is_no_text() -> None:
    """Would give a `code` of a type that is not documented."""
    assert error({"code": 17, "detail": {"deep": True}}).code is None


@settings(max_examples=100)
@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(FIELDS, inner),
    ).map(lambda document: json.dumps(document).encode()),
    st.sampled_from([302, 400, 403, 404, 418, 500, 503]),
)  # fmt: skip
@example(b"\xff\xfe\x00bad", 500)
@example(b"1" * 60_000, 500)
@example(b"[" * 60_000, 500)
@example(b'{"errors":' * 10_000, 500)
@example(b'{"detail": "\\ud800"}', 500)
@example(b'{"errors": {"x": [' + b"9" * 5_000 + b"]}}", 400)
def test_no_body_breaks_the_exception(body: bytes, status: int) -> None:
    """Would hide an error of the API behind one of ours, or print a whole page of it."""
    raised = error(body, status)
    assert (raised.status, raised.body) == (status, body)
    assert isinstance(raised.errors, dict)
    assert len(str(raised)) < 1200
    str(raised).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("hostile", [b"<style ", b"<head>", b"<", b"<script></style>"])
def test_hostile_page_is_read_in_no_time(hostile: bytes) -> None:
    """Would hold up the event loop for seconds: the largest body that is kept, built to be slow to search."""
    begun = time.process_time()
    error((hostile * 65536)[:65536], 403)
    assert time.process_time() - begun < 1.0
