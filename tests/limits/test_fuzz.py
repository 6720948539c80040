"""Thousands of schedules of the local store: none overruns the server, hangs, leaks, or sends after a deadline."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from recall_async.limits.contract import Slot
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.window import Window
from tests.limits.fuzz import find

Patch = Callable[[pytest.MonkeyPatch], None]


@pytest.mark.parametrize("seeds", [range(200), pytest.param(range(200, 10_000), marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_nothing_goes_wrong(seeds: range) -> None:
    """Would overrun the quota, forget a call, keep a slot, a timer or a session, or send too late, in some order of things.

    A seed that fails is run again with `python -m tests.limits.fuzz SEED`.
    """
    found = find(seeds)
    assert found is None, f"seed {found.seed}: {found.problems}"


def _no_grace(patch: pytest.MonkeyPatch) -> None:
    lost = Window.lost
    patch.setattr(Window, "lost", lambda self, now, grace: lost(self, now, 0.0))


def _slots_come_back_with_their_answers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Window, "answered", lambda self, now: self.unused())


def _in_flight_is_not_counted(patch: pytest.MonkeyPatch) -> None:
    taken = Window.taken
    patch.setattr(Window, "taken", lambda self, now: taken(self, now) - self.in_flight)


def _earlier_loops_are_forgotten(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LocalLane, "recall", lambda self, memory, now: None)


def _slots_of_cancelled_calls_are_kept(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Slot, "unused", lambda self: None)


def _nobody_looks_when_an_answer_comes(patch: pytest.MonkeyPatch) -> None:
    dispatch, end = LocalLane._dispatch, LocalLane._end

    def ended(self: LocalLane, *arguments: Any) -> None:
        patch.setattr(LocalLane, "_dispatch", lambda self: None)
        try:
            end(self, *arguments)
        finally:
            patch.setattr(LocalLane, "_dispatch", dispatch)

    patch.setattr(LocalLane, "_end", ended)


@pytest.mark.filterwarnings("ignore")  # a schedule that hangs leaves its calls to the garbage collector
@pytest.mark.parametrize(
    "guard",
    [
        _no_grace,
        _slots_come_back_with_their_answers,
        _in_flight_is_not_counted,
        _earlier_loops_are_forgotten,
        _slots_of_cancelled_calls_are_kept,
        _nobody_looks_when_an_answer_comes,
    ],
)
def test_a_guard_that_is_taken_out_is_found_out(guard: Patch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would pass whatever the lane does, because the schedules do not come near what its guards are for."""
    guard(monkeypatch)
    found = find(range(1000)) is not None
    monkeypatch.undo()
    find(range(1))  # which lets go of the loops of those before it
    gc.collect()
    assert found
