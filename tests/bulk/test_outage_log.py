"""What the log says of outages, in virtual time."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

import pytest

from recall_async import Priority, RetryPolicy, ServerError
from recall_async.call import Call
from recall_async.errors import RecallError
from recall_async.operations import SCHEDULE_BOT
from recall_async.outage import LOG_EVERY, Breakers
from recall_async.passage import SCOPE, Passage, Scope
from tests.virtual_time import run


class Verdict(NamedTuple):
    error: RecallError | None


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "unavailable" in record.getMessage()]


async def attempt(status: int) -> Verdict:
    return Verdict(ServerError(status=status) if status >= 500 else None)


async def call(breakers: Breakers, statuses: list[int]) -> None:
    """Make a bulk call that is answered so, one attempt after the other."""
    request = Call(SCHEDULE_BOT.request(), Priority.BULK, float("inf"), RetryPolicy())
    passage = Passage(breakers.of("schedule"), request)
    for status in statuses:
        await passage.wait()
        await passage.through(attempt(status))
    passage.close()


def test_a_call_that_succeeds_when_it_is_tried_again_is_no_outage(caplog: pytest.LogCaptureFixture) -> None:
    """Would warn "next try in 0.0 s" of each call that fails once."""

    async def main() -> None:
        breakers = Breakers()
        for _ in range(100):
            await call(breakers, [503, 200])

    run(main())
    assert messages(caplog) == []


def test_an_outage_is_told_once_for_each_cause(caplog: pytest.LogCaptureFixture) -> None:
    """Would tell of each probe, or not of an outage that begins with one call."""

    async def main() -> None:
        SCOPE.set(Scope(3600.0))
        await call(Breakers(), [503] * 12 + [502, 503] * 6 + [200])

    run(main())
    first, second = messages(caplog)
    assert "unavailable (503)" in first
    assert "unavailable (502)" in second
    assert "next try in 0.0 s" not in first + second


def test_a_server_that_comes_and_goes_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """Would write two lines a second for hours."""

    async def main() -> float:
        breakers, begun = Breakers(), asyncio.get_running_loop().time()
        for _ in range(200):
            await call(breakers, [503, 503, 503, 200])
        return asyncio.get_running_loop().time() - begun

    seconds = run(main())
    assert 2 <= len(messages(caplog)) <= seconds / LOG_EVERY + 1
