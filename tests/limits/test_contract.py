"""What lanes and calls tell each other: snapshots, and how slots end."""

from __future__ import annotations

import dataclasses
import math
import time

import pytest

from recall_async import LaneStatistics, Priority, Quota
from recall_async.limits.contract import Ending, Slot


def test_unused_operation_is_all_zeros() -> None:
    """Would show requests, waiting calls or a pause where nothing was ever sent."""
    unused = LaneStatistics(Quota(600, 60.0))
    told = dataclasses.asdict(unused)
    assert told.pop("quota")["limit"] == 600
    assert told.pop("pace") is None
    assert set(told.values()) == {0}
    assert unused.waiting == {Priority.INTERACTIVE: 0, Priority.BULK: 0}


def test_time_of_the_loop_at_which_a_pause_ends_is_deprecated() -> None:
    """Would break programs that still read it, or not tell them where."""
    with pytest.warns(DeprecationWarning, match="use paused") as caught:
        assert LaneStatistics(Quota(1)).paused_until is None
    assert caught[0].filename == __file__
    with pytest.warns(DeprecationWarning, match="use paused"):
        assert LaneStatistics(Quota(1), paused=100.0).paused_until == pytest.approx(time.monotonic() + 100.0, abs=60.0)


def test_slot_ends_once() -> None:
    """Would count a request twice, or forget how long the server may still count it."""
    ends: list[tuple[Ending, float]] = []

    def slot() -> Slot:
        return Slot(lambda slot, ending, seconds: ends.append((ending, seconds)), 5.0)

    first = slot()
    assert (first.granted_at, first.usable_until, first.number) == (5.0, math.inf, 0)
    first.answered()
    first.lost(1.0)
    first.unused()
    slot().rejected(3.0)
    slot().lost(7.0)
    slot().unused()
    assert ends == [(Ending.ANSWERED, 0.0), (Ending.REJECTED, 3.0), (Ending.LOST, 7.0), (Ending.UNUSED, 0.0)]
