"""Deliveries: authentic ones verify in every form of headers, others never do, and nothing foreign is raised."""

from __future__ import annotations

from typing import Any

from recall_async.errors import WebhookDecodeError, WebhookVerificationError
from recall_async.webhooks import WebhookVerifier, sign
from tests.fuzz.inputs import check_message
from tests.fuzz.inputs import webhooks as deliveries

SECRETS = ("whsec_c2FuZGJveC13ZWJob29rLXNlY3JldC0yNGI=", "whsec_b3RoZXItc2VjcmV0LW9mLTI0LWJ5dGVzIQ==")
NOW = 1_750_000_000
_VERIFIER = WebhookVerifier(SECRETS, clock=lambda: NOW)
_OTHER = WebhookVerifier("whsec_dGhpcmQtc2VjcmV0LW9mLTI0LWJ5dGVzISE=", clock=lambda: NOW)


def seeds() -> list[bytes]:
    """Every documented delivery, in some form of headers."""
    return [bytes([number % 8, number % 7, 3]) + body for number, body in enumerate(deliveries())] + [
        b"\x08\x00\x00webhook-id: a\nwebhook-timestamp: 1750000000\nwebhook-signature: v1,AAAA v1a,x\n\n{}",
        b"\x08\x00\x00svix-id: a\nsvix-timestamp: 1750000000\nsvix-signature: v1,a,v1,b\n\n{}",
    ]


def check(data: bytes) -> None:
    """Verify a delivery. The first bytes choose the form of its headers; form 8 takes them from `data`."""
    form, variant, secret = (*data[:3], 0, 0, 0)[:3]
    rest = data[3:]
    if form % 9 == 8:
        head, _, body = rest.partition(b"\n\n")
        headers: Any = [tuple(line.partition(b": ")[::2]) for line in head.split(b"\n")]
        try:
            _OTHER.verify(headers if variant % 2 else dict(headers), body)
        except WebhookVerificationError as error:
            check_message(error)
            return
        raise AssertionError("a delivery that nobody signed was verified")
    prefix = "svix" if variant & 1 else "webhook"
    signed = sign(rest, SECRETS[secret % 2], message_id="msg_1", timestamp=NOW, prefix=prefix)  # type: ignore[arg-type]
    foreign = sign(rest, "whsec_dGhpcmQtc2VjcmV0LW9mLTI0LWJ5dGVzISE=", message_id="msg_1", timestamp=NOW)
    name = f"{prefix}-signature"
    both = [foreign["webhook-signature"], "v1a,abc", signed[name]]
    signed[name] = " ".join(both if variant & 2 else reversed(both))
    headers = written(signed, form % 9, upper=bool(variant & 4))
    try:
        event = _VERIFIER.verify(headers, rest)
        assert event.id == "msg_1"
        repr(event)
    except WebhookDecodeError as error:
        check_message(error)
    try:
        _OTHER.verify(headers, rest + b" ")
    except WebhookVerificationError as error:
        check_message(error)
    else:
        raise AssertionError("a delivery with another body was verified")


def written(headers: dict[str, str], form: int, *, upper: bool) -> Any:
    """Headers as a framework gives them."""
    named = {name.title() if upper else name: value for name, value in headers.items()}
    match form:
        case 0:
            return named
        case 1:
            return {name.encode(): value.encode() for name, value in named.items()}
        case 2:
            return {name: [value] for name, value in named.items()}
        case 3:
            return [(name.encode(), value.encode()) for name, value in named.items()]
        case 4:
            return {name: value.split(",") for name, value in named.items()}
        case 5:
            return {"HTTP_" + name.upper().replace("-", "_"): value for name, value in named.items()}
        case 6:
            return [[name, part] for name, value in named.items() for part in value.split(" ")]
        case _:
            return {"x-other": "1", **{name: bytearray(value.encode()) for name, value in named.items()}}
