"""Documents that break the standard become readable, and those that keep to it stay as they are."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recall_async.lenient import MAX_DEPTH, in_utc, repaired

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_what_is_right_stays(value: Any, ascii: bool, indent: int | None) -> None:
    """A repair would change what nobody complained of."""
    written = json.dumps(value, ensure_ascii=ascii, indent=indent).encode()
    assert msgspec.json.decode(repaired(written)) == msgspec.json.decode(written)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (rb'["Team \ud83d"]', ["Team \ufffd"]),
        (rb'["\udc00\ud83d\ude00\ud83d"]', ["\ufffd\U0001f600\ufffd"]),
        (rb'["\\ud83d"]', ["\\ud83d"]),
        (rb'{"\ud83d": 1}', {"\ufffd": 1}),
        (b'["\xed\xa0\xbd"]', ["\ufffd" * 3]),
        (b"[NaN, Infinity, -Infinity, 1e999, -1e999, nan, undefined]", [None] * 7),
        (b'["a\nb\x00\tc"]', ["a\nb\x00\tc"]),
        (rb'["\d \x41"]', [r"\d \x41"]),
        (b"[01, 1., .5, +1]", [None] * 4),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
    ],
)
def test_known_oddities(wrong: bytes, right: Any) -> None:
    """One character or number would make a whole document unreadable."""
    assert msgspec.json.decode(repaired(wrong)) == right


def test_what_is_nested_too_deep() -> None:
    """A payload that is nested a thousand times would make a page unreadable."""
    deep: Any = msgspec.json.decode(repaired(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b',"b":1}'))
    assert deep["b"] == 1
    depth = 0
    inner = deep["a"]
    while inner:
        inner, depth = inner[0], depth + 1
    assert depth < MAX_DEPTH


@given(values, st.integers(1))
def test_a_truncated_document_stays_one(value: Any, cut: int) -> None:
    """Half a list would be read as the whole."""
    written = json.dumps([value]).encode()
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(repaired(written[: -(cut % len(written)) or -1]))


@given(st.binary() | st.text(alphabet='"\\u{}[]d8,:01nNae \n').map(str.encode))
def test_anything_can_be_repaired_without_an_error(body: bytes) -> None:
    """A hostile answer would raise something foreign."""
    repaired(body)


@pytest.mark.parametrize("piece", [b'"', b'"\\', b"[", b"\\ud83d", b"a.", b"1", b'["', b'{"a":'])
def test_hostile_documents_take_linear_time(piece: bytes) -> None:
    """A small answer would stop the event loop for minutes."""
    begun = time.process_time()
    repaired(piece * 200_000)
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("hours", [-14, -1, 0, 1, 14])
def test_times_at_the_ends_of_the_calendar(hours: int) -> None:
    """Programs write "never" as the first or the last year, in their own time zone: an OverflowError in UTC."""
    zone = timezone(timedelta(hours=hours))
    first, last = datetime.min.replace(tzinfo=zone), datetime.max.replace(tzinfo=zone)
    assert in_utc(first) == (datetime.min.replace(tzinfo=UTC) if hours >= 0 else first)
    assert in_utc(last) == (datetime.max.replace(tzinfo=UTC) if hours <= 0 else last)
    assert in_utc(first).tzinfo is in_utc(last).tzinfo is UTC
