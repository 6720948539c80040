"""Verdicts on figures that differ from run to run."""

from __future__ import annotations

from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.report import Target, judged, targets_table
from benchmarks.rounds import Figure, figure

VALUES = st.lists(st.floats(0.5, 2.0), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("count", "low", "high"),
    # As in tables of the sign test, for a confidence of 95 % or the most that so few values allow.
    [
        (1, 1, 1),
        (3, 1, 3),
        (5, 1, 5),
        (6, 1, 6),
        (8, 1, 8),
        (9, 2, 8),
        (12, 3, 10),
        (20, 6, 15),
        (30, 10, 21),
        (40, 14, 27),
    ],
)
def test_interval_is_that_of_the_sign_test(count: int, low: int, high: int) -> None:
    """Would call a figure certain that another run contradicts, or one uncertain that none does."""
    found = figure(reversed(range(1, count + 1)))
    assert found == Figure((count + 1) / 2, low, high)


@given(VALUES)
def test_clear_hit_is_reached_and_clear_miss_is_missed(values: list[float]) -> None:
    """Would make less of a figure that always reaches its target, or more of one that never does."""
    found = [figure(values)]
    assert (
        judged("", found, at_most=max(values)).verdict == judged("", found, at_least=min(values)).verdict == "reached"
    )
    assert judged("", found, at_most=min(values) - 0.01).verdict == "**missed**"
    assert judged("", found, at_least=max(values) + 0.01).verdict == "**missed**"


@given(VALUES, st.floats(0.5, 2.0))
def test_edge_is_where_the_interval_contains_the_target(values: list[float], target: float) -> None:
    """Would call a figure reached whose median misses, or missed whose median reaches."""
    found = figure(values)
    assert found.low <= found.value == median(values) <= found.high
    for judgement, wrong in (
        (judged("", [found], at_most=target), found.value > target),
        (judged("", [found], at_least=target), found.value < target),
    ):
        assert judgement.verdict != ("reached" if wrong else "**missed**")
        assert bool(judgement.edge) is (judgement.verdict not in ("reached", "**missed**"))
        assert not judgement.edge or found.low <= target <= found.high


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ([Figure(1.1, 1.0, 1.2), Figure(1.2, 1.1, 1.3)], "reached"),
        ([Figure(1.1, 1.0, 1.2), Figure(1.4, 1.2, 1.6)], "**on the edge**: 1.00 × to 1.20 × and 1.20 × to 1.60 ×"),
        ([Figure(1.7, 1.6, 1.8), Figure(1.4, 1.2, 1.6)], "**missed**"),
        ([Figure(1.1, 1.0, 1.2), Figure(1.7, 1.6, 1.8)], "**missed**"),
    ],
)
def test_the_worst_figure_decides(figures: list[Figure], verdict: str) -> None:
    """Would hide a figure that misses behind one that is on the edge or reaches."""
    assert judged("≤ 1.5 ×", figures, at_most=1.5).verdict == verdict


def test_table_shows_verdicts() -> None:
    """Would show what is on the edge as reached or missed."""
    targets = [
        judged("a", [Figure(1.49, 1.47, 1.53)], at_most=1.5),
        Target("b", "0", reached=True),
        Target("c", "1", reached=False),
    ]
    assert [row[-1] for row in targets_table(targets).rows] == [
        "**on the edge**: 1.47 × to 1.53 ×",
        "reached",
        "**missed**",
    ]
