"""Owners of calendars: they move, want, do not want and delete their events, while plans are made and applied, or while
a syncer hears of it, sooner or later, or never."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta

from recall_async import BotSpec, Calendar, CalendarEvent, CalendarSyncer, RecallError
from recall_async.sync.watermarks import MemoryWatermarks
from recall_async.webhooks import CalendarSyncEvents, WebhookEvent
from tests.whole.people import Office
from tests.whole.server import EPOCH

AHEAD = timedelta(days=2000)
"""How far ahead the events are: whether it is too late for a bot is decided by the real clock."""


class Owner:
    """A calendar with some events, for which plans are made and applied again and again, whatever comes in between."""

    def __init__(self, office: Office, events: int) -> None:
        self._office = office
        server = office.server
        self.calendar = f"00000000-0000-4000-9000-{len(server.calendars):012x}"
        server.calendars[self.calendar] = ""
        self.events = [office.new_event(calendar=self.calendar, start=EPOCH + AHEAD) for _ in range(events)]
        self.periods: list[tuple[float, float]] = []
        """When plans were made or applied."""
        self.complaints: list[str] = []

    async def work(self) -> None:
        """Make and apply plans while things change; some are interrupted."""
        office, random = self._office, self._office.random
        for _ in range(random.randint(1, 4)):
            for _ in range(random.randint(0, 3)):
                self._change()
            begun = office.now()
            task = asyncio.ensure_future(self._sync())
            await asyncio.wait([task], timeout=random.choice((None, random.random() * 20)))
            interrupted = task.cancel()
            await asyncio.wait([task])
            try:
                task.result()
            except RecallError:
                pass
            except asyncio.CancelledError:
                if not interrupted:
                    raise
            self.periods.append((begun, office.now()))
            await asyncio.sleep(random.random() * 5)

    def _change(self) -> None:
        """Something happens to an event."""
        random, server = self._office.random, self._office.server
        event = server.events[random.choice(self.events)]
        what = random.choice(("move", "want", "delete"))
        if what == "move":
            event.start += timedelta(hours=random.randint(1, 5))
        elif what == "want":
            event.wanted = not event.wanted
        elif random.random() < 0.3:
            event.deleted = True
            event.bots.clear()
        event.changed = server.now()

    def _policy(self, event: CalendarEvent, calendar: Calendar) -> BotSpec | None:
        if event.ical_uid == "unwanted":
            return None
        return BotSpec(f"key of {event.id}", {"bot_name": self._office.name()})

    async def _sync(self) -> None:
        """One plan, applied."""
        session, random = self._office.session(), self._office.random
        plan = await session.plan(policy=self._policy, calendars=[self.calendar])
        outcomes = []
        run = session.apply(plan, recheck=random.choice((None, 0.0, 5.0)))
        try:
            async for outcome in run:
                outcomes.append(outcome)
                if random.random() < 0.2:
                    self._change()
        finally:
            await run.aclose()
        told = Counter(str(outcome.action.event_id) for outcome in outcomes)
        if len(outcomes) != len(plan) or any(target not in self.events for target in told):
            self.complaints.append(f"a plan of {len(plan)} actions had {len(outcomes)} outcomes")

    async def finish(self) -> None:
        """Without faults and changes, one plan is enough, and the next has nothing to do."""
        begun = self._office.now()
        session = self._office.session()
        await asyncio.sleep(100)  # what was planned before may still have been about to appear
        plan = await session.plan(policy=self._policy, calendars=[self.calendar])
        async for outcome in session.apply(plan):
            if outcome.status != "done":
                self.complaints.append(f"a plan could not be applied: {outcome}")
        left_alone = {decision.event_id for decision in plan.decisions if decision.reason == "flapping"}
        plan = await session.plan(policy=self._policy, calendars=[self.calendar])
        if len(plan):
            self.complaints.append(f"a plan after a plan has something to do: {list(plan)}")
        for target in self.events:
            event = self._office.server.events[target]
            wanted = event.wanted and not event.deleted
            right = [
                bot for bot in event.bots.values() if (bot.start, bot.meeting_url) == (event.start, event.meeting_url)
            ]
            if target not in left_alone and (len(event.bots), len(right)) != (wanted, wanted):
                self.complaints.append(f"event {target}, {event.wanted=}, {event.deleted=}, has {event.bots}")
        self.periods.append((begun, self._office.now()))


class SyncingOwner(Owner):
    """A calendar that a syncer keeps: deliveries about its changes are lost, late or repeated, and the syncer is closed
    and opened again, as its sessions are."""

    def __init__(self, office: Office, events: int) -> None:
        super().__init__(office, events)
        self._watermarks = MemoryWatermarks()

    def _open(self) -> CalendarSyncer:
        options = {"watermarks": self._watermarks, "full_every": None, "backoff_cap": 5.0}
        return CalendarSyncer(self._office.session(), self._policy, **options)  # type: ignore[arg-type]

    async def work(self) -> None:
        """Let things change under one syncer after the other."""
        office, random = self._office, self._office.random
        for _ in range(random.randint(1, 3)):
            begun, syncer = office.now(), self._open()
            try:
                await syncer.catch_up([self.calendar])
                for _ in range(random.randint(1, 5)):
                    before = office.server.now()
                    self._change()
                    await asyncio.sleep(random.random() * random.choice((0.1, 5.0)))
                    for _ in range(random.choice((0, 1, 1, 2))):
                        await syncer.handle(WebhookEvent("", CalendarSyncEvents(self.calendar, before)))
                    await asyncio.sleep(random.random() * random.choice((0.0, 5.0)))
            finally:
                await syncer.aclose(random.choice((0.0, 5.0, None)))
            self.periods.append((begun, office.now()))

    async def finish(self) -> None:
        """Without faults, one syncer that begins where the others ended makes all right."""
        begun, syncer = self._office.now(), self._open()
        await asyncio.sleep(100)  # what was planned before may still have been about to appear
        await syncer.catch_up([self.calendar])
        try:
            async with asyncio.timeout(900):
                await syncer.drain()
        except TimeoutError:
            self.complaints.append("a syncer without faults never ends")
        await syncer.aclose(0.0)
        plan = await self._office.session().plan(policy=self._policy, calendars=[self.calendar])
        if len(plan):
            self.complaints.append(f"a syncer left something to do: {list(plan)}")
        await super().finish()
        self.periods.append((begun, self._office.now()))
