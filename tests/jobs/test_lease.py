"""A lease and what Redis says about it: with a store from a script, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from recall_async import ConfigurationError, RemoveBot
from recall_async.jobs import JobError, JobQueue, lease
from recall_async.jobs import store as stores
from recall_async.jobs.lease import MAX_BATCH, Lease
from recall_async.jobs.store import Chunk, JobStore
from recall_async.jobs.worker import Worker
from recall_async.stopping import Stopped, StopSignal
from tests.virtual_time import run

BEGIN = 1000.0
"""When the loop's clock begins."""
CHUNK = Chunk(
    "1-0", "token", "tonight", "me", {number: RemoveBot(str(number)) for number in range(2 * MAX_BATCH + 1)}, BEGIN
)


class Store:
    """Answers each report from a script, and `held` behind its end."""

    def __init__(self, *standings: str) -> None:
        self.lease = 30.0
        self.standings = list(standings)
        self.told: list[tuple[int, str]] = []
        self.found: list[Any] = []

    async def report(self, chunk: Chunk, told: Any, what: str, **_: Any) -> str:
        self.told.append((len(told), what))
        return self.standings.pop(0) if self.standings else "held"

    async def take(self, consumer: str, *, new_first: bool = False) -> Any:
        found = self.found.pop(0)
        return await found if isinstance(found, Awaitable) else found


def leased(
    monkeypatch: pytest.MonkeyPatch, store: Store, what: Callable[[Lease], Awaitable[None]], chunk: Chunk = CHUNK
) -> None:
    """Do something with a lease, whose clock is the loop's."""

    async def main() -> None:
        monkeypatch.setattr(lease, "lease_time", asyncio.get_running_loop().time)
        await what(Lease(store, chunk, StopSignal(), is_outage=lambda: False))  # type: ignore[arg-type]

    run(main(), start=BEGIN)


@pytest.mark.parametrize("standing", ["held", "lost"])
def test_after_a_suspension_redis_is_asked_first(
    monkeypatch: pytest.MonkeyPatch, standing: Literal["held", "lost"]
) -> None:
    """A machine that slept would do what another worker does, or stop although nobody took its chunk."""
    store = Store(standing)

    async def main(held: Lease) -> None:
        await held.confirm()
        assert store.told == []  # it certainly holds
        await asyncio.sleep(31.0)
        assert not held.may_send()
        if standing == "held":
            await held.confirm()
        else:
            with pytest.raises(Stopped):
                await held.confirm()
        assert (held.may_send(), held.over, store.told) == (standing == "held", standing != "held", [(0, "renew")])

    leased(monkeypatch, store, main)


def test_a_lease_is_renewed_until_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chunk whose actions wait for the quota would go to another worker, or be renewed after its end."""
    store = Store()

    async def main(held: Lease) -> None:
        keeping = asyncio.create_task(held.keep())
        await asyncio.sleep(100.0)
        assert held.may_send()
        renewed = len(store.told)
        assert renewed >= 3
        held.end()
        await keeping
        assert len(store.told) == renewed

    leased(monkeypatch, store, main)


def test_many_outcomes_are_written_in_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Outcomes beyond the most in one write would be lost at the end of a chunk, or block Redis for long."""
    store = Store()

    async def main(held: Lease) -> None:
        for number in CHUNK.actions:
            held.finished(stores.Report(number, "done", b"{}", b""))
        assert await held.close()
        assert store.told == [(MAX_BATCH, "renew"), (MAX_BATCH, "renew"), (1, "settle")]

    leased(monkeypatch, store, main)


def test_a_worker_that_finds_the_jobs_gone_says_so() -> None:
    """A worker would wait for ever, or end as if all was done, after Redis has lost everything."""
    store = Store()
    store.found = [0, -1]

    async def main() -> None:
        worker: Any = Worker(
            store, None, concurrency=None, forever=True, max_chunks=None, max_outage=60.0,  # type: ignore[arg-type]
            on_outcome=None, stop=None,
        )  # fmt: skip
        await worker._line()
        assert isinstance(worker._error, JobError)
        assert "Redis has lost all jobs" in str(worker._error)

    run(main())


@pytest.mark.parametrize(("found", "told"), [(CHUNK, [(0, "release")]), (0, [])])
def test_a_cancelled_worker_waits_for_what_it_took(found: Any, told: list[Any]) -> None:
    """A chunk that Redis hands out while its worker is cancelled would be nobody's for a whole lease."""
    store = Store()

    async def main() -> None:
        answer = asyncio.get_running_loop().create_future()
        store.found = [answer]
        worker: Any = Worker(
            store, None, concurrency=None, forever=True, max_chunks=None, max_outage=60.0,  # type: ignore[arg-type]
            on_outcome=None, stop=None,
        )  # fmt: skip
        line = asyncio.create_task(worker._line())
        await asyncio.sleep(0.1)
        line.cancel()
        await asyncio.sleep(0.1)
        assert not line.done()
        answer.set_result(found)
        with pytest.raises(asyncio.CancelledError):
            await line
        assert store.told == told

    run(main())


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("RECALLOTHER", "exists with other actions"),
        ("RECALLCANCELLED", "was cancelled: submit it under another name"),
        ("RECALLGONE", "has lost the job 'n' while it was being written: submit it again"),
        ("WRONGTYPE Operation against a key", "Redis rejected a command of the jobs: .*WRONGTYPE"),
    ],
)
async def test_what_the_scripts_refuse_is_told_in_words(error: str, said: str) -> None:
    """A code of a script, or a bare error of Redis, would be all that one learns."""

    class Client:
        async def evalsha(self, *_: Any) -> None:
            raise ResponseError(error)

    store = JobStore(Client(), "p", "w", patience=1.0, lease=1.0, deliveries=3)  # type: ignore[arg-type]
    with pytest.raises(JobError, match=said):
        await store._run("status", ("k",), (), name="n")


async def test_chunks_at_work_are_counted_over_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker would take a thousand chunks of others for all, and end while they may still come back."""
    monkeypatch.setattr(stores, "PAGE", 2)
    rows = [{"message_id": b"%d-0" % n, "consumer": b"me" if n == 1 else b"other", "time_since_delivered": 1}
            for n in range(5)]  # fmt: skip

    class Client:
        async def xpending_range(self, stream: str, group: str, start: str, end: str, count: int) -> list[Any]:
            first = 0 if start == "-" else int(start[1:].partition("-")[0]) + 1
            return rows[first : first + count]

        async def xlen(self, stream: str) -> int:
            return 7

    store = JobStore(Client(), "p", "w", patience=1.0, lease=1.0, deliveries=3)  # type: ignore[arg-type]
    assert await store.others_at_work({"me"}) == (7, 4)


def test_queues_that_cannot_be() -> None:
    """A client of another library, or a prefix that spreads keys over a cluster, would fail at the first job."""
    with pytest.raises(ConfigurationError, match=r"client must be a redis\.asyncio\.Redis or"):
        JobQueue(object())  # type: ignore[arg-type]
    for prefix in ("a{b", "a}b", 7):
        with pytest.raises(ConfigurationError, match="prefix must be a string without braces"):
            JobQueue(Redis(), prefix=prefix)  # type: ignore[arg-type]
