"""Measuring candidates in turns, so that what disturbs the machine disturbs all of them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from random import Random


def interleaved(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, list[float]]:
    """Seconds on `clock` of each candidate in each round. The order is drawn anew for each; one round warms up.

    A candidate does enough work to take milliseconds at the least. Garbage is collected before its turn, not in it,
    except for what it makes itself.
    """
    order = list(candidates)
    taken: dict[str, list[float]] = {name: [] for name in candidates}
    random = Random(1)
    for number in range(-1, rounds):
        random.shuffle(order)
        for name in order:
            gc.collect()
            began = clock()
            candidates[name]()
            seconds = clock() - began
            if number >= 0:
                taken[name].append(seconds)
    return taken


def medians(taken: Mapping[str, list[float]]) -> dict[str, float]:
    """The median of each candidate's rounds."""
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of `values` lie; the largest one there is, not one in between."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
