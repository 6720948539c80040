"""When probes are sent during an outage, in virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import NamedTuple

import pytest

from recall_async import Priority, RetryPolicy, ServerError
from recall_async.call import Call
from recall_async.errors import RecallError
from recall_async.operations import SCHEDULE_BOT
from recall_async.outage import BACKOFF, Breakers
from recall_async.passage import SCOPE, Passage, Scope
from tests.virtual_time import run

CALLS = 6
PROBES = 12


class Verdict(NamedTuple):
    error: RecallError | None


class Away:
    """A server that refuses everything until it has been probed often enough, and the times at which it was asked."""

    def __init__(self, retry_after: float | None, until: int = CALLS + PROBES) -> None:
        self.breakers = Breakers()
        self.asked: list[tuple[float, float]] = []
        """When each request was sent and answered."""
        self._retry_after = retry_after
        self._until = until

    def served_from_now(self) -> None:
        """Let the server be back."""
        self._until = 0

    async def attempt(self) -> Verdict:
        now = asyncio.get_running_loop().time
        begun = now()
        await asyncio.sleep(0.1)
        self.asked.append((begun, now()))
        back = len(self.asked) > self._until
        return Verdict(None if back else ServerError(status=503, retry_after=self._retry_after))

    async def call(self, operation: str = "schedule") -> None:
        """Make a bulk call, until it is served."""
        request = Call(SCHEDULE_BOT.request(), Priority.BULK, float("inf"), RetryPolicy())
        passage = Passage(self.breakers.of(operation), request)
        try:
            while passage.failed or not passage.counted:
                await passage.wait()
                if passage.may_send():
                    await passage.through(self.attempt())
        finally:
            passage.close()


@pytest.mark.parametrize("retry_after", [None, 20.0])
def test_each_probe_waits_for_what_the_last_one_found(retry_after: float | None) -> None:
    """Would send the next probe as soon as one has failed, without a backoff and before the server's `Retry-After`."""

    async def main() -> list[float]:
        SCOPE.set(Scope(float("inf")))
        away = Away(retry_after)
        await asyncio.gather(*(away.call() for _ in range(CALLS)))
        probes = away.asked[CALLS : CALLS + PROBES]
        return [begun - answered for (_, answered), (begun, _) in pairwise(probes)]

    gaps = run(main())
    assert len(gaps) == PROBES - 1
    assert min(gaps) >= (retry_after or BACKOFF.first / 2)


@pytest.mark.parametrize("by_a_probe", [True, False])
def test_the_end_of_an_outage_hastens_the_probes_of_other_operations(by_a_probe: bool) -> None:
    """Would let an operation wait for its own backoff of half a minute although another one is served again."""

    async def main() -> list[float]:
        SCOPE.set(Scope(float("inf")))
        away = Away(None, until=2 * CALLS + 2 * PROBES if by_a_probe else 10**9)
        now, calls = asyncio.get_running_loop().time, []
        for operation in ("schedule", "remove"):
            calls += [asyncio.create_task(away.call(operation)) for _ in range(CALLS)]
        if not by_a_probe:
            await asyncio.sleep(120.0)
            back = now()
            away.served_from_now()
            away.breakers.answered("schedule")  # an interactive call
        await asyncio.gather(*calls)
        if by_a_probe:
            back = away.asked[2 * CALLS + 2 * PROBES][1]
        return [answered - back for _, answered in away.asked if answered > back]

    after = run(main())
    assert len(after) >= 2 * CALLS - 1
    assert max(after) < 1.0


@pytest.mark.parametrize("turns", range(6))
def test_a_call_that_is_cancelled_when_it_is_chosen_passes_the_probe_on(turns: int) -> None:
    """Would stop all bulk calls of the workspace for ever: the right to probe would be with a call that is gone."""

    async def main() -> None:
        SCOPE.set(Scope(float("inf")))
        away = Away(None)
        calls = [asyncio.create_task(away.call()) for _ in range(CALLS)]
        await asyncio.sleep(0.15)  # all have failed, one has been chosen and probes
        probing = away.breakers.prober
        assert probing is not None
        calls[0].cancel()  # the probe in flight: the next one is chosen
        for _ in range(turns):
            await asyncio.sleep(0)
        calls[1].cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(end) for end in ended] == [asyncio.CancelledError] * 2 + [type(None)] * (CALLS - 2)
        assert away.breakers.prober is None
        assert away.breakers.of("schedule").in_flight == 0

    run(main())
