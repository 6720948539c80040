"""Moments as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest

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
