"""Tasks that are cancelled and waited for, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from recall_async.stopping import Stopped, StopSignal, end_tasks
from tests.virtual_time import run


async def swallowing(times: int) -> None:
    """Go on after so many cancellations, as if a library had taken them for its own."""
    while True:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            if not times:
                raise
            times -= 1


def test_a_swallowed_cancellation_is_repeated() -> None:
    """Would wait for ever for a task whose cancellation a library swallowed."""

    async def main() -> set[asyncio.Task[None]]:
        tasks = [asyncio.create_task(swallowing(times)) for times in (0, 1, 5)]
        await asyncio.sleep(0)
        left = await end_tasks(tasks)
        assert all(task.cancelled() for task in tasks)
        return left

    assert run(main()) == set()


def test_a_task_that_never_ends_is_told_of() -> None:
    """Would wait longer than it was allowed to, or lose a task that still runs."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(swallowing(3))
        await asyncio.sleep(0)
        begun = loop.time()
        assert await end_tasks([task], 2.0) == {task}
        assert loop.time() - begun < 2.1
        assert await end_tasks([task]) == set()

    run(main())


def test_errors_of_ended_tasks_are_taken_notice_of() -> None:
    """Would log "Task exception was never retrieved" for each connection that broke while it was closed."""

    async def fails() -> None:
        raise OSError("broken")

    async def main() -> None:
        task = asyncio.create_task(fails())
        await asyncio.sleep(0)
        await end_tasks([task])
        del task

    run(main())


def test_a_signal_that_is_set_is_confirmed_by_an_error() -> None:
    """A call that asks why it may not send would go on, and send after the job was stopped."""
    outer = StopSignal()
    inner = StopSignal(outer)
    run(inner.confirm())
    assert inner.may_send()
    inner.set()
    assert (inner.may_send(), outer.may_send()) == (False, True)
    with pytest.raises(Stopped):
        run(inner.confirm())
