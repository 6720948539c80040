"""Authentic deliveries of any JSON: they are read, or raise the one error that handlers expect."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async import WebhookDecodeError, WebhookEvent
from recall_async.webhooks import WebhookVerifier, sign
from tests.webhooks.test_kinds import KINDS, SECRET

NAMES = st.sampled_from(
    ["bot", "data", "recording", "transcript", "id", "metadata", "code", "sub_code", "updated_at", "calendar_id",
     "last_updated_ts", "bot_id", "status", "created_at", "log", "level", "message"]
)  # fmt: skip
TIMES = ("2025-06-10T18:54:18Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2025-W01-1", "\ud83d")
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(TIMES)
)  # fmt: skip
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=12
)


def read(body: bytes) -> WebhookEvent | WebhookDecodeError:
    """What the verifier makes of an authentic delivery; any other error goes on."""
    try:
        return WebhookVerifier(SECRET).verify(sign(body, SECRET), body)
    except WebhookDecodeError as error:
        return error


def check(document: Any) -> None:
    result = read(json.dumps(document).encode())
    assert str(result).isprintable()
    assert isinstance(result, WebhookEvent) or len(str(result)) < 500


@given(kind=st.sampled_from(sorted(KINDS)) | st.text(max_size=5), data=DOCUMENTS)
@settings(max_examples=300, deadline=None)
def test_any_payload(kind: str, data: Any) -> None:
    """Some payload of a known kind ends in an error that no handler expects."""
    check({"event": kind, "data": data})


@given(kind=st.sampled_from(sorted(KINDS)), path=st.lists(NAMES, min_size=1, max_size=3), value=DOCUMENTS)
@settings(max_examples=300, deadline=None)
def test_a_documented_payload_with_one_odd_part(kind: str, path: list[str], value: Any) -> None:
    """One odd part of a documented payload ends in an error that no handler expects."""
    document = json.loads(json.dumps(KINDS[kind]["example"]))
    part = document["data"]
    for name in path[:-1]:
        if isinstance(part.get(name), dict):
            part = part[name]
    part[path[-1]] = value
    check(document)


@given(body=st.binary(max_size=60))
def test_any_bytes(body: bytes) -> None:
    """Bytes that are no JSON end in an error that no handler expects."""
    result = read(body)
    assert isinstance(result, WebhookEvent) or result.message_id == "msg_test"
