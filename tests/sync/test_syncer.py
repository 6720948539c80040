"""CalendarSyncer in virtual time: floods, repeats, disorder, failures, and the end."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async import (
    BotSpec,
    CalendarSyncer,
    ConnectionFailedError,
    Decision,
    EventEndedError,
    InsufficientCreditError,
    MemoryWatermarks,
    NotFoundError,
    Outcome,
    Plan,
    RecallError,
    RequestBlockedError,
    SessionClosedError,
)
from recall_async.sync.memory import Memory
from recall_async.sync.reached import ALWAYS, Reached
from recall_async.webhooks import CalendarSyncEvents, CalendarUpdate, WebhookEvent
from tests.sync.invitations import uuid
from tests.virtual_time import run

EPOCH = datetime(2025, 6, 10, 12, tzinfo=UTC)
CALENDARS = [uuid(1000 + number) for number in range(8)]
ONE = CALENDARS[0]


def moment(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def sync_events(calendar_id: str = ONE, seconds: float = 0.0) -> WebhookEvent:
    return WebhookEvent("calendar.sync_events", CalendarSyncEvents(calendar_id, moment(seconds)))


def calendar_update(calendar_id: str = ONE) -> WebhookEvent:
    return WebhookEvent("calendar.update", CalendarUpdate(calendar_id))


def policy(event: object, calendar: object) -> BotSpec | None:
    return None


class FakeRecall:
    """Calendars whose events change at certain seconds; a plan has what changed since, and applying it takes a while."""

    def __init__(self, latency: float = 0.3) -> None:
        self.latency = latency
        self.changes: dict[str, set[float]] = {calendar_id: set() for calendar_id in CALENDARS}
        self.applied: dict[str, set[float]] = {calendar_id: set() for calendar_id in CALENDARS}
        self.listed: list[tuple[str, float | None]] = []
        self.at_work: Counter[str] = Counter()
        self.most_at_work = 0
        self.disconnected: set[str] = set()
        self.errors: list[Exception] = []
        """What the next plans end with."""
        self.outcome_errors: list[RecallError | None] = []
        """What the next requests end with."""

    async def plan(self, *, policy: Any, calendars: Any, updated_since: datetime | None) -> Plan:
        (calendar_id,) = calendars
        since = None if updated_since is None else (updated_since - EPOCH).total_seconds()
        self.listed.append((calendar_id, since))
        self.at_work[calendar_id] += 1
        self.most_at_work = max(self.most_at_work, self.at_work[calendar_id])
        try:
            changed = sorted(second for second in self.changes[calendar_id] if since is None or second >= since)
            await asyncio.sleep(self.latency)
        finally:
            self.at_work[calendar_id] -= 1
        if self.errors:
            raise self.errors.pop(0)
        connected = calendar_id not in self.disconnected
        return Plan(
            decisions=tuple(decision(calendar_id, second) for second in changed if connected),
            made_at=EPOCH,
            watermark=moment(changed[-1]) if changed and connected else updated_since,
            disconnected=() if connected else (calendar_id,),
        )

    async def apply(self, plan: Plan, *, recheck: float | None) -> AsyncIterator[Outcome]:
        assert recheck is None
        for change in plan:
            await asyncio.sleep(self.latency / 10)
            error = self.outcome_errors.pop(0) if self.outcome_errors else None
            if error is None:
                self.applied[change.calendar_id].add((change.updated_at - EPOCH).total_seconds())
            action = change.action
            assert action is not None
            yield Outcome(action, None, error, 1, 0.0)

    def listings(self, calendar_id: str = ONE) -> list[float | None]:
        return [since for listed, since in self.listed if listed == calendar_id]


def decision(calendar_id: str, second: float) -> Decision:
    return Decision(
        kind="schedule",
        event_id=uuid(int(second * 1000) % 2**64),
        calendar_id=calendar_id,
        start_time=moment(1e6),
        end_time=moment(2e6),
        updated_at=moment(second),
        deduplication_key="key",
    )


def test_a_flood_becomes_few_listings():
    """10,000 deliveries in 5 seconds use up the quota of listings, or pile up."""
    recall = FakeRecall(latency=0.3)
    rng = random.Random(7)

    async def main() -> int:
        deepest = 0
        async with CalendarSyncer(recall, policy) as syncer:
            for number in range(10_000):
                calendar_id = rng.choice(CALENDARS)
                recall.changes[calendar_id].add(number)
                await syncer.handle(sync_events(calendar_id, number))
                await asyncio.sleep(5e-4)
                deepest = max(deepest, *(recall.at_work[each] + (each in syncer._waiting) for each in CALENDARS))
            await syncer.drain()
        return deepest

    assert run(main()) == 2
    assert recall.most_at_work == 1
    assert recall.applied == recall.changes
    assert max(len(recall.listings(calendar_id)) for calendar_id in CALENDARS) <= 5 / 0.3 + 2


async def begin(syncer: CalendarSyncer, recall: FakeRecall, second: float = 5) -> None:
    """Let the syncer look at everything once, as it does first; from then on it looks at what changed."""
    recall.changes[ONE].add(second)
    await syncer.handle(sync_events(seconds=second))
    await syncer.drain()
    recall.listed.clear()


def test_deliveries_at_once_make_one_listing_with_the_smallest_time():
    """Deliveries that came together are listed one by one, or from too late on."""
    recall = FakeRecall()

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            await begin(syncer, recall, 100)
            for second in (50, 20, 90):
                await syncer.handle(sync_events(seconds=second))

    run(main())
    assert recall.listings() == [20]


def test_handle_returns_at_once():
    """A web handler is held up until the bots are scheduled, so that the delivery is repeated."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with CalendarSyncer(FakeRecall(latency=60), policy) as syncer:
            began = loop.time()
            await syncer.handle(sync_events())
            assert loop.time() - began < 1e-3
            assert syncer.busy == {ONE}
            await syncer.drain()
            assert syncer.busy == frozenset()

    run(main())


def test_the_watermark_fills_gaps():
    """A delivery that was lost is never made up for."""
    recall = FakeRecall()

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            recall.changes[ONE] = {10, 20, 30}
            await syncer.handle(sync_events(seconds=10))
            await syncer.drain()
            recall.changes[ONE] = {10, 20, 30, 40, 50}
            await syncer.handle(sync_events(seconds=50))
            await syncer.drain()
            await syncer.handle(sync_events(seconds=5))

    run(main())
    assert recall.listings() == [None, 30, 5]
    assert recall.applied[ONE] == {10, 20, 30, 40, 50}


def test_the_watermark_waits_for_what_failed():
    """Changes that could not be applied are forgotten."""
    recall, store = FakeRecall(), MemoryWatermarks()
    recall.changes[ONE] = {10, 20}
    recall.outcome_errors = [ConnectionFailedError("reset")]

    async def main() -> list[datetime | None]:
        seen = []
        async with CalendarSyncer(recall, policy, watermarks=store) as syncer:
            await syncer.handle(sync_events(seconds=10))
            await asyncio.sleep(0.4)
            seen.append(await store.get(ONE))
            await syncer.drain()
            seen.append(await store.get(ONE))
        return seen

    assert run(main()) == [None, moment(20)]
    assert recall.listings() == [None, None]
    assert recall.applied[ONE] == {10, 20}


def test_what_cannot_succeed_holds_nothing_up():
    """One meeting that is over keeps its calendar from ever being in order."""
    recall, store, seen = FakeRecall(), MemoryWatermarks(), []
    recall.changes[ONE] = {10, 20}
    recall.outcome_errors = [EventEndedError("over")]

    async def main() -> datetime | None:
        async with CalendarSyncer(recall, policy, watermarks=store, on_outcome=seen.append) as syncer:
            await syncer.handle(sync_events(seconds=10))
        return await store.get(ONE)

    assert run(main()) == moment(20)
    assert recall.listings() == [None]
    assert [outcome.status for outcome in seen] == ["failed", "done"]


def test_what_a_firewall_refuses_is_tried_again_by_the_next_sync_or_start():
    """Would lose a change for good because a firewall refused its request once."""
    recall, store = FakeRecall(), MemoryWatermarks()
    recall.changes[ONE] = {10, 20, 30}

    async def main() -> list[datetime | None]:
        seen = []
        for errors in ([None, RequestBlockedError("blocked")], [RequestBlockedError("blocked")], []):
            recall.outcome_errors = list(errors)
            async with CalendarSyncer(recall, policy, watermarks=store, full_every=None) as syncer:
                await syncer.handle(sync_events(seconds=40))
            seen.append(await store.get(ONE))
        async with CalendarSyncer(recall, policy, watermarks=store, full_every=None) as syncer:
            recall.changes[ONE] |= {40, 50}
            recall.outcome_errors = [RequestBlockedError("blocked")] * 2
            for second in (40, 50):
                await syncer.handle(sync_events(seconds=second))
                await syncer.drain()
        return seen

    assert run(main()) == [moment(20), moment(20), moment(30)]
    assert recall.listings() == [None, 20, 20, 30, 30]
    assert recall.applied[ONE] == {10, 20, 30, 40, 50}


def test_what_is_undone_before_the_watermark_survives_a_restart():
    """Would forget with its process that a firewall refused a change that is older than the stored watermark."""
    recall, store = FakeRecall(), MemoryWatermarks()
    recall.changes[ONE] = {10, 100}

    async def main() -> None:
        async with CalendarSyncer(recall, policy, watermarks=store, full_every=None) as syncer:
            await syncer.handle(sync_events(seconds=10))
            await syncer.drain()
            recall.applied[ONE].clear()
            recall.outcome_errors = [RequestBlockedError("blocked")]
            await syncer.handle(calendar_update())
            await syncer.drain()
            assert await store.get(ONE) == moment(10)
        async with CalendarSyncer(recall, policy, watermarks=store, full_every=None) as syncer:
            await syncer.handle(sync_events(seconds=100))

    run(main())
    assert recall.listings() == [None, None, 10]
    assert recall.applied[ONE] == {10, 100}


def test_retries_by_itself_with_growing_pauses(caplog: pytest.LogCaptureFixture):
    """A calendar is given up after an outage, or asked for without a pause."""
    recall, errors = FakeRecall(latency=0.0), []
    recall.errors = [ConnectionFailedError("refused"), InsufficientCreditError("no credit"), LookupError("policy")]
    recall.changes[ONE] = {10}

    async def main() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        syncer = CalendarSyncer(
            recall, policy, on_error=lambda *error: errors.append(error), backoff=1, backoff_cap=100
        )
        await syncer.handle(sync_events(seconds=10))
        await syncer.drain()
        took = loop.time() - began
        await syncer.aclose()
        return took

    assert 0.5 + 1 + 2 <= run(main()) <= 1 + 2 + 4 + 0.1
    assert recall.applied[ONE] == {10}
    assert [(calendar_id, type(error)) for calendar_id, error in errors] == [
        (ONE, ConnectionFailedError),
        (ONE, InsufficientCreditError),
        (ONE, LookupError),
    ]
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 3


@pytest.mark.parametrize(
    ("latency", "first", "meanwhile", "second", "listings"),
    [(0.0, 10, 1.0, 70, [10, 10]), (1.0, 50, 0.5, 10, [50, 10])],
    ids=["in the pause after a failure", "during the sync that fails"],
)
def test_a_failure_forgets_no_delivery(
    latency: float, first: int, meanwhile: float, second: int, listings: list[int]
) -> None:
    """Would lose the earlier changes of a failed sync, or a delivery that names an earlier time while the sync fails."""
    recall = FakeRecall(latency=latency)

    async def main() -> None:
        async with CalendarSyncer(recall, policy, backoff=10) as syncer:
            await begin(syncer, recall, 100)
            recall.errors = [ConnectionFailedError("refused")]
            await syncer.handle(sync_events(seconds=first))
            await asyncio.sleep(meanwhile)
            await syncer.handle(sync_events(seconds=second))
            await syncer.drain()

    run(main())
    assert recall.listings() == listings


@pytest.mark.parametrize("error", [NotFoundError("no calendar"), SessionClosedError("closed")])
def test_what_will_never_work_is_given_up(error):
    """A delivery for another workspace's calendar is tried for ever."""
    recall, errors = FakeRecall(), []
    recall.errors = [error]

    async def main() -> None:
        async with CalendarSyncer(recall, policy, on_error=lambda *given: errors.append(given)) as syncer:
            await syncer.handle(sync_events())
            await syncer.drain()

    run(main())
    assert errors == [(ONE, error)]
    assert len(recall.listed) == 1


def test_calendars_do_not_wait_for_each_other():
    """A calendar that fails holds up all others."""
    recall = FakeRecall(latency=0.1)
    recall.errors = [ConnectionFailedError("refused")]

    async def main() -> float:
        loop = asyncio.get_running_loop()
        async with CalendarSyncer(recall, policy, backoff=1000, backoff_cap=1000) as syncer:
            began = loop.time()
            for calendar_id in CALENDARS:
                await syncer.handle(sync_events(calendar_id))
            for task in [task for calendar_id, task in syncer._tasks.items() if calendar_id != ONE]:
                await task
            return loop.time() - began

    assert run(main()) < 0.2


def test_many_calendars_at_once():
    """After a long pause thousands of calendars are planned at the same time, and fill the memory while they wait."""
    recall = FakeRecall(latency=1)
    calendars = [uuid(5000 + number) for number in range(100)]
    recall.changes = {calendar_id: {10, 20} for calendar_id in calendars}
    recall.applied = {calendar_id: set() for calendar_id in calendars}

    async def main() -> int:
        async with CalendarSyncer(recall, policy) as syncer:
            await syncer.catch_up(calendars)
            await asyncio.sleep(0.5)
            # What comes for calendars that wait for their turn is folded into it.
            for calendar_id in calendars:
                await syncer.handle(sync_events(calendar_id, 5))
            return sum(recall.at_work.values())

    assert run(main()) == 32
    assert recall.applied == recall.changes
    assert len(recall.listed) == 100 + 32


def test_a_calendar_that_changed_is_looked_at_as_a_whole():
    """A calendar that was connected again, and so lost its bots, gets them back one change at a time."""
    recall = FakeRecall()
    recall.changes[ONE] = {10}
    recall.disconnected = {ONE}

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            await syncer.handle(calendar_update())
            await syncer.drain()
            assert syncer.disconnected == {ONE}
            assert recall.applied[ONE] == set()
            recall.disconnected = set()
            await syncer.handle(calendar_update())
            await syncer.drain()
            assert syncer.disconnected == frozenset()

    run(main())
    assert recall.listings() == [None, None]
    assert recall.applied[ONE] == {10}


def test_other_kinds_of_deliveries_are_ignored():
    """A bot's own webhooks, which come to the same address, cost listings or fail."""
    recall = FakeRecall()

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            await syncer.handle(WebhookEvent("bot.done", {"bot": {"id": "b"}}))

    run(main())
    assert recall.listed == []


def test_catching_up():
    """After a long pause nobody looks at what happened meanwhile."""
    recall, store = FakeRecall(), MemoryWatermarks()

    async def main() -> None:
        await store.set(ONE, moment(30))
        async with CalendarSyncer(recall, policy, watermarks=store) as syncer:
            await syncer.catch_up(CALENDARS[:2])

    run(main())
    assert sorted(recall.listed, key=str) == sorted([(ONE, None), (CALENDARS[1], None)], key=str)


def test_closing_finishes_what_came():
    """Deliveries that were accepted are dropped at a deployment."""
    recall = FakeRecall(latency=1)

    async def main() -> None:
        syncer = CalendarSyncer(recall, policy)
        for calendar_id in CALENDARS:
            recall.changes[calendar_id] = {10}
            await syncer.handle(sync_events(calendar_id, 10))
        await asyncio.sleep(0.5)
        recall.changes[ONE].add(20)
        await syncer.handle(sync_events(ONE, 20))
        await syncer.aclose()
        await syncer.aclose()
        with pytest.raises(SessionClosedError):
            await syncer.handle(sync_events())

    run(main())
    assert recall.applied == recall.changes


def test_closing_does_not_wait_for_an_outage():
    """A deployment hangs for as long as the API is down."""
    recall = FakeRecall(latency=0.1)
    recall.errors = [ConnectionFailedError("refused")] * 100

    async def main() -> float:
        loop = asyncio.get_running_loop()
        syncer = CalendarSyncer(recall, policy, backoff=1000, backoff_cap=1000)
        await syncer.handle(sync_events())
        await asyncio.sleep(1)
        began = loop.time()
        await syncer.aclose()
        assert syncer.busy == frozenset()
        return loop.time() - began

    assert run(main()) < 0.2
    assert len(recall.listed) == 2


@pytest.mark.parametrize("after", [0.0, 0.05, 0.15, 5.0])
def test_closing_can_be_cut_short(after):
    """A shutdown with a time limit leaves tasks behind."""
    recall = FakeRecall(latency=10)

    async def main() -> None:
        syncer = CalendarSyncer(recall, policy)
        await syncer.handle(sync_events())
        await syncer.handle(sync_events(CALENDARS[1]))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(after):
                await syncer.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert syncer.busy == frozenset()

    run(main())


def test_a_callback_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture):
    """A mistake in `on_error` ends the syncing of a calendar for good."""
    recall = FakeRecall()
    recall.errors = [ConnectionFailedError("refused")]
    recall.changes[ONE] = {10}

    def fail(*_: object) -> None:
        raise LookupError("callback")

    async def main() -> None:
        async with CalendarSyncer(recall, policy, on_error=fail) as syncer:
            await syncer.handle(sync_events())
            await syncer.drain()

    run(main())
    assert recall.applied[ONE] == {10}
    assert "on_error failed" in caplog.text


class SlowStore(MemoryWatermarks):
    """Takes a while, fails now and then, and remembers what it was told."""

    def __init__(self, failures: list[bool]) -> None:
        super().__init__()
        self.failures = failures
        self.set_to: list[datetime] = []

    async def set(self, calendar_id: str, moment: datetime) -> None:
        await asyncio.sleep(0.1)
        if self.failures and self.failures.pop():
            raise OSError("no space left on device")
        self.set_to.append(moment)
        await super().set(calendar_id, moment)


@given(
    deliveries=st.lists(
        st.tuples(st.floats(0, 2), st.integers(0, 20), st.sampled_from([0, 0, 0, 1, 2, 5])), min_size=1, max_size=25
    ),
    errors=st.lists(st.booleans(), max_size=6),
    outcome_errors=st.lists(st.booleans(), max_size=12),
    store_errors=st.lists(st.booleans(), max_size=4),
)
@settings(max_examples=60, deadline=None)
def test_every_change_is_applied_in_the_end(deliveries, errors, outcome_errors, store_errors):
    """Repeats, disorder, losses and failures together make a change be forgotten, or the watermark go too far or back."""
    recall, store = FakeRecall(), SlowStore(store_errors)
    recall.errors = [ConnectionFailedError("refused") for failed in errors if failed]
    recall.outcome_errors = [ConnectionFailedError("reset") for failed in outcome_errors if failed]
    unapplied: list[datetime] = []

    async def main() -> None:
        async with CalendarSyncer(recall, policy, watermarks=store, backoff=0.1) as syncer:
            second = 100.0
            for pause, older, repeats in deliveries:
                second += 1
                recall.changes[ONE].add(second)
                # Some deliveries name an earlier time than they must, and some never arrive.
                for _ in range(repeats):
                    await syncer.handle(sync_events(seconds=second - older))
                await asyncio.sleep(pause)
                if (known := await store.get(ONE)) is not None:
                    first = min(recall.applied[ONE])
                    unapplied.extend(
                        moment(each)
                        for each in recall.changes[ONE] - recall.applied[ONE]
                        if each > first and moment(each) < known
                    )
            await syncer.handle(sync_events(seconds=min(recall.changes[ONE])))
            await syncer.drain()

    run(main())
    assert recall.applied == recall.changes
    assert recall.most_at_work == 1
    assert unapplied == []
    assert store.set_to == sorted(store.set_to)


def test_a_round_that_takes_longer_than_the_time_between_rounds():
    """Rounds would run one over the other, or the syncer would take up no round behind a slow one."""
    recall = SlowCalendars(25.0)

    async def main() -> None:
        async with CalendarSyncer(recall, policy, full_every=10.0) as syncer:
            await asyncio.sleep(100.0)
            assert recall.calendars.most == 1
            assert 3 <= recall.calendars.begun <= 5
            await syncer.aclose()
            begun = recall.calendars.begun
            syncer._begin_round()
            await asyncio.sleep(100.0)
            assert recall.calendars.begun == begun

    run(main())


def test_closing_ends_a_round_that_would_be_tried_again():
    """A program that ends during an outage would wait for the list of calendars for ever."""
    recall = SlowCalendars(0.1, ConnectionFailedError("away"))

    async def main() -> None:
        syncer = CalendarSyncer(recall, policy, full_every=10.0, backoff=5.0)
        await syncer.handle(sync_events())
        await asyncio.sleep(1.0)
        await syncer.aclose()
        assert recall.calendars.begun >= 1
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


class SlowCalendars(FakeRecall):
    """Has calendars whose list takes a while, and may fail."""

    def __init__(self, seconds: float, error: Exception | None = None) -> None:
        super().__init__()
        self.calendars = self
        self.seconds, self.error = seconds, error
        self.begun = self.running = self.most = 0

    async def list(self, **_: Any) -> AsyncIterator[Any]:
        self.begun += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(self.seconds)
            if self.error is not None:
                raise self.error
        finally:
            self.running -= 1
        for calendar in ():
            yield calendar


def test_a_run_that_cannot_be_closed():
    """A session that is wrapped, whose runs are plain iterators, would end each sync in an error."""

    class Run:
        def __init__(self, outcomes: AsyncIterator[Outcome]) -> None:
            self._outcomes = outcomes

        def __aiter__(self) -> Run:
            return self

        async def __anext__(self) -> Outcome:
            return await anext(self._outcomes)

    class Wrapped(FakeRecall):
        def apply(self, plan: Plan, *, recheck: float | None) -> Any:
            return Run(super().apply(plan, recheck=recheck))

    recall = Wrapped()
    recall.changes[ONE] = {1.0, 2.0}

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            await syncer.handle(sync_events(seconds=1))

    run(main())
    assert recall.applied[ONE] == {1.0, 2.0}


def test_a_watermark_that_fell_back_to_the_beginning_is_not_stored():
    """A store would get a time long before all times, which it may not be able to keep."""

    async def main() -> None:
        store = MemoryWatermarks()
        reached = Reached(store, resumes=True)
        await reached.record(ONE, moment(1))
        await reached.record(ONE, ALWAYS)
        assert (await reached.watermark(ONE), await store.get(ONE)) == (ALWAYS, moment(1))

    run(main())


def test_the_memory_forgets_the_bots_of_the_past():
    """A program that runs for years would keep every event that it ever saw."""
    memory = Memory()
    memory.in_order("old", "key", "bot", moment(0))
    memory.in_order("new", "key", "bot", moment(10))
    memory.forget(moment(5))
    assert (memory.key_of("old"), memory.holders("key")) == (None, {"new": "bot"})
