"""Bots end up where they belong on any API, whatever is lost, repeated, refused, revoked or cut off on the way.

Each run follows from its seed, but for the order in which the machine does things at the same time:

    python -m pytest tests/sync/test_simulation.py -m "slow or not slow" -k "belong and 123"
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest

from recall_async import BotSpec, CalendarSyncer, MemoryWatermarks, Quota, RecallSession, RecordingPolicy, RetryPolicy
from recall_async.operations import OPERATIONS
from recall_async.sync.memory import Change
from recall_async.webhooks import CalendarSyncEvents, CalendarUpdate, WebhookEvent
from tests.sync import api as behaviour
from tests.sync.api import Api, Event

RULES = RecordingPolicy(skip_declined=True, title_excludes=["private"], bot_config={"bot_name": "Notes"})
QUOTAS = {name: Quota(100_000, 60, burst=100_000) for name in OPERATIONS}
SETTLING = 0.05
"""Seconds for which a bot that does not show is waited for, in place of a minute."""
FEW, ALL = range(12), range(200)


def random_api(rng: Random, calendars: int) -> Api:
    """An API with habits of its own."""
    url = rng.choice([lambda url: url, behaviour.without_fragment, behaviour.lower_host, behaviour.as_object])
    start = rng.choice([lambda start: start, behaviour.to_the_minute, behaviour.to_the_second])
    return Api(
        0,
        calendars=calendars,
        seed=rng.randrange(1000),
        url=url,
        start=start,
        delay=rng.choice([0.0, 0.0, 0.02]),
        in_place=rng.random() < 0.4,
        touches=rng.random() < 0.3,
        tells_status=rng.random() < 0.7,
        outlook=rng.random() < 0.4,
        spelling=rng.choice([str, str.upper, str.title]),
    )


class Recorded:
    """A history in memory, shared by all programs of a world."""

    def __init__(self) -> None:
        self.name = "recorded"
        self.changes: list[Change] = []

    async def read(self, place: Any) -> tuple[list[Change], int]:
        await asyncio.sleep(0)
        return self.changes[place or 0 :], len(self.changes)

    def add(self, change: Change) -> None:
        self.changes.append(change)


class World:
    """An API, people who change their calendars, and a program that is restarted now and then."""

    def __init__(self, seed: int, events: int = 0, calendars: int = 0) -> None:
        self.rng = Random(seed)
        self.api = random_api(self.rng, calendars or self.rng.choice([1, 2, 3]))
        self.store = MemoryWatermarks()
        self.history = Recorded() if self.rng.random() < 0.5 else None
        self.tag = self.rng.random() < 0.3
        self.starts = 0
        self.policy_fails = 0.0
        events = events or self.rng.randrange(5, 30)
        while len(self.api.events) < events:
            self.create()

    def policy(self, event: Any, calendar: Any) -> BotSpec | None:
        if self.rng.random() < self.policy_fails:
            raise self.rng.choice([LookupError, RuntimeError])("the database is away")
        return RULES(event, calendar)

    # What people do; each gives the calendars of which a delivery tells.

    def create(self) -> set[str]:
        first, *others = self.rng.sample(list(self.api.calendars), len(self.api.calendars))
        url = None if self.rng.random() < 0.1 else ""
        event = self.api.create(first, timedelta(minutes=self.rng.randrange(60, 10_000), seconds=18), url)
        copies = [self.api.share(event, other) for other in others if url == "" and self.rng.random() < 0.4]
        return {each.calendar_id for each in (event, *copies)}

    def change(self) -> set[str]:
        kind = self.rng.choice(["create", "move", "move", "relink", "decline", "accept", "rename", "delete", "revoke"])
        events = [event for event in self.api.events.values() if not event.is_deleted]
        if kind == "create" or not events:
            return self.create()
        event = self.rng.choice(events)
        if kind == "revoke":
            calendar_id = self.rng.choice(list(self.api.calendars))
            connected = self.api.calendars[calendar_id]["status"] == "connected"
            (self.api.revoke if connected else self.api.reconnect)(calendar_id)
            return {calendar_id}
        copies = [each for each in events if each.start == event.start and each.url == event.url and each.url]
        changed = copies if kind in ("move", "relink") and self.rng.random() < 0.7 else [event]
        shift, link = timedelta(minutes=self.rng.randrange(1, 600)), f"https://zoom.us/j/{self.rng.randrange(10**9)}"
        for each in changed:
            changes: dict[str, dict[str, Any]] = {
                "move": {"start": each.start + shift},
                "relink": {"url": link},
                "decline": {"response": "declined"},
                "accept": {"response": "accepted"},
                "rename": {"title": self.rng.choice(["Weekly sync", "Private\u00a0call"])},
                "delete": {"is_deleted": True},
            }
            self.api.touch(each, **changes[kind])
        return {each.calendar_id for each in changed}

    # What the program does.

    def session(self) -> RecallSession:
        """A session of a program that remembers nothing of the one before."""
        self.starts += 1
        retry = RetryPolicy(backoff=0.001, backoff_cap=0.01)
        name = f"start {self.starts}"
        return RecallSession("key", base_url=self.api.url, workspace=name, quotas=QUOTAS, retry=retry)

    def syncer(self, recall: RecallSession) -> CalendarSyncer:
        settings: dict[str, Any] = {"history": self.history, "tag": self.tag, "watermarks": self.store}
        return CalendarSyncer(recall, self.policy, backoff=0.002, backoff_cap=0.02, **settings)

    async def deliver(self, syncer: CalendarSyncer, calendar_id: str) -> None:
        """A delivery: lost, repeated, late, or of the calendar itself."""
        moment = datetime.now(UTC) - timedelta(milliseconds=self.rng.choice([0, 0, 50, 5000]))
        event = WebhookEvent("calendar.sync_events", CalendarSyncEvents(calendar_id, moment))
        if self.rng.random() < 0.2:
            event = WebhookEvent("calendar.update", CalendarUpdate(calendar_id))
        for _ in range(self.rng.choice([0, 1, 1, 1, 2])):
            await syncer.handle(event)

    async def live(self, changes: int) -> None:
        """One life of the program, which ends at a random moment."""
        async with self.session() as recall, self.another_program():
            syncer = self.syncer(recall)
            async with syncer:
                for _ in range(changes):
                    for calendar_id in self.change():
                        await self.deliver(syncer, calendar_id)
                    await asyncio.sleep(self.rng.choice([0, 0, 0.001, 0.02]))
                await syncer.aclose(timeout=self.rng.choice([0, 0.001, 0.05]))

    @asynccontextmanager
    async def another_program(self) -> AsyncIterator[None]:
        """Now and then another program makes a plan before a life, and applies it after."""
        if self.rng.random() < 0.6:
            yield
            return
        async with self.session() as recall:
            with suppress(Exception):  # what it does not know or cannot reach ends it
                plan = await recall.plan(policy=self.policy, history=self.history)
            yield
            with suppress(Exception):
                async for _ in recall.apply(plan, history=self.history, max_outage=0.01):
                    pass

    async def settle(self) -> None:
        """The last life: nothing fails any more, nothing changes, and full rounds come by."""
        self.api.down = self.policy_fails = 0.0
        for calendar_id, calendar in self.api.calendars.items():
            if calendar["status"] == "disconnected" and self.rng.random() < 0.7:
                self.api.reconnect(calendar_id)
        async with self.session() as recall:
            for _ in range(4):
                async with self.syncer(recall) as syncer:
                    await syncer.drain()
                await asyncio.sleep(2 * self.api.behaviour.delay + (SETTLING if self.history is not None else 0))
            plan = await recall.plan(policy=RULES, history=self.history, tag=self.tag)
            assert not plan, str(plan)
            assert not plan.flapping

    # What should be there.

    def belongs(self, event: Event) -> bool:
        connected = self.api.calendars[event.calendar_id]["status"] == "connected"
        named = "private" not in event.title.lower()
        return bool(connected and event.url and not event.is_deleted and event.response != "declined" and named)

    def check(self) -> None:
        bots = self.api.shown()
        disconnected = {key for key, each in self.api.calendars.items() if each["status"] == "disconnected"}
        for event in self.api.events.values():
            if event.calendar_id in disconnected:
                continue
            expected = None
            if self.belongs(event):
                start = event.start.astimezone(UTC)
                key = f"{start:%Y-%m-%dT%H:%M:%S}.{start.microsecond // 1000:03}Z-{event.url}"
                expected = (key, event.start, event.url)
            assert bots[event.id] == expected, event
        keys = [bot.key for bot in self.api.bots.values()]
        assert len(keys) == len(set(keys))


@pytest.fixture(autouse=True)
def settles_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recall_async.sync.apply.SETTLING_TIME", SETTLING)


async def simulate(seed: int) -> World:
    world = World(seed)
    async with world.api:
        for _ in range(world.rng.randrange(1, 5)):
            world.api.down = world.rng.choice([0.0, 0.0, 0.1, 0.3])
            world.policy_fails = world.rng.choice([0.0, 0.0, 0.2])
            await world.live(world.rng.randrange(1, 15))
        await world.settle()
        world.check()
    return world


@pytest.mark.parametrize("seed", [*FEW, *(pytest.param(seed, marks=pytest.mark.slow) for seed in ALL[len(FEW) :])])
async def test_bots_end_up_where_they_belong(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """On some API, after some accident, a bot stays behind, never comes, comes twice, or is asked for for ever."""
    caplog.set_level(logging.CRITICAL, "recall_async")
    await simulate(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
async def test_two_thousand_events_and_three_hundred_changes(seed: int, caplog: pytest.LogCaptureFixture) -> None:
    """What holds for a few events does not for many, which take several pages and quotas."""
    caplog.set_level(logging.CRITICAL, "recall_async")
    world = World(seed, events=2000, calendars=8)
    async with world.api:
        for _ in range(6):
            world.api.down = world.rng.choice([0.0, 0.02])
            await world.live(50)
        await world.settle()
        world.check()
        assert len(world.api.bots) > 400


async def test_the_simulation_would_notice() -> None:
    """The simulation ends with everything in order because nothing was done, or because it does not look."""
    world = World(3)
    async with world.api:
        await world.settle()
        assert any(world.api.bots)
        event = next(event for event in world.api.events.values() if event.bot)
        world.api.release(event)
        with pytest.raises(AssertionError):
            world.check()
