"""The clock the other tests trust."""

from __future__ import annotations

import asyncio

import pytest
from aiolimiter import AsyncLimiter

from tests.virtual_time import VirtualTimeLoop, run


def test_sleeping_takes_virtual_time_only() -> None:
    """Would wait for real, or wake sleepers out of order."""
    woken: list[tuple[str, float]] = []

    async def sleeper(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        woken.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        await asyncio.gather(sleeper("month", 30 * 86400.0), sleeper("second", 1.0), sleeper("nothing", 0.0))

    run(main(), start=0.0)
    assert [name for name, _ in woken] == ["nothing", "second", "month"]
    assert [when for _, when in woken] == pytest.approx([0.0, 1.0, 30 * 86400.0], abs=1e-5)


def test_waiting_for_nothing_is_a_deadlock() -> None:
    """Would hang the test run."""

    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="deadlock"):
        run(main())


def test_error_in_a_callback_fails_the_run() -> None:
    """Would hide a broken timer callback in the log."""

    async def main() -> None:
        asyncio.get_running_loop().call_later(1.0, lambda: 1 / 0)
        await asyncio.sleep(2.0)

    with pytest.raises(ZeroDivisionError):
        run(main())


def test_clock_moves_while_the_loop_turns() -> None:
    """Would livelock a limiter that asks again until its token is there."""

    async def main() -> float:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        limiter = AsyncLimiter(3, 0.7)
        begin = loop.time()
        for _ in range(30):
            await limiter.acquire()
        assert loop.timers() == 0
        return loop.time() - begin

    assert run(main()) == pytest.approx(27 * 0.7 / 3, rel=1e-3)
