"""The clients that share a quota unseen, as the benchmark simulates them."""

from __future__ import annotations

import pytest

from benchmarks.crowd import CLIENTS, Backoff, Strategy, simulate
from benchmarks.oracle import Oracle

STRATEGIES = [None, Backoff(0.1, 10.0, honours=True), Oracle(0.3)]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=["ours", "backoff", "oracle"])
def test_run_follows_from_its_seed(strategy: Strategy) -> None:
    """Would reach a target in one run of the benchmark and miss it in the next."""
    first, second = (simulate(strategy, "bursts", 60, 6.0, 2, seed=1) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("left", [0.0, 0.5, 1.0])
def test_oracle_meets_only_first_429s(left: float) -> None:
    """Would call avoidable what is not, or show as the least what a client could do better."""
    crowd = simulate(Oracle(left), "Poisson", 60, 6.0, 4, seed=1, delay=0.0)
    assert 0 < crowd.rejected <= CLIENTS
    assert crowd.seconds >= (crowd.requests / 60 - 1) * 6.0
