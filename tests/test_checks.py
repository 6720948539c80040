"""What a refusal says, and what it must not say."""

from __future__ import annotations

import math
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recall_async import ConfigurationError, checks, errors
from recall_async.secrecy import Secret


class Rude:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("boo\nboo")


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: checks.whole("n", True, at_least=1), "n must be a whole number of at least 1, got True"),
        (lambda: checks.whole("n", 1.0), "n must be a whole number, got 1.0"),
        (lambda: checks.whole("n", 9, at_least=0, at_most=5), "n must be a whole number from 0 to 5, got 9"),
        (lambda: checks.number("n", math.nan), "n must be a finite number, got nan"),
        (lambda: checks.number("n", 10**400, at_least=0), "n must be a finite number of at least 0, got 1000"),
        (lambda: checks.seconds("t", 0), "t must be a number of seconds above 0, got 0"),
        (lambda: checks.seconds("t", -1, zero=True), "t must be a number of seconds of at least 0, got -1"),
        (lambda: checks.seconds("t", math.inf), "t must be a number of seconds above 0, got inf"),
        (lambda: checks.seconds("t", 10**400), "t must be a number of seconds of at most 1e+09, got 1000"),
        (lambda: checks.text("s", b"x"), "s must be a string, got b'x'"),
        (lambda: checks.text("s", b"secret", secret=True), "s must be a string, got bytes"),
        (lambda: checks.text("s", " "), "s must not be empty"),
        (
            lambda: checks.text("s", "a\ud83d"),
            "s must be a string that UTF-8 can encode, got a lone surrogate at position 1",
        ),
        (lambda: checks.text("s", "abc", at_most=2), "s must have at most 2 characters, got 3"),
        (lambda: checks.flag("b", 1), "b must be True or False, got 1"),
        (lambda: checks.uuid("id", "x"), "id must be a UUID, got 'x'"),
        (lambda: checks.moment("t", datetime(2030, 1, 1)), "t must have a time zone, got datetime"),
        (lambda: checks.moment("t", "soon"), "t must be a time such as 2025-06-10T18:54:18Z, got 'soon'"),
        (lambda: checks.one_of("c", "x", ("a", "b")), "c must be one of a, b, got 'x'"),
        (lambda: checks.instance("o", Rude(), int, "an int"), "o must be an int, got <Rude"),
        (lambda: checks.backoff("b", -1, 2), "b must be a number of seconds of at least 0, got -1"),
        (lambda: checks.backoff("b", 1, "x"), "b_cap must be a number of seconds of at least 0, got 'x'"),
    ],
)
def test_one_template(check, message: str) -> None:
    """Each module would tell in its own way what is wrong, or raise something foreign."""
    with pytest.raises(ConfigurationError) as refused:
        check()
    assert str(refused.value).startswith(message)


@given(st.text() | st.binary() | st.dictionaries(st.text(), st.text() | st.floats()) | st.integers(10**5000))
def test_values_are_shown_in_one_short_line(value: object) -> None:
    """A value of megabytes, or with line breaks and terminal commands, would end up in a log as it is."""
    for nested in (value, [value], {"a": [value] * 99}):
        shown = checks.shown(nested)
        assert len(shown) <= checks.MAX_SHOWN
        assert shown.isprintable()


def test_secrets_are_not_shown() -> None:
    """A key in the wrong place would be printed by the complaint about it."""
    for value in (Secret("sesame"), [Secret("sesame")], {"key": Secret("sesame")}):
        assert "sesame" not in str(checks.invalid("x", "a number", value))


@given(st.floats(0, 100), st.floats(0, 100), st.integers(1, 10**6), st.floats(0, 1))
def test_backoff_doubles_up_to_its_cap(first: float, cap: float, failures: int, jitter: float) -> None:
    """A wait would overflow after many failures, be jittered beyond its cap, or be shorter than half of it."""
    delay = checks.Backoff(first, cap).delay(failures, jitter)
    full = min(cap, first * 2.0 ** min(failures - 1, 64))
    assert full / 2 <= delay <= full


def test_what_an_error_means_for_a_job() -> None:
    """A job would give up what another try would have done, or burn every action on an error that all of them meet."""
    tree = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert {name for name, kind in tree.items() if kind.stops_jobs} == {
        "AuthenticationError", "SessionClosedError", "JournalError", "ServerUnavailableError",
    }  # fmt: skip
    assert {name for name, kind in tree.items() if kind.may_pass} == {
        "ConflictError", "RateLimitedError", "BotPoolExhaustedError", "ServerError", "ConnectionFailedError",
        "AttemptTimeoutError", "DeadlineExceededError", "QuotaStoreUnavailableError", "ServerUnavailableError",
    }  # fmt: skip
