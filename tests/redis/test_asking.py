"""When a lane asks Redis again after it got too few slots."""

from __future__ import annotations

import math

import pytest

from recall_async import Priority
from recall_async.limits.redis.asking import ASK_AT_MOST, ASK_EVERY, AskTimes

BULK, INTERACTIVE = Priority.BULK, Priority.INTERACTIVE
NOW = 100.0


def waits(soon: float, gather: float = 0.0) -> list[float]:
    """The seconds until the next ask, many times over."""
    found = []
    for _ in range(500):
        asks = AskTimes()
        asks.unmet(BULK, NOW, soon=soon, certain=0.0, gather=gather)
        found.append(asks.ask_at[BULK] - NOW)
    return found


def test_lane_may_ask_at_once_until_it_got_too_few() -> None:
    """Would wait before the first ask, or after one that was met."""
    asks = AskTimes()
    assert all(at == -math.inf for times in (asks.not_before, asks.next_free, asks.ask_at) for at in times.values())
    asks.unmet(BULK, NOW, soon=0.5, certain=0.25)
    asks.unmet(INTERACTIVE, NOW, soon=0.5, certain=0.25)
    asks.met(BULK)
    assert (asks.not_before[BULK], asks.next_free[BULK], asks.ask_at[BULK]) == (-math.inf,) * 3
    assert (asks.not_before[INTERACTIVE], asks.next_free[INTERACTIVE]) == (NOW + 0.25, NOW + 0.5)
    assert NOW + 0.5 <= asks.ask_at[INTERACTIVE] <= NOW + 0.5 + ASK_EVERY


@pytest.mark.parametrize(
    ("soon", "gather", "least", "most"),
    [
        (0.0, 0.0, ASK_EVERY * 0.5, ASK_EVERY * 1.5),
        (0.5, 0.0, 0.5, 0.5 + 0.4 * ASK_EVERY),
        (60.0, 0.0, ASK_AT_MOST, ASK_AT_MOST + 0.4 * ASK_EVERY),
        (0.5, 2.0, 1.6, 2.0),
        (0.5, 0.1, 0.5, 0.5 + 0.4 * ASK_EVERY),
    ],
)
def test_next_ask_is_at_a_random_time_after_a_slot_can_be_free(
    soon: float, gather: float, least: float, most: float
) -> None:
    """Would ask Redis without a pause, before anything can be free, in step with the others, or after a slot was freed early
    and long ago."""
    found = waits(soon, gather)
    spread = most - least
    assert least - 1e-9 <= min(found) < least + 0.1 * spread
    assert most + 1e-9 >= max(found) > most - 0.1 * spread


def test_asks_of_a_lane_are_seldom() -> None:
    """Would cost Redis more messages than it has slots to give: at most one in a twentieth of a second, and one a second."""
    assert (ASK_EVERY, ASK_AT_MOST) == (0.05, 1.0)
