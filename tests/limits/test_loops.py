"""What belongs to one event loop: its clock, its values, and its turns."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from recall_async.limits.loops import PerLoop, Turns, clock_of, current_loop
from tests.virtual_time import VirtualTimeLoop


@pytest.fixture
def loops() -> Iterator[list[VirtualTimeLoop]]:
    made = [VirtualTimeLoop() for _ in range(3)]
    yield made
    for loop in made:
        loop.close()


def test_clock_is_the_loops_own_unless_it_stands_still() -> None:
    """Would date a response too early on uvloop, or mix the clock of a loop in virtual time with the real one."""
    virtual, plain = VirtualTimeLoop(), asyncio.SelectorEventLoop()
    try:
        assert clock_of(plain) is time.monotonic
        assert clock_of(virtual)() == virtual.time() == 1000.0
        assert clock_of(virtual) == virtual.time
    finally:
        virtual.close()
        plain.close()


@pytest.mark.skipif(sys.platform == "win32", reason="uvloop is not available")
def test_clock_of_uvloop_is_the_monotonic_one() -> None:
    """Would date all responses of one turn of the loop by its beginning."""
    loop = pytest.importorskip("uvloop").new_event_loop()
    try:
        assert clock_of(loop) is time.monotonic
    finally:
        loop.close()


def test_current_loop_is_none_outside_of_one(loops: list[VirtualTimeLoop]) -> None:
    """Would fail where a session is made before its loop runs, or take no loop for one."""

    async def main() -> asyncio.AbstractEventLoop | None:
        return current_loop()

    assert current_loop() is None
    assert loops[0].run_until_complete(main()) is loops[0]


def test_turns_count_the_changes() -> None:
    """Would miss that another loop has used the quota, or look for its requests before every call."""
    turns, one, two = Turns(), object(), object()
    assert (turns.last, turns.count) == (None, 0)
    assert [turns.take(owner) for owner in (one, one, two, one, one)] == [1, 1, 2, 3, 3]
    assert (turns.last, turns.count) == (one, 3)


async def call(what: object) -> object:
    assert callable(what)
    return what()


def test_each_loop_has_one_value(loops: list[VirtualTimeLoop]) -> None:
    """Would give two loops one value, or one loop another value each time."""
    values = PerLoop[object](object)
    one, two, again = (loop.run_until_complete(call(values.get)) for loop in (loops[0], loops[1], loops[0]))
    assert one is again is not two
    assert values.values() == [one, two]


def test_other_loops_by_whether_they_run(loops: list[VirtualTimeLoop]) -> None:
    """Would learn from a loop that runs in another thread, whose state may change at any time, or not warn of it."""
    values = PerLoop[object](object)
    stopped, closed, running, ours = (*(loop.run_until_complete(call(values.get)) for loop in loops), object())
    loops[1].close()
    started, done = threading.Event(), threading.Event()

    async def run() -> None:
        assert values.get() is running
        loops[2].call_soon(started.set)
        while not done.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(0.1)

    async def seen() -> list[list[object]]:
        nonlocal ours
        ours = values.get()
        return [values.others(), values.others(running=True), values.others(running=False)]

    thread = threading.Thread(target=loops[2].run_until_complete, args=(run(),))
    thread.start()
    try:
        assert started.wait(30)
        with asyncio.Runner() as runner:
            assert runner.run(seen()) == [[stopped, running], [running], [stopped]]
    finally:
        done.set()
        thread.join()
    assert values.values() == [stopped, closed, running, ours]


def test_closed_loops_are_taken_out_once(loops: list[VirtualTimeLoop]) -> None:
    """Would forget what a closed loop has sent, count it twice, or keep each loop of a program for ever."""
    values = PerLoop[object](object)
    one, two, three = (loop.run_until_complete(call(values.get)) for loop in loops)
    assert values.pop_closed() == []
    loops[0].close()
    loops[2].close()
    assert values.pop_closed() == [one, three]
    assert values.pop_closed() == []
    assert values.values() == [two]
