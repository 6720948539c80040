"""What others send and receive in a calendar's name is shown to nobody, and what a server says in one short line."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from unicodedata import category

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async import APIError, RecallError, RecallSession, RetryPolicy
from recall_async.answers import Response
from recall_async.secrecy import MAX_MESSAGE, KeyMask, Secret, one_line
from tests.session.conftest import API_KEY
from tests.session.scripted_server import CALENDAR, TOKEN, Behaviour, ScriptedServer, raw, reply, reset
from tests.session.test_secrecy import chain

ID = "497f6eca-6276-4993-bfeb-53cbbbba6f08"
SECRET, REFRESH, TOKEN_TEXT = "GOCSPX-client-s3cret", "1//refresh-t0ken", "ya29.access-t0ken"
CREATE = {
    "platform": "google_calendar", "oauth_client_id": "i", "oauth_client_secret": SECRET, "oauth_refresh_token": REFRESH,
}  # fmt: skip
FULL = CALENDAR | {"id": ID, "oauth_client_secret": SECRET, "oauth_refresh_token": REFRESH}


def shown(value: object, depth: int = 0) -> str:
    """As crash reporters show a frame's locals: mappings and sequences walked, everything else by its `repr`."""
    if depth < 5 and isinstance(value, dict):
        return ",".join(f"{name}:{shown(part, depth + 1)}" for name, part in list(value.items()))
    if depth < 5 and isinstance(value, (list, tuple, set, frozenset)):
        return ",".join(shown(part, depth + 1) for part in value)
    return repr(value)


def surfaces(error: BaseException) -> Iterator[str]:
    """Everything of ours that a log or a crash reporter would print."""
    for link in chain(error):
        yield from (str(link), repr(link), repr(link.args), shown(vars(link)))
        frame = link.__traceback__
        while frame is not None:
            if "/recall_async/" in frame.tb_frame.f_code.co_filename:
                yield shown(dict(frame.tb_frame.f_locals))
            frame = frame.tb_next
        ours = [line for line in traceback.format_exception(link) if "recall_async" in line]
        yield "".join(ours)


FAILURES: dict[str, Behaviour] = {
    "refused, echoed": reply(
        400, {"oauth_refresh_token": [f"{REFRESH} is not valid"], "detail": f"{SECRET} {TOKEN_TEXT}"}
    ),
    "code is the secret": reply(400, {"code": SECRET, "message": REFRESH}),
    "401, echoed": reply(401, body=f"<html>{SECRET} {REFRESH} {TOKEN_TEXT}</html>".encode()),
    "503, echoed": reply(503, {"detail": SECRET + REFRESH + TOKEN_TEXT}),
    "not as documented": reply(200, FULL | {"created_at": "2025-01-01T00:00:00"}),
    "a token without its time": reply(200, TOKEN | {"token": TOKEN_TEXT, "expires_at": None}),
    "begins with it": reply(200, body=f'{{"oauth_refresh_token": "{REFRESH}", "token": "{TOKEN_TEXT}"'.encode()),
    "cut off": raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", f'{{"a": "{SECRET}{REFRESH}{TOKEN_TEXT}'.encode()
    ),
    "not HTTP": raw(f"{SECRET} {REFRESH} {TOKEN_TEXT}\r\n\r\n".encode()),
    "odd header": raw(f"HTTP/1.1 200 OK\r\nX: {SECRET} {REFRESH}\x00\r\n\r\n".encode()),
    "reset": reset,
}
CALLS: dict[str, Callable[[RecallSession], Any]] = {
    "create": lambda recall: recall.calendars.create(**CREATE),
    "update": lambda recall: recall.calendars.update(ID, oauth_client_secret=SECRET, oauth_refresh_token=REFRESH),
    "create_access_token": lambda recall: recall.calendars.create_access_token(ID),
    "list_page": lambda recall: recall.calendars.list_page(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("failure", FAILURES)
async def test_oauth_secrets_are_shown_nowhere(failure: str, call: str, server: ScriptedServer, connect: Any) -> None:
    """Would write a refresh token into a log, whichever way the request failed and whatever the server echoed."""
    recall = connect(retry=RetryPolicy(attempts=1))
    server.script(FAILURES[failure])
    with pytest.raises(RecallError) as caught:
        await CALLS[call](recall)
    for surface in surfaces(caught.value):
        for secret in (SECRET, REFRESH, TOKEN_TEXT):
            assert secret not in surface, surface[:400]
    assert len(str(caught.value)) > 40
    there = pickle.dumps(caught.value)
    pickle.loads(there)
    if call in ("create", "update"):  # what was sent is known, so that an echo of it is hidden even from the program
        for secret in (SECRET, REFRESH):
            assert secret.encode() not in there


async def test_what_is_wrong_can_still_be_read(server: ScriptedServer, recall: RecallSession) -> None:
    """Would hide from the program, too, which field the API refuses and why."""
    server.script(reply(400, {"oauth_client_id": ["This field may not be blank."]}))
    with pytest.raises(APIError, match="it refuses oauth_client_id") as caught:
        await recall.calendars.create(**CREATE)
    assert caught.value.errors == {"oauth_client_id": ["This field may not be blank."]}
    assert caught.value.detail == "oauth_client_id: This field may not be blank"
    assert caught.value.body.startswith(b'{"oauth_client_id"')


def echoes(key: str) -> dict[str, bytes]:
    escaped = "".join(f"\\u{ord(char):04x}" for char in key)
    return {
        "plain": key.encode(),
        "escaped": escaped.encode(),
        "escaped in capitals": escaped.upper().replace("\\U", "\\u").encode(),
        "one digit escaped": (key[:3] + f"\\u{ord(key[3]):04x}" + key[4:]).encode(),
        "slash escaped": key.replace("/", "\\/").encode(),
        "percent": "".join(f"%{ord(char):02X}" for char in key).encode(),
        "html": "".join(f"&#{ord(char)};" for char in key).encode(),
        "capitals": key.upper().encode(),
    }


@pytest.mark.parametrize("form", echoes(API_KEY))
@pytest.mark.parametrize("status", [200, 400, 401, 503])
async def test_echoes_of_the_key(form: str, status: int, server: ScriptedServer, connect: Any) -> None:
    """Would show the key where a server sends it back escaped, in JSON, in a URL, or as the name of a header."""
    recall = connect(retry=RetryPolicy(attempts=1))
    body = b'{"detail": "Token KEY", "code": "KEY", "errors": {"KEY": ["KEY"]}, "id": 3}'
    headers = {f"X_{API_KEY.replace('/', '_')}": "1", "X_Echo": API_KEY}
    server.script(reply(status, body=body.replace(b"KEY", echoes(API_KEY)[form]), **headers))
    with pytest.raises(RecallError) as caught:
        await recall.calendar_events.retrieve(ID)
    for surface in surfaces(caught.value):
        assert API_KEY.lower() not in surface.lower(), surface[:300]
        assert echoes(API_KEY)[form].decode() not in surface
    assert API_KEY not in pickle.dumps(caught.value).decode("latin-1")


async def test_a_link_that_holds_the_key(server: ScriptedServer, recall: RecallSession) -> None:
    """Would show the key in the frame that follows a list."""
    server.script(reply(200, {"next": f"https://evil.example/?k={API_KEY}", "results": []}))
    with pytest.raises(RecallError) as caught:
        _ = [event async for event in recall.calendar_events.list()]
    assert not [surface for surface in surfaces(caught.value) if API_KEY in surface]


def test_a_response_shows_no_body() -> None:
    """Would print what is private from any frame that holds a response."""
    response = Response(200, {}, b"s3cret")
    walked = [getattr(response, name) for name in response.__slots__]
    assert "s3cret" not in repr(response) + repr(walked) + str(response)
    assert response.body == b"s3cret"


HOSTILE = "\x1b]52;c;ZXZpbA==\x07\u202egnp.exe\r\n\x00\u2028\u2066" + "A" * 60_000


@pytest.mark.parametrize("status", [400, 403, 404, 409, 418, 500, 503, 301])
async def test_messages_are_one_short_line(status: int, server: ScriptedServer, connect: Any) -> None:
    """Would let a server write 60,000 characters, a second line, or commands for the terminal into a log."""
    recall = connect(retry=RetryPolicy(attempts=1))
    for document in ({"code": HOSTILE, "detail": HOSTILE}, {"errors": {HOSTILE: [HOSTILE]}}, HOSTILE):
        server.script(reply(status, document, Location="/\u00a0" + "x" * 5000))
        with pytest.raises(APIError) as caught:
            await recall.calendar_events.schedule_bot(ID, deduplication_key="k")
        said = str(caught.value)
        assert len(said) <= MAX_MESSAGE
        assert not {category(char) for char in said} & {"Cc", "Cf", "Zl", "Zp"}
        assert said.startswith("calendar_events.schedule_bot failed with")


@given(st.text(), st.integers(10, 100))
def test_one_line(text: str, limit: int) -> None:
    """Would let a character through that moves a cursor or turns the direction of what follows."""
    line = one_line(text, limit)
    assert len(line) <= limit
    assert line.isprintable()
    assert line == text or not text.isprintable() or len(text) > limit


@pytest.mark.parametrize("key", ["k", "key", "a" * 5])
def test_short_keys_do_not_make_messages_unreadable(key: str) -> None:
    """Would mask every `k` of an error because a test's key is that letter, or one of its encodings."""
    words = "nothing can be sent to https://a..b: encoding with 'idna' codec failed; look at the key"
    assert KeyMask(Secret(key)).text(words) == words


@settings(deadline=None)
@given(st.text("abcdef0123456789-/._", min_size=8, max_size=60), st.integers(4))
def test_a_key_that_is_cut_off_is_hidden(key: str, cut: int) -> None:
    """Would show the beginning of a key at the end of a body of which only the first bytes are kept."""
    mask = KeyMask(Secret(key))
    part = key[: 4 + cut % (len(key) - 4)]
    assert not mask.body(b"Authorization: Token " + part.encode()).endswith(part.encode())
    assert mask.body(b"{}") == b"{}"
    assert "Secret" not in repr(mask)
