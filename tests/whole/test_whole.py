"""The whole client in virtual time: whatever happens on the way, it keeps its word. See `tests.whole.run`."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.whole.day import live
from tests.whole.run import run

QUICK = range(1, 121)
SLOW = range(1_000, 2_200)


def complaints_of(seeds: range) -> list[str]:
    """What is wrong with these runs, each with the line that runs it again."""
    found = []
    for seed in seeds:
        complaints = run(seed).complaints
        if complaints:
            found.append(f"python -m tests.whole.run {seed}: {'; '.join(complaints[:3])}")
    return found


def test_the_client_keeps_its_word() -> None:
    """Would overrun a quota, lose an outcome or a slot, hang, or tell what is not so."""
    assert complaints_of(QUICK) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(4))
def test_the_client_keeps_its_word_in_many_runs(part: int) -> None:
    """Would do it rarely."""
    size = len(SLOW) // 4
    assert complaints_of(SLOW[part * size : (part + 1) * size]) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_day_of_twenty_workspaces() -> None:
    """Would lose a slot an hour, or forget nothing."""
    day = live(24, 20, 0.02)
    assert day.complaints == []
    assert day.faults > 500
    assert day.objects[-1] < day.objects[3] * 1.02


def test_a_seed_gives_the_same_run_again() -> None:
    """Would name a seed that cannot be run again."""
    command = [sys.executable, "-m", "tests.whole.run", "--trace", "7"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == second
    assert first.count("\n") > 10
