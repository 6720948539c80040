"""The verifier against independent signers, hostile deliveries, and the header mappings of web frameworks."""

from __future__ import annotations

import base64
import copy
import pickle
import re
from datetime import UTC, datetime
from email.message import Message

import pytest
import standardwebhooks
import svix
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict
from starlette.datastructures import Headers as StarletteHeaders

from recall_async import ConfigurationError, WebhookDecodeError, WebhookVerificationError
from recall_async.webhooks import CalendarSyncEvents, CalendarUpdate, WebhookEvent, WebhookVerifier, sign

SECRET = "whsec_" + base64.b64encode(b"one secret of 24 bytes..").decode()
OTHER = "whsec_" + base64.b64encode(b"another one of 24 bytes.").decode()
CALENDAR = "5a35c6f2-94d0-4b6a-9c2f-4f5a3c1f7d10"
SYNC = (
    b'{"event": "calendar.sync_events", "data": {"calendar_id": "%b", "last_updated_ts": "2025-06-10T18:54:18.951Z"}}'
    % CALENDAR.encode()
)
NOW = 1_750_000_000


def verifier(*secrets: str, now: float = NOW, **options: float) -> WebhookVerifier:
    return WebhookVerifier(secrets or SECRET, **options, clock=lambda: now)


def signed(body: bytes = SYNC, secret: str = SECRET, **options: object) -> dict[str, str]:
    return sign(body, secret, **{"timestamp": NOW, **options})


def test_what_standardwebhooks_signs_is_authentic():
    """Deliveries of accounts from December 2025 on are turned away."""
    when = datetime.fromtimestamp(NOW, UTC)
    signature = standardwebhooks.Webhook(SECRET).sign("msg_1", when, SYNC.decode())
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(NOW), "webhook-signature": signature}
    event = verifier().verify(headers, SYNC)
    assert event == WebhookEvent(
        "calendar.sync_events",
        CalendarSyncEvents(CALENDAR, datetime(2025, 6, 10, 18, 54, 18, 951000, UTC)),
        "msg_1",
        when,
    )


def test_what_svix_signs_is_authentic():
    """Deliveries of older accounts are turned away."""
    signature = svix.Webhook(SECRET).sign("msg_1", datetime.fromtimestamp(NOW, UTC), SYNC.decode())
    headers = {"svix-id": "msg_1", "svix-timestamp": str(NOW), "svix-signature": signature}
    assert verifier().verify(headers, SYNC).id == "msg_1"


@pytest.mark.parametrize(
    ("library", "prefix"),
    [(standardwebhooks.Webhook, "webhook"), (svix.Webhook, "webhook"), (svix.Webhook, "svix")],
)
def test_others_find_our_signature_authentic(library, prefix):
    """`sign` makes deliveries for tests that no real endpoint would accept."""
    headers = sign(SYNC, SECRET, prefix=prefix)
    library(SECRET).verify(SYNC, headers)
    with pytest.raises((standardwebhooks.WebhookVerificationError, svix.WebhookVerificationError)):
        library(OTHER).verify(SYNC, headers)


@given(body=st.text(), message_id=st.from_regex("[a-zA-Z0-9_]+", fullmatch=True), moment=st.integers(0, 10**10))
def test_signatures_equal_those_of_standardwebhooks(body, message_id, moment):
    """Some bodies, ids or times are signed differently than the standard says."""
    ours = sign(body.encode(), SECRET, message_id=message_id, timestamp=moment)["webhook-signature"]
    when = datetime.fromtimestamp(moment, UTC)
    assert ours == standardwebhooks.Webhook(SECRET).sign(message_id, when, body)


HEADERS = {
    "title case": lambda h: {name.title(): value for name, value in h.items()},
    "upper case": lambda h: {name.upper(): value for name, value in h.items()},
    "bytes": lambda h: {name.encode(): value.encode() for name, value in h.items()},
    "lists": lambda h: {name: [value] for name, value in h.items()},
    "lists of bytes": lambda h: {name.encode(): [value.encode()] for name, value in h.items()},
    "aiohttp": lambda h: CIMultiDict(h, Host="example.com"),
    "starlette": lambda h: StarletteHeaders(h | {"host": "example.com"}),
    "starlette, raw": lambda h: StarletteHeaders(raw=[(n.title().encode(), v.encode()) for n, v in h.items()]),
    "WSGI": lambda h: {"HTTP_" + n.upper().replace("-", "_"): v for n, v in h.items()} | {"wsgi.input": object()},
    "http.server": lambda h: _message(h),
    "ASGI": lambda h: [(name.encode(), value.encode()) for name, value in h.items()],
    "pairs that are lists": lambda h: [[name, value] for name, value in h.items()],
    "pairs read once": lambda h: ((name, value) for name, value in h.items()),
    "lists of values, with empty ones": lambda h: {name: ["", value, None] for name, value in h.items()},
    "sets": lambda h: {name: {value} for name, value in h.items()},
    "values read once": lambda h: {name: (part for part in [value]) for name, value in h.items()},
    "bytearray": lambda h: {name: bytearray(value.encode()) for name, value in h.items()},
    "split at commas": lambda h: {name: value.split(",") for name, value in h.items()},
    "joined by a proxy": lambda h: {name: f" {value} " for name, value in h.items()},
    "repeated by a proxy": lambda h: [*h.items(), *h.items()],
    "among others": lambda h: [(None, 1), ("x" * 10**6, "y"), *h.items(), (7, None)],
    "time as a number": lambda h: {name: int(value) if "timestamp" in name else value for name, value in h.items()},
}


def _message(headers: dict[str, str]) -> Message:
    message = Message()
    for name, value in headers.items():
        message[name.title()] = value
    return message


@pytest.mark.parametrize("prefix", ["webhook", "svix"])
@pytest.mark.parametrize("make", HEADERS.values(), ids=HEADERS)
def test_headers_of_any_framework(make, prefix):
    """Users of this framework cannot pass its headers as they are."""
    assert verifier().verify(make(signed(prefix=prefix)), SYNC).data.calendar_id == CALENDAR


@pytest.mark.parametrize("body", [bytearray(SYNC), memoryview(SYNC)])
def test_body_in_any_buffer(body):
    """Frameworks that give a bytearray or a memoryview need a copy first."""
    assert verifier().verify(signed(), body).event == "calendar.sync_events"


def test_body_as_text_is_a_mistake_of_the_program():
    """A decoded body, which verifies by luck only, is accepted, or looks like a forged delivery."""
    with pytest.raises(TypeError, match="raw bytes"):
        verifier().verify(signed(), SYNC.decode())


def test_secrets_rotate():
    """While a secret is replaced, deliveries signed with the old or the new one are turned away."""
    both = verifier(OTHER, SECRET)
    assert both.verify(signed(secret=SECRET), SYNC)
    assert both.verify(signed(secret=OTHER), SYNC)


def test_several_signatures():
    """A delivery signed with both secrets, or in a newer version too, is turned away."""
    good = signed()["webhook-signature"]
    for signature in (f"v1,AAAA {good}", f"{good} v2,x", f"v1a,AAAA {good} v1,", f"{signed(secret=OTHER)} {good}"):
        assert verifier().verify({**signed(), "webhook-signature": signature}, SYNC)


def test_signatures_in_any_form_and_order():
    """A delivery with several signatures is turned away because of how its header was split."""
    good, other = signed()["webhook-signature"], signed(secret=OTHER)["webhook-signature"]
    for signatures in ([good, other], [other, good], [other, "v2,AAAA", good], ["v1,", good], ["v1a,AAAA", good]):
        for value in (
            signatures,
            " ".join(signatures),
            ",".join(signatures),
            ", ".join(signatures),
            " ".join(signatures).split(","),
            ",".join(signatures).split(","),
            [signature.encode() for signature in signatures],
        ):
            assert verifier().verify({**signed(), "webhook-signature": value}, SYNC), value
    repeated = [("webhook-signature", other), *signed().items(), ("webhook-signature", "v1,AAAA")]
    assert verifier().verify(repeated, SYNC)


def test_many_secrets_and_many_headers():
    """One delivery with tens of thousands of header lines keeps a process busy for minutes."""
    secrets = ["whsec_" + base64.b64encode(b"secret number %06d" % number).decode() for number in range(50)]
    assert verifier(*secrets).verify(signed(secret=secrets[-1]), SYNC)
    many = [("webhook-signature", f"v1,{number}") for number in range(100_000)]
    assert verifier().verify([*many, *signed().items()], SYNC)
    with pytest.raises(WebhookVerificationError):
        verifier().verify([("webhook-id", str(number)) for number in range(100_000)], SYNC)


@pytest.mark.parametrize("headers", [None, 7, "webhook-id: msg_1", b"webhook-id", ["webhook-id"], [("a", "b", "c")]])
def test_what_is_no_headers_is_a_mistake_of_the_program(headers):
    """A program that passes the wrong object looks as if it was attacked."""
    with pytest.raises(TypeError, match="headers must be"):
        verifier().verify(headers, SYNC)


def test_secret_without_its_prefix():
    """A secret that was stored without whsec_ does not work."""
    assert verifier(SECRET.removeprefix("whsec_")).verify(signed(), SYNC)


@pytest.mark.parametrize("off", [-300, 300])
def test_tolerance_includes_its_limits(off):
    """A delivery exactly as old as tolerated is turned away."""
    assert verifier().verify(signed(timestamp=NOW + off), SYNC)


@pytest.mark.parametrize(("off", "said"), [(-301, "301 s in the past"), (301, "301 s in the future")])
def test_replays_and_wrong_clocks(off, said):
    """A captured delivery can be replayed for ever."""
    with pytest.raises(WebhookVerificationError, match=said):
        verifier().verify(signed(timestamp=NOW + off), SYNC)


def test_tolerance_is_configurable():
    """`tolerance` is ignored."""
    assert verifier(tolerance=1000).verify(signed(timestamp=NOW - 999), SYNC)
    with pytest.raises(WebhookVerificationError):
        verifier(tolerance=10).verify(signed(timestamp=NOW - 11), SYNC)


FORGED = {
    "another body": (signed(), SYNC.replace(b"18", b"19")),
    "a space more": (signed(), SYNC + b" "),
    "another secret": (signed(secret=OTHER), SYNC),
    "another id": (signed() | {"webhook-id": "msg_2"}, SYNC),
    "another time": (signed() | {"webhook-timestamp": str(NOW + 1)}, SYNC),
    "time spelled otherwise": (signed() | {"webhook-timestamp": f"0{NOW}"}, SYNC),
    "ids of two headers": (CIMultiDict([*signed().items(), ("Webhook-Id", "msg_2")]), SYNC),
    "no headers": ({}, SYNC),
    "no signature": ({k: v for k, v in signed().items() if "signature" not in k}, SYNC),
    "no id": (signed() | {"webhook-id": ""}, SYNC),
    "headers of both kinds, mixed": (
        {k.replace("webhook-id", "svix-id"): v for k, v in signed().items()},
        SYNC,
    ),
    "empty signature": (signed() | {"webhook-signature": "v1,"}, SYNC),
    "signature of another version": (
        signed() | {"webhook-signature": signed()["webhook-signature"].replace("v1,", "v2,")},
        SYNC,
    ),
    "signature that is no ASCII": (signed() | {"webhook-signature": "v1,ä\udc80\ud800"}, SYNC),
    "bytes that are no text": ({k.encode(): b"\xff\xfe" for k in signed()}, SYNC),
    "time that is no number": (signed() | {"webhook-timestamp": "soon"}, SYNC),
    "time in other digits": (signed() | {"webhook-timestamp": str(NOW).replace("0", "\u0660")}, SYNC),
    "time with a sign": (signed() | {"webhook-timestamp": f"+{NOW}"}, SYNC),
    "time of a million digits": (signed() | {"webhook-timestamp": "9" * 10**6}, SYNC),
    "header that is None": (signed() | {"webhook-id": None}, SYNC),
}


@pytest.mark.parametrize(("headers", "body"), FORGED.values(), ids=FORGED)
def test_forged_deliveries(headers, body):
    """A delivery that nobody at Recall.ai sent is believed, or ends in an error that no handler expects."""
    with pytest.raises(WebhookVerificationError):
        verifier().verify(headers, body)


@given(st.dictionaries(st.sampled_from(sorted(signed())), st.text()), st.binary())
def test_no_delivery_ends_otherwise(headers, body):
    """Some garbage raises an error that no handler expects."""
    with pytest.raises(WebhookVerificationError):
        verifier().verify(headers, body)


def test_calendar_update():
    """`calendar.update` has no typed payload."""
    body = b'{"event":"calendar.update","data":{"calendar_id":"c","added":1}}'
    assert verifier().verify(signed(body), body).data == CalendarUpdate("c")


@pytest.mark.parametrize(
    ("document", "data"),
    [('"data":{"bot":{"id":"b"}}', {"bot": {"id": "b"}}), ('"data":null', {}), ('"more":1', {})],
)
def test_other_kinds_stay_open(document, data):
    """A kind that is added to the API fails at every endpoint."""
    body = f'{{"event":"bot.dancing",{document}}}'.encode()
    event = verifier().verify(signed(body), body)
    assert (event.event, event.data) == ("bot.dancing", data)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-06-10T18:54:18.951Z", datetime(2025, 6, 10, 18, 54, 18, 951000, UTC)),
        ("2025-06-10T20:54:18+02:00", datetime(2025, 6, 10, 18, 54, 18, tzinfo=UTC)),
        ("2025-06-10T18:54:18.951234", datetime(2025, 6, 10, 18, 54, 18, 951234, UTC)),
    ],
)
def test_times_as_iso_8601_allows(text, moment):
    """A time without an offset, which the documentation allows, fails."""
    body = f'{{"event":"calendar.sync_events","data":{{"calendar_id":"c","last_updated_ts":"{text}"}}}}'.encode()
    assert verifier().verify(signed(body), body).data.last_updated_ts == moment


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"\xff",
        b'{"event":1}',
        b'{"event":"x","data":[]}',
        b'{"event":"calendar.update"}',
        b'{"event":"calendar.update","data":{"calendar_id":7}}',
        b'{"event":"calendar.sync_events","data":{"calendar_id":"c"}}',
        b'{"event":"calendar.sync_events","data":{"calendar_id":"c","last_updated_ts":"yesterday"}}',
        b'{"event":"calendar.sync_events","data":{"calendar_id":"c","last_updated_ts":"0001-01-01T00:00:00+23:59"}}',
        b'{"event":"bot.done","data":{"bot":{"id":"b"}}}',
        b'{"event":"bot.done","data":{"data":{"code":"done","updated_at":"2025-01-29T23:49:58Z"}}}',
        b'{"event":"recording.done","data":null}',
        b'{"event":"x","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: body[:40],
)
def test_authentic_but_not_as_documented(body):
    """An authentic delivery of a form that is not documented ends in an error that no handler expects."""
    with pytest.raises(WebhookDecodeError, match="authentic, but") as error:
        verifier().verify(signed(body), body)
    # A handler that answers 400 to what is not authentic would have its endpoint disabled.
    assert not isinstance(error.value, WebhookVerificationError)
    assert error.value.message_id == "msg_test"
    kinds = {None, "x", "calendar.update", "calendar.sync_events", "bot.done", "recording.done"}
    assert error.value.event in kinds
    assert (error.value.event is not None) or not body.startswith(b'{"event":"calendar')


SHORT = "whsec_" + base64.b64encode(b"fifteen bytes..").decode()


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_!!!", "whsec_abc", SHORT, SHORT[6:], "hello there", None, b"whsec_AAAA", 7]
)
def test_secrets_that_cannot_be(secret):
    """A secret with a typing mistake, or one that can be guessed, is noticed only when it is too late."""
    with pytest.raises(ConfigurationError, match="whsec_ and base64"):
        WebhookVerifier([SECRET, secret])
    with pytest.raises(ConfigurationError, match="whsec_ and base64"):
        sign(SYNC, secret)


def test_the_shortest_secret():
    """The limit is off by one."""
    secret = "whsec_" + base64.b64encode(b"sixteen bytes...").decode()
    assert verifier(secret).verify(signed(secret=secret), SYNC)


def test_settings_that_cannot_be():
    """A verifier without a secret, or with a tolerance that lets nothing through, is accepted."""
    for secrets in ([], (), iter([]), "", None, 7, b"whsec_AAAA"):
        with pytest.raises(ConfigurationError, match="secret"):
            WebhookVerifier(secrets)
    for tolerance in (0, -1, float("nan"), "300", True, None):
        with pytest.raises(ConfigurationError, match="tolerance"):
            WebhookVerifier(SECRET, tolerance)


def test_secrets_are_never_shown():
    """A secret stands in a log or a traceback."""
    shown = repr(verifier(SECRET, OTHER))
    with pytest.raises(ConfigurationError) as error:
        WebhookVerifier("whsec_not-a-secret-but-nearly")
    assert not re.search("not-a-secret|b25l|YW5v", shown + str(error.value))


def test_secrets_are_not_pickled():
    """The secret lies readable in a task queue. A copy is harmless."""
    verifies = verifier(SECRET)
    with pytest.raises(TypeError, match="WebhookVerifier cannot be pickled"):
        pickle.dumps(verifies)
    assert copy.copy(verifies) is copy.deepcopy(verifies) is verifies
