"""What a syncer finds although nobody tells it, what it survives, and how it ends: in virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from recall_async import (
    BotSpec,
    CalendarSyncer,
    ConfigurationError,
    ConnectionFailedError,
    MemoryWatermarks,
    NotFoundError,
    Outcome,
    Plan,
    RedisWatermarks,
    RequestBlockedError,
)
from recall_async.models import Calendar
from recall_async.sync.decide import Decision
from tests.sync.invitations import event, uuid
from tests.sync.test_syncer import CALENDARS, ONE, FakeRecall, begin, decision, moment, policy, sync_events
from tests.virtual_time import run

DAY = 24 * 3600


class Workspace(FakeRecall):
    """With a list of calendars, as a session has one, and a policy that is asked."""

    def __init__(self, latency: float = 0.3) -> None:
        super().__init__(latency)
        self.calendars = self
        self.list_errors: list[Exception] = []
        self.asked: Any = None

    async def list(self, **_: Any) -> AsyncIterator[Calendar]:
        await asyncio.sleep(self.latency)
        if self.list_errors:
            raise self.list_errors.pop(0)
        for calendar_id in CALENDARS:
            status = "disconnected" if calendar_id in self.disconnected else "connected"
            fields = {"id": calendar_id, "platform": "x", "status": status, "created_at": moment(0)}
            yield msgspec.convert(fields | {"updated_at": moment(0)}, Calendar)

    async def plan(self, *, policy: Any, calendars: Any, updated_since: datetime | None) -> Plan:
        plan = await super().plan(policy=policy, calendars=calendars, updated_since=updated_since)
        if self.asked is None:
            return plan
        decisions = [await self._decide(policy, each) for each in plan.decisions]
        return msgspec.structs.replace(plan, decisions=tuple(decisions))

    async def _decide(self, policy: Any, each: Decision) -> Decision:
        spec = await policy(event(int(each.event_id.replace("-", "")[-8:], 16)), None)
        if isinstance(spec, BotSpec):
            return each
        return msgspec.structs.replace(each, kind="skip", reason="policy failed")


class Broken(MemoryWatermarks):
    """A store that fails, for a while or for ever."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.names = names

    async def get(self, calendar_id: str) -> datetime | None:
        if "get" in self.names:
            raise ConnectionError("away")
        return await super().get(calendar_id)

    async def set(self, calendar_id: str, moment: datetime) -> None:
        if "set" in self.names:
            raise ConnectionError("away")
        await super().set(calendar_id, moment)


class Garbage:
    """A Redis that holds something else."""

    async def get(self, name: str) -> bytes:
        return b"garbage"

    async def set(self, name: str, value: str) -> None:
        raise ConnectionError("away")


def test_a_start_looks_at_everything():
    """Bots that were lost while the program was down never come back, because the watermarks say that all is well."""
    recall, store = Workspace(), MemoryWatermarks()
    recall.changes = {calendar_id: {10, 20} for calendar_id in CALENDARS}

    async def main() -> None:
        for calendar_id in CALENDARS:
            await store.set(calendar_id, moment(1000))
        async with CalendarSyncer(recall, policy, watermarks=store) as syncer:
            await syncer.drain()
            assert recall.applied == recall.changes

    run(main())
    assert sorted(recall.listed) == [(calendar_id, None) for calendar_id in sorted(CALENDARS)]


def test_full_rounds_come_again():
    """What no delivery tells of, such as a bot that somebody took away, is never put right."""
    recall = Workspace()

    async def main() -> None:
        async with CalendarSyncer(recall, policy, full_every=3600) as syncer:
            await syncer.drain()
            recall.changes[ONE].add(5)
            await asyncio.sleep(1800)
            assert recall.applied[ONE] == set()
            await asyncio.sleep(1801)
            await syncer.drain()
            assert recall.applied[ONE] == {5}

    run(main())
    assert recall.listings() == [None, None]


def test_without_full_rounds():
    """A syncer that is told not to make full rounds makes some."""
    recall = Workspace()

    async def main() -> None:
        async with CalendarSyncer(recall, policy, full_every=None):
            await asyncio.sleep(7 * DAY)

    run(main())
    assert recall.listed == []


@pytest.mark.parametrize(
    ("store", "listed"), [(MemoryWatermarks(), 30), (Broken("get"), None), (RedisWatermarks(Garbage()), None)]
)
def test_without_full_rounds_the_store_says_where_to_begin(store: Any, listed: float | None):
    """A watermark that was stored is of no use to anybody, or one that cannot be read is taken for a late one."""
    recall = FakeRecall()
    recall.changes[ONE] = {30, 40}

    async def main() -> None:
        with suppress(ConnectionError):
            await store.set(ONE, moment(30))
        async with CalendarSyncer(recall, policy, watermarks=store, full_every=None) as syncer:
            await syncer.handle(sync_events(seconds=35))

    run(main())
    assert recall.listings() == [listed]


def test_a_full_round_survives_an_outage():
    """The API is away for a moment at the start, and nobody looks at anything until the next round."""
    recall = Workspace()
    recall.list_errors = [ConnectionFailedError("refused")] * 3

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            await syncer.drain()

    run(main())
    assert len(recall.listed) == len(CALENDARS)


def test_a_full_round_notes_who_is_disconnected():
    """A disconnected calendar costs a listing in each round, or nobody learns of it."""
    recall = Workspace()
    recall.disconnected = {ONE}

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            await syncer.drain()
            assert syncer.disconnected == {ONE}
            assert recall.listings() == []
            recall.disconnected, recall.changes[ONE] = set(), {5}
            await asyncio.sleep(DAY)
            assert syncer.disconnected == frozenset()

    run(main())
    assert recall.applied[ONE] == {5}


def test_a_calendar_that_is_connected_again_is_looked_at_as_a_whole():
    """A delivery for a calendar that was connected again looks at one event, and the other bots stay away."""
    recall = FakeRecall()

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            await begin(syncer, recall)
            recall.disconnected = {ONE}
            await syncer.handle(sync_events(seconds=10))
            await syncer.drain()
            recall.disconnected, recall.changes[ONE], recall.applied[ONE] = set(), {1, 20}, set()
            await syncer.handle(sync_events(seconds=20))

    run(main())
    assert recall.applied[ONE] == {1, 20}


@pytest.mark.parametrize("error", [ValueError("x"), ConfigurationError("key too long"), NotFoundError("no such user")])
def test_a_policy_that_raises_costs_its_own_event(error: Exception, caplog: pytest.LogCaptureFixture):
    """One event that a policy cannot decide on keeps a whole calendar from getting bots, for ever."""
    recall, store, errors = Workspace(), MemoryWatermarks(), []
    recall.asked, recall.changes[ONE] = True, {1, 2, 3}
    bad = {decision(ONE, 2).event_id}

    def judge(event: Any, calendar: Any) -> BotSpec:
        if event.id in bad:
            raise error
        return BotSpec("key")

    async def main() -> None:
        settings: dict[str, Any] = {"watermarks": store, "backoff": 1, "full_every": None}
        async with CalendarSyncer(recall, judge, on_error=lambda *each: errors.append(each), **settings) as syncer:
            await syncer.handle(sync_events(seconds=1))
            await asyncio.sleep(20)
            assert recall.applied[ONE] == {1, 3}
            assert await store.get(ONE) == moment(2)
            assert set(errors) == {(ONE, error)}
            assert "the policy failed" in caplog.text
            bad.clear()
            recall.changes[ONE].add(30)
            await syncer.handle(sync_events(seconds=30))
            await syncer.drain()
            assert await store.get(ONE) == moment(30)

    run(main())
    assert recall.applied[ONE] == {1, 2, 3, 30}


def test_a_policy_that_always_raises_is_logged_once(caplog: pytest.LogCaptureFixture):
    """A broken policy fills the log with a traceback for each of ten thousand events."""
    recall, errors = Workspace(), []
    recall.asked, recall.changes[ONE] = True, set(range(100))

    async def main() -> None:
        async with CalendarSyncer(
            recall, policy=lambda event, calendar: 1 / 0, full_every=None, on_error=lambda *each: errors.append(each)
        ) as syncer:
            await syncer.handle(sync_events(seconds=1))
            await asyncio.sleep(0.4)

    run(main())
    lines = [record.message for record in caplog.records if "the policy failed for 100 events" in record.message]
    assert 1 <= len(lines) == len(errors) // 100 == len(recall.listed)


def test_a_policy_that_is_cancelled_from_within_costs_its_own_event(caplog: pytest.LogCaptureFixture):
    """A policy whose database cancels its query takes its whole calendar with it: the sync's task ends without a word."""
    recall, errors = Workspace(), []
    recall.asked, recall.changes[ONE] = True, {1, 2, 3}
    bad = {decision(ONE, 2).event_id}

    def judge(event: Any, calendar: Any) -> BotSpec:
        if event.id in bad:
            raise asyncio.CancelledError
        return BotSpec("key")

    async def main() -> None:
        async with CalendarSyncer(recall, judge, full_every=None, on_error=lambda *each: errors.append(each)) as syncer:
            await syncer.handle(sync_events(seconds=1))
            await asyncio.sleep(5)
            assert recall.applied[ONE] == {1, 3}
            assert {type(error) for _, error in errors} == {RuntimeError}
            bad.clear()
            await syncer.drain()

    run(main())
    assert recall.applied[ONE] == {1, 2, 3}


def test_a_policy_does_not_hold_up_the_end():
    """A sync that is cancelled while its policy waits goes on, because that looks like a failure of the policy."""
    recall = Workspace()
    recall.asked, recall.changes[ONE] = True, {1}
    ends = []

    async def judge(event: Any, calendar: Any) -> BotSpec:
        try:
            await asyncio.sleep(1e6)
        finally:
            ends.append(event.id)
        raise AssertionError

    async def main() -> None:
        syncer = CalendarSyncer(recall, judge, full_every=None)
        await syncer.handle(sync_events(seconds=1))
        await asyncio.sleep(5)
        await syncer.aclose(timeout=1)

    run(main())
    assert len(ends) == 1


@pytest.mark.parametrize("error", [KeyError("metrics"), asyncio.CancelledError()])
def test_a_callback_that_raises_harms_nobody(error: BaseException, caplog: pytest.LogCaptureFixture):
    """A mistake in the metrics makes a syncer schedule everything again and again."""
    recall, errors = FakeRecall(), []
    recall.changes[ONE] = {1, 2, 3}

    def fail(outcome: Outcome) -> None:
        raise error

    async def main() -> None:
        async with CalendarSyncer(
            recall, policy, on_outcome=fail, on_error=lambda *each: errors.append(each)
        ) as syncer:
            await syncer.handle(sync_events(seconds=1))
            await asyncio.sleep(600)

    run(main())
    assert (recall.applied[ONE], errors, recall.listings()) == ({1, 2, 3}, [], [None])
    assert caplog.text.count("on_outcome failed") == 1


@pytest.mark.parametrize("store", [Broken("get"), Broken("set"), Broken("get", "set"), RedisWatermarks(Garbage())])
def test_a_store_that_fails_is_survived(store: Any):
    """A Redis that is away, or holds something else, keeps all calendars from being synced."""
    recall, errors = FakeRecall(), []
    recall.changes[ONE] = {1, 2}

    async def main() -> None:
        async with CalendarSyncer(
            recall, policy, watermarks=store, on_error=lambda *each: errors.append(each)
        ) as syncer:
            await syncer.catch_up([ONE])
            await syncer.drain()
            recall.changes[ONE].add(30)
            await syncer.handle(sync_events(seconds=30))

    run(main())
    assert (recall.applied[ONE], errors) == ({1, 2, 30}, [])
    assert recall.listings() == [None, 2]


class Holds(MemoryWatermarks):
    """A store that has something odd for every calendar."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    async def get(self, calendar_id: str) -> Any:
        return self.value


@pytest.mark.parametrize(
    "value", [datetime.max.replace(tzinfo=UTC), datetime.now(UTC) + timedelta(days=1), datetime(2020, 1, 1), 7, "x"]
)
def test_an_odd_watermark_is_no_watermark(value: Any, caplog: pytest.LogCaptureFixture):
    """A watermark that somebody's clock or store spoiled hides all changes before it, or ends the syncing."""
    recall = FakeRecall()
    recall.changes[ONE] = {1, 2}

    async def main() -> None:
        async with CalendarSyncer(recall, policy, watermarks=Holds(value), full_every=None) as syncer:
            await syncer.catch_up([ONE])

    run(main())
    assert recall.applied[ONE] == {1, 2}
    assert recall.listings() == [None]
    assert "all its events are read" in caplog.text


def test_a_calendar_that_is_gone_is_forgotten():
    """A disconnected calendar that was deleted counts as disconnected for ever, and full rounds ask for it."""
    recall = Workspace()
    recall.disconnected.add(ONE)

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            await syncer.drain()
            assert ONE in syncer.disconnected
            recall.errors.append(NotFoundError("no such calendar"))
            await syncer.handle(sync_events(seconds=1))
            await syncer.drain()
            assert ONE not in syncer.disconnected

    run(main())


def test_a_sync_that_was_cut_off_is_made_up_for():
    """A delivery that was acknowledged before the program ended is forgotten: the next one's watermark passes the gap."""
    recall, store = FakeRecall(latency=5), MemoryWatermarks()
    recall.changes[ONE] = {1, 2, 3}

    async def main() -> None:
        syncer = CalendarSyncer(recall, policy, watermarks=store)
        await syncer.handle(sync_events(seconds=1))
        await asyncio.sleep(0.1)
        await syncer.aclose(timeout=1)
        assert recall.applied[ONE] == set()
        recall.changes[ONE].add(100)
        async with CalendarSyncer(recall, policy, watermarks=store) as syncer:
            await syncer.handle(sync_events(seconds=100))

    run(main())
    assert recall.applied[ONE] == {1, 2, 3, 100}


def test_a_refused_event_is_left_to_the_next_sync():
    """A request that the firewall refuses is sent again for ever, and the calendar never gets in order."""
    recall, store = FakeRecall(), MemoryWatermarks()
    recall.changes[ONE] = {1, 2}
    recall.outcome_errors = [RequestBlockedError("blocked")]

    async def main() -> None:
        async with CalendarSyncer(recall, policy, watermarks=store, full_every=None) as syncer:
            await syncer.handle(sync_events(seconds=1))
            await asyncio.sleep(3600)
            assert await store.get(ONE) == moment(1)

    run(main())
    assert recall.listings() == [None]


def test_a_forgotten_cursor_is_not_a_calendar_that_is_gone():
    """A list that the server forgot in the middle makes the syncer give the calendar up."""
    recall = FakeRecall()
    recall.changes[ONE] = {1}
    recall.errors = [NotFoundError("Invalid cursor.", operation="calendar_events.list")]

    async def main() -> None:
        async with CalendarSyncer(recall, policy) as syncer:
            await syncer.handle(sync_events(seconds=1))
            await syncer.drain()

    run(main())
    assert recall.applied[ONE] == {1}


@pytest.mark.parametrize("timeout", [0, 0.5, 10])
def test_closing_can_be_bounded(timeout: float, caplog: pytest.LogCaptureFixture):
    """A program whose quota is used up cannot end before an orchestrator kills it."""
    recall = FakeRecall(latency=3600)

    async def main() -> float:
        syncer = CalendarSyncer(recall, policy)
        for calendar_id in CALENDARS[:2]:
            await syncer.handle(sync_events(calendar_id))
        await asyncio.sleep(0.1)
        began = asyncio.get_running_loop().time()
        await syncer.aclose(timeout=timeout)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return asyncio.get_running_loop().time() - began

    assert timeout <= run(main()) < timeout + 0.1
    (line,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert [calendar_id for calendar_id in CALENDARS if calendar_id in line] == CALENDARS[:2]


@pytest.mark.parametrize("error", [None, LookupError("the app failed")])
def test_leaving_is_bounded(error: Exception | None, caplog: pytest.LogCaptureFixture):
    """A web backend whose API hangs never stops: at the end of `async with`, its syncer waits without a bound."""
    recall = Workspace(latency=1e6)

    async def main() -> float:
        async with CalendarSyncer(recall, policy) as syncer:
            await syncer.handle(sync_events())
            began = asyncio.get_running_loop().time()
            if error is not None:
                raise error
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return asyncio.get_running_loop().time() - began

    if error is None:
        assert 10 <= run(main()) < 10.1
    else:
        with pytest.raises(LookupError):
            run(main())
    (line,) = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert ONE in line
    assert "full round" in line


def test_a_close_without_a_bound_waits():
    """A script that must finish its deliveries, however long they take, cannot."""
    recall = FakeRecall(latency=3600)
    recall.changes[ONE] = {1}

    async def main() -> None:
        syncer = CalendarSyncer(recall, policy)
        await syncer.handle(sync_events())
        await syncer.aclose(timeout=None)

    run(main())
    assert recall.applied == recall.changes | {ONE: {1}}


def test_closing_in_time_says_nothing(caplog: pytest.LogCaptureFixture):
    """A log tells of unapplied changes where there are none."""

    async def main() -> None:
        syncer = CalendarSyncer(FakeRecall(), policy)
        await syncer.handle(sync_events())
        await syncer.aclose(timeout=60)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
    assert not caplog.records


@pytest.mark.parametrize("wrong", [-1, float("nan"), "5", True])
def test_times_that_cannot_be(wrong: Any):
    """A wrong time limit is noticed at the first shutdown in production."""

    async def main() -> None:
        syncer = CalendarSyncer(FakeRecall(), policy)
        with pytest.raises(ConfigurationError, match="timeout must be"):
            await syncer.aclose(timeout=wrong)
        await syncer.aclose()

    run(main())
    with pytest.raises(ConfigurationError, match="full_every must be"):
        CalendarSyncer(FakeRecall(), policy, full_every=wrong)


class Swallowing(FakeRecall):
    """Something below the syncer swallows cancellations, as libraries do now and then."""

    def __init__(self, times: int) -> None:
        super().__init__(latency=0)
        self.left = times

    async def plan(self, **arguments: Any) -> Plan:
        while True:
            try:
                await asyncio.sleep(1e6)
            except asyncio.CancelledError:
                if self.left == 0:
                    raise
                self.left -= 1


@pytest.mark.parametrize(("times", "timeout"), [(1, None), (3, None), (1, 1.0), (10**6, 1.0)])
def test_a_cancellation_that_is_swallowed(times: int, timeout: float | None):
    """A program waits for ever at its end for a sync that did not notice that it was cancelled."""
    recall = Swallowing(times)

    async def main() -> None:
        syncer = CalendarSyncer(recall, policy)
        await syncer.handle(sync_events())
        await asyncio.sleep(0.1)
        if timeout is not None:
            await syncer.aclose(timeout=timeout)
        else:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await syncer.aclose(timeout=None)
            assert recall.left == 0
            assert asyncio.all_tasks() == {asyncio.current_task()}
        recall.left = 0

    run(main())


def test_ids_of_events_here_are_those_of_changes():
    """The policy here would be asked about other events than those that changed."""
    assert decision(ONE, 2).event_id == uuid(2000) == event(2000).id
