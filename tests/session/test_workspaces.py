"""What sessions of one workspace share lives as long as it may matter, and no longer."""

from __future__ import annotations

from recall_async.workspace import MAX_RESTING, Workspaces


def test_workspaces_that_no_session_uses_are_forgotten() -> None:
    """Would keep the state of every customer that a program ever worked for, or lose what open sessions share."""
    known = Workspaces()
    used = known.join("used")
    assert known.join("used") is used
    known.leave("used")
    recent = known.join("recent")
    known.leave("recent")
    for number in range(3 * MAX_RESTING):
        known.join(f"customer {number}")
        if number == MAX_RESTING // 2:
            assert known.join("recent") is recent
            known.leave("recent")
        known.leave(f"customer {number}")
    assert known.join("used") is used
    assert len(known._known) == MAX_RESTING + 1
    assert known.join("recent") is not recent
