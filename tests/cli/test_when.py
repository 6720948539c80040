"""Moments as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

from recall_async.cli.numbers import Number
from recall_async.cli.removals import Limit, _MaxRemovals
from recall_async.cli.when import When, _moment

NOW = datetime(2026, 11, 26, 18, 30, 15, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-27", "2026-11-27T00:00:00Z"),
        ("today", "2026-11-26T00:00:00Z"),
        ("tomorrow", "2026-11-27T00:00:00Z"),
        ("yesterday", "2026-11-25T00:00:00Z"),
        ("2025-06-10T18:54:00Z", "2025-06-10T18:54:00Z"),
        ("2025-06-10T18:54:00+02:00", "2025-06-10T16:54:00Z"),
        ("2025-06-10T18:54:00", "2025-06-10T18:54:00Z"),
        ("2025-06-10 18:54", "2025-06-10T18:54:00Z"),
        ("2025-06-10T18:54Z", "2025-06-10T18:54:00Z"),
        ("2025-10-26T02:30+02:00", "2025-10-26T00:30:00Z"),
    ],
)
def test_moments(text: str, meant: str) -> None:
    """A date would be refused, or taken for another moment."""
    assert _moment(text, NOW, end=False) == datetime.fromisoformat(meant)


@pytest.mark.parametrize(
    ("text", "distance"),
    [("now", 0), ("+2d", 2 * 86400), ("-3h", -3 * 3600), ("+30m", 1800), ("+1w", 7 * 86400), ("+5s", 5)],
)
@pytest.mark.parametrize("end", [False, True])
def test_distances_from_now(text: str, distance: float, end: bool) -> None:
    """A distance would be counted from midnight, or in another unit."""
    assert _moment(text, NOW, end=end) == NOW + timedelta(seconds=distance)


def test_a_day_as_an_end_includes_it() -> None:
    """`--from tomorrow --to tomorrow` would list nothing."""
    assert _moment("tomorrow", NOW, end=True) == datetime(2026, 11, 27, 23, 59, 59, 999999, tzinfo=UTC)
    assert _moment("2026-11-27", NOW, end=True) == datetime(2026, 11, 27, 23, 59, 59, 999999, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-13-01", "2026-02-30", "+2", "+2y", "27.11.2026", "+999999w", "-999999w"]
)
def test_what_is_no_moment(text: str) -> None:
    """A typing error would be sent to the API, or end in a traceback."""
    with pytest.raises(click.BadParameter, match=r"must be a time such as 2026-11-27, tomorrow, \+2d"):
        When().convert(text, None, None)


@pytest.mark.recall_sandbox(events=5)
@pytest.mark.parametrize("command", ["events", "bots", "actions"])
def test_range_without_a_moment(run, command: str) -> None:
    """An empty list, with exit status 0, would look as if there were no events."""
    refused = run(command, "--from", "+2d", "--to", "-1h")
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--to must be after --from, got 2" in refused.stderr
    for same in ("now", "today", "+1h", "2026-11-27T18:30:00Z"):
        assert run(command, "--to", same, "--from", same).exit_code == 0


def test_options_that_have_their_values_already() -> None:
    """Would take a value that click converted before, such as a default, for a text."""
    moment, limit = datetime(2031, 5, 1, tzinfo=UTC), Limit(10, 5.0)
    assert When().convert(moment, None, None) is moment
    assert _MaxRemovals().convert(limit, None, None) is limit


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        (Number(0.0), "many", "must be a number of at least 0, got 'many'"),
        (Number(), "nan", "must be a number, got 'nan'"),
        (Number(), "-inf", "must be a finite number, got '-inf'"),
        (Number(1.0, 2.0), "2.5", "must be a number from 1 to 2, got '2.5'"),
        (Number(above=0.0), "0", "must be a number above 0, got '0'"),
    ],
)
def test_what_is_no_number(kind: Number, text: str, told: str) -> None:
    """Would let a rate through that is none, or not say what is allowed."""
    with pytest.raises(click.BadParameter) as caught:
        kind.convert(text, None, None)
    assert caught.value.message == told
    assert Number(endless=True).convert("inf", None, None) == float("inf")
