"""Actions and outcomes as values, and when a meeting is over."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from recall_async import NotFoundError, Outcome, RemoveBot, ScheduleBot
from recall_async.bulk.actions import Action, over_since

NOW = datetime(2031, 5, 1, 12, 0, tzinfo=UTC)
EVENT = "2f3d2b1e-6c57-4bd5-a5d0-0c8f0f4e3a11"


def test_positions_of_the_arguments() -> None:
    """Would break programs that pass the documented arguments by position."""
    action = ScheduleBot(EVENT, "key", {"bot_name": "Notes"}, NOW)
    assert (action.event_id, action.deduplication_key, action.bot_config, action.start_time) == (
        EVENT,
        "key",
        {"bot_name": "Notes"},
        NOW,
    )
    assert ScheduleBot(UUID(EVENT), "key").bot_config == {}
    assert RemoveBot(EVENT, NOW).start_time == NOW
    outcome = Outcome(action, None, None, 1, 0.5)
    assert (outcome.action, outcome.attempts, outcome.waited, outcome.resumed) == (action, 1, 0.5, False)


def test_actions_cannot_be_changed() -> None:
    """Would let an action change between the check and the request."""
    with pytest.raises(AttributeError):
        ScheduleBot(EVENT, "key").deduplication_key = "other"  # type: ignore[misc]


def test_configurations_are_not_shared() -> None:
    """Would put what is written into one action's default configuration into all others'."""
    ScheduleBot(EVENT, "key").bot_config["bot_name"] = "Notes"  # type: ignore[index]
    assert ScheduleBot(EVENT, "key").bot_config == {}


def test_status_of_outcomes() -> None:
    """Would count what the API refused as done, or what needed no bot as failed."""
    action = RemoveBot(EVENT)
    assert Outcome(action, None, None, 1, 0.0).status == "done"
    assert Outcome(action, None, NotFoundError("no"), 1, 0.0).status == "failed"
    assert Outcome(action, None, NotFoundError("no"), 1, 0.0, "over").status == "skipped"


@pytest.mark.parametrize(
    ("start", "end", "over"),
    [
        (None, None, False),
        (timedelta(minutes=5), None, False),
        (timedelta(minutes=-59), None, False),
        (timedelta(hours=-1), None, True),
        (timedelta(days=-1), None, True),
        (timedelta(hours=-5), timedelta(minutes=1), False),
        (timedelta(minutes=-30), timedelta(0), True),
        (None, timedelta(minutes=-1), True),
        (None, timedelta(minutes=1), False),
    ],
)
@pytest.mark.parametrize("as_text", [True, False])
def test_when_a_meeting_is_over(start: timedelta | None, end: timedelta | None, over: bool, as_text: bool) -> None:
    """Would send bots to meetings that are over, or none to one that goes on."""

    def time(offset: timedelta | None) -> datetime | str | None:
        when = None if offset is None else NOW + offset
        return when.isoformat() if when is not None and as_text else when

    actions: tuple[Action, ...] = (
        ScheduleBot(EVENT, "key", {}, time(start), time(end)),
        RemoveBot(EVENT, time(start), time(end)),
    )
    for action in actions:
        assert (over_since(action, NOW.timestamp()) is not None) is over
