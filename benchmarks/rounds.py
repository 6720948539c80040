"""Measuring in turns, so that what disturbs the machine disturbs everybody alike."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def turns(subjects: Iterable[T], rounds: int) -> Iterator[tuple[T, bool]]:
    """Whose turn it is, and whether it counts: everybody's once in each round, in an order that is drawn anew.

    One round more comes first, to warm up, and does not count. A turn begins with no garbage left to collect.
    """
    order, random = list(subjects), Random(1)
    for number in range(rounds + 1):
        random.shuffle(order)
        for subject in order:
            gc.collect()
            yield subject, number > 0


def ratio(values: Sequence[float], to: Sequence[float]) -> float:
    """The median of the rounds' ratios: what slows the machine down for a while slows both down in its rounds."""
    return statistics.median(value / other for value, other in zip(values, to, strict=True))


def quantile(values: list[float], share: float) -> float:
    """The value below which `share` of `values` lie; the largest one there is, not one in between."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
