"""The words of the commands to Redis, and what the replies mean: plain values, without Redis."""

from __future__ import annotations

import hashlib
from struct import pack
from typing import Any
from unittest.mock import ANY

import pytest

from recall_async import ConfigurationError, Priority, Quota
from recall_async.limits import pace, promise
from recall_async.limits.contract import Ending
from recall_async.limits.redis.scripts import (
    ACQUIRE,
    MARK,
    PAUSE,
    RESUME,
    SETTLE,
    STATE_TTL,
    USAGE,
    Ask,
    Ended,
    Keys,
    Pause,
    Script,
    Terms,
    _parts,
    acquire,
    decode,
    decode_usage,
    mark,
    microseconds,
    pause,
    resume,
    settle,
    usage,
)
from tests.redis.words import asked

KEYS = Keys("p", "w/ä{}", "o")
STEM = "p:{w%2F%C3%A4%7B%7D/o}"
QUOTA = Quota(100, 60.0, burst=20, reserve=10)
PER = 60_060_000
TTL = 24 * 3600 * 1_000_000


def terms(*, hold_new: bool = False) -> Terms:
    return Terms.of(QUOTA, 0, 30.0, hold_new=hold_new)


def test_keys_of_a_quota_are_on_one_node() -> None:
    """Would spread a quota over the nodes of a cluster, or mix two workspaces whose names differ in a brace or a slash."""
    assert KEYS.stem == STEM
    assert (KEYS.slots, KEYS.state, KEYS.fences, KEYS.shares, KEYS.promise) == tuple(
        f"{STEM}:{name}" for name in ("slots", "state", "fences", "shares", "promise")
    )


def test_moments_are_rounded_up_to_microseconds() -> None:
    """Would free a slot a moment before its window is over."""
    assert [microseconds(seconds) for seconds in (0.0, 1e-7, 1.0, 1.0000001)] == [0, 1, 1_000_000, 1_000_001]


def test_terms_of_a_quota() -> None:
    """Would grant what is set aside, by another burst, or with leases that are too short."""
    assert (
        Terms(
            limit=100,
            reserve=10,
            burst=QUOTA.at_once(Priority.INTERACTIVE),
            burst_bulk=QUOTA.at_once(Priority.BULK),
            promised=QUOTA.promised,
            promised_at_most=QUOTA.promised_at_most,
            per=PER,
            lease=30_000_000 + 5_000_000 + PER,
        )
        == terms()
    )
    assert terms().text == f"100/{PER}"
    assert terms(hold_new=True).hold_new
    small = Terms.of(QUOTA, 95, 30.0)
    assert not small.hold_new
    assert (small.limit, small.reserve, small.burst) == (5, 4, 5)
    free = Terms.of(Quota(100, 60.0), 10, 30.0)
    assert free.limit == 90
    assert free.burst == Quota(90, 60.0, None, free.reserve).at_once(Priority.INTERACTIVE)
    last = Terms.of(QUOTA, 99, 30.0)
    assert (last.limit, last.reserve) == (1, 0)
    with pytest.raises(ConfigurationError, match="take 100 of 100 requests, which leaves nothing to share"):
        Terms.of(QUOTA, 100, 30.0)


def test_words_of_an_ask() -> None:
    """Would put a number where the script reads another one: grant slots that nobody asked for, or free those in use."""
    ended = [Ended(7, Ending.ANSWERED, 8.5), Ended(9, Ending.UNUSED, 10.0)]
    said = acquire(
        KEYS,
        "client",
        3,
        Ask(11, 2, 4, 0.0, 1),
        again=True,
        run="run",
        epoch="1-a/run",
        age=1.5,
        terms=terms(),
        ended=ended,
        now=10.0,
    )
    assert said.script is ACQUIRE
    assert said.keys == (KEYS.slots, KEYS.state, KEYS.fences, KEYS.shares, KEYS.promise)
    assert said.arguments == (
        "client",
        pack(
            *("<dddddddd?", 100, 10, terms().burst, terms().burst_bulk),
            *(terms().promised, terms().promised_at_most, PER, terms().lease, False),
        ),
        pack("<dddddd?", 3, 11, 2, 4, 1, 1_500_000, True),
        pack("<dBddBd", 7, 1, 1_500_000, 9, 3, 0),
        f"1-a/run 100/{PER}",
    )
    ended = [Ended(7, Ending.ANSWERED, -2.0)]
    held = terms(hold_new=True)
    fresh = acquire(KEYS, "c", 0, Ask(0, 0, 0, 0.0), again=False, run="r", epoch="", age=0.0, terms=held, ended=ended)
    assert asked(fresh) == ("c", 0, 0, 0, 0, 0, 0, False, [(7, Ending.ANSWERED, 2_000_000)], "", f"100/{PER}", "r", ANY)
    assert asked(fresh).terms[-1] is True


@pytest.mark.parametrize(
    ("epoch", "named"), [("1-a/run", ()), ("1-a/other", ("run",)), ("1-a/no-run", ("run",)), ("", ("run",))]
)
def test_ask_leaves_out_a_run_that_its_epoch_names(epoch: str, named: tuple[str, ...]) -> None:
    """Would take a restarted server for the one that named the epoch, and grant slots that it has lost."""
    said = acquire(KEYS, "c", 1, Ask(0, 1, 0, 0.0), again=False, run="run", epoch=epoch, age=0.0, terms=terms())
    assert said.arguments[5:] == named
    assert asked(said).run == "run"


def test_words_of_the_other_commands() -> None:
    """Would free slots of the wrong age, or pause the quota for another time than the API asked for."""
    report = settle(KEYS, "client", [Ended(7, Ending.REJECTED, 8.0)], 10.0, terms())
    assert report == (SETTLE, (KEYS.slots, KEYS.state, KEYS.promise), ("client", PER, pack("<dBd", 7, 2, 2_000_000)))
    asked = pause(KEYS, Pause(7.5, 8.0, 123, 0.25), 10.0, terms())
    assert asked == (PAUSE, (KEYS.slots, KEYS.state), (7_500_000, 2_000_000, 123, 100, PER, "0.250000"))
    assert usage(KEYS) == (USAGE, (KEYS.slots, KEYS.state), ())
    assert resume(KEYS) == (RESUME, (KEYS.slots, KEYS.state), ())
    first, second = mark("life"), mark("life")
    assert first[:2] == (MARK, ("life",))
    assert first.arguments != second.arguments  # each names a life of its own
    assert STATE_TTL == 24 * 3600.0
    assert str(TTL) in ACQUIRE.text
    assert str(TTL) in PAUSE.text


@pytest.mark.parametrize("form", [bytes, str])
def test_reply_to_an_ask(form: type) -> None:
    """Would take one number of a reply for another, or fail with a client that decodes replies."""

    def said(text: str) -> Any:
        return text if form is str else text.encode()

    numbers = (2, 4, 50, 6, 7, 8, 9, 10, 11, 12)
    grant = decode(said("2 4 50 6 7 8 9 10 11 12 2500 1-a/run 10/60060000"), "2-b/run", terms())
    assert grant is not None
    assert grant == (*numbers, 2.5, "1-a/run", "10/60060000")
    assert (grant.interactive, grant.bulk, grant.now, grant.taken) == (2, 4, 50, 6)
    assert (grant.soon_interactive, grant.certain_interactive, grant.soon_bulk, grant.certain_bulk) == (7, 8, 9, 10)
    assert (grant.paused, grant.held, grant.pace) == (11, 12, 2.5)
    for rate, shown in ((-1, None), (0, 0.0), (1, 0.001)):
        grant = decode(said(f"0 0 50 6 7 8 9 10 11 12 {rate} 1-a/run of spaces 10/60060000"), "2-b/run", terms())
        assert grant is not None
        assert (grant.pace, grant.epoch) == (shown, "1-a/run of spaces")
    assert decode(-1, "", terms()) is None


def test_short_reply_confirms_what_the_ask_named() -> None:
    """Would warn of another quota, forget the epoch, or wait, because Redis left out what has not changed."""
    assert decode(b"2 4 50 6", "2-b/run", terms()) == (2, 4, 50, 6, 0, 0, 0, 0, 0, 0, None, "2-b/run", f"100/{PER}")


@pytest.mark.parametrize("form", [bytes, str])
def test_reply_to_a_usage(form: type) -> None:
    """Would show the window with the tolerance of clocks, or a quota for one that nobody used."""

    def said(text: str) -> Any:
        return text if form is str else text.encode()

    assert decode_usage([1, 2, 3, 4, 500, said("10/30030000")]) == (1, 2, 3, 4, 0.5, 10, 30.0)
    assert decode_usage([1, 2, 3, 4, 0, said("10/30030000")]).pace == 0.0
    assert decode_usage([1, 0, 0, 0, -1, said("")]) == (1, 0, 0, 0, None, 0, 0.0)
    assert decode_usage([1, 0, 0, 0, -1, said("7/333667")]).per == 0.333334


@pytest.mark.parametrize("script", [ACQUIRE, SETTLE, PAUSE, USAGE, MARK, RESUME])
def test_scripts_are_whole_and_named_by_their_text(script: Any) -> None:
    """Would send a script with a gap in it, or by a name under which Redis has another one."""
    names = {*dir(pace), *dir(promise), "TOLERANCE", "WINDOW"}
    assert not any(f"<{name}>" in script.text for name in names if name.isupper())
    assert script.sha == hashlib.sha1(script.text.encode(), usedforsecurity=False).hexdigest()


def test_scripts_are_named_where_sha1_is_only_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Would fail at import on a host with FIPS, where OpenSSL has SHA-1 only for what is no matter of security."""
    sha1 = hashlib.sha1

    def strict(text: bytes = b"", *, usedforsecurity: bool = True) -> Any:
        if usedforsecurity:
            raise ValueError("[digital envelope routines] unsupported")
        return sha1(text, usedforsecurity=False)

    monkeypatch.setattr(hashlib, "sha1", strict)
    assert Script("acquire").sha == ACQUIRE.sha


def test_parts_and_constants_are_put_into_a_script() -> None:
    """Would run a script with a part of another name, a part missing, or another window than that of the local lane."""
    assert _parts("-- head\n--- one\nfirst\n\n--- two\nsecond\n") == {"one": "first", "two": "second"}
    anew = Script("acquire")
    assert (anew.text, anew.sha) == (ACQUIRE.text, ACQUIRE.sha)
    assert "60060000" in ACQUIRE.text
