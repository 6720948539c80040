"""Measuring in turns, so that what disturbs the machine disturbs everybody alike."""

from __future__ import annotations

import gc
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from random import Random
from typing import NamedTuple, TypeVar

T = TypeVar("T")

CONFIDENCE = 0.95
INTERPRETERS = 6
"""How many measure the same, one after the other: the fewest whose range is an interval of that confidence. Each has its
own seed of hashes and layout of memory, which make one a few percent slower than the next throughout."""


class Figure(NamedTuple):
    """A median, and the interval in which it lies with a confidence of 95 %."""

    value: float
    low: float
    high: float


def figure(values: Iterable[float]) -> Figure:
    """The median of independent measurements and its interval, which is that of the sign test.

    It assumes nothing about how the values are distributed: as many of them lie below the true median as heads fall when a
    coin is thrown for each. Of fewer than six values it is the whole range.
    """
    ordered = sorted(values)
    count = len(ordered)
    outside, inner = 0.0, 0
    while True:
        outside += 2 * math.comb(count, inner) / 2**count
        if outside > 1 - CONFIDENCE:
            break
        inner += 1
    place = max(inner - 1, 0)
    return Figure(statistics.median(ordered), ordered[place], ordered[count - 1 - place])


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
