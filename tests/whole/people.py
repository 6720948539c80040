"""Who uses the client in a run: people who call, bulk jobs that are interrupted and started again, and a janitor who closes
sessions, opens new ones and sets the clock on the wall.

Everybody writes down what the client told them, by which the run is judged. Each has events of their own and acts on one
event after the other, so that what shall be there in the end is known.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

from recall_async import (
    APIError,
    CalendarEvent,
    ConfigurationError,
    Journal,
    Outcome,
    Priority,
    RecallError,
    RecallSession,
    RemoveBot,
    ScheduleBot,
)
from tests.whole.server import EPOCH, Event, Server

if TYPE_CHECKING:
    from tests.whole.owners import Owner


@dataclass(eq=False)
class Story:
    """What the client told of one call."""

    operation: str
    target: str
    nonce: str | None
    deadline: float | None
    begun: float
    ended: float | None = None
    error: BaseException | None = None
    answer: Any = None
    cancelled: bool = False

    @property
    def done(self) -> bool:
        """The call succeeded."""
        return self.error is None

    @property
    def attempts(self) -> int | None:
        """How many requests were sent, if the client told."""
        return self.error.attempts if isinstance(self.error, RecallError) else None

    @property
    def without_effect(self) -> bool:
        """The client told that nothing took effect."""
        refused = isinstance(self.error, APIError) and 400 <= self.error.status < 500 and self.attempts == 1
        return self.attempts == 0 or refused or isinstance(self.error, ConfigurationError)


@dataclass
class Office:
    """What everybody in a run shares."""

    random: Random
    server: Server
    open_session: Callable[[int], RecallSession]
    """Opens the session of a place in `sessions`."""
    sessions: list[RecallSession] = field(default_factory=list)
    closings: list[float] = field(default_factory=list)
    stories: list[Story] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    owners: list[Owner] = field(default_factory=list)
    names: int = 0

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def session(self) -> RecallSession:
        """One of the sessions that are open."""
        return self.random.choice(self.sessions)

    def name(self) -> str:
        """A name that nothing else in the run has."""
        self.names += 1
        return f"n{self.names}"

    def new_event(self, **fields: Any) -> str:
        """An event that nobody else has."""
        random, number = self.random, len(self.server.events)
        target = f"00000000-0000-4000-8000-{number:012x}"
        fields = fields or {"over": random.random() < 0.05, "dispatched": random.random() < 0.05}
        self.server.events[target] = Event(**fields)
        return target


class Person:
    """Makes one call after the other, and now and then many at once."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._events = [office.new_event() for _ in range(office.random.randint(1, 2))]
        self._nowhere = self._events[0].replace("8000", "ffff")  # the id of no event

    async def work(self, calls: int, pause: float) -> None:
        random = self._office.random
        for _ in range(calls):
            await asyncio.sleep(random.random() * pause)
            many = 1 if random.random() < 0.9 else random.randint(2, 8)
            operations = [random.choice(("calendar_events.retrieve", "calendar_events.schedule_bot"))] * many
            target = random.choice(self._events)
            if many == 1:
                weights = {
                    "calendar_events.schedule_bot": 5, "calendar_events.remove_bot": 3, "calendar_events.retrieve": 2,
                    "calendar_events.list": 1, "calendars.create": 1, "wrong id": 1, "no id": 1,
                }  # fmt: skip
                operations = random.choices(list(weights), list(weights.values()))
            async with asyncio.TaskGroup() as group:
                for operation in operations:
                    group.create_task(self._call(operation, target))

    async def _call(self, operation: str, target: str) -> None:
        office, random = self._office, self._office.random
        if operation in ("wrong id", "no id"):
            target = self._nowhere if operation == "wrong id" else "7"
            operation = random.choice(("calendar_events.schedule_bot", "calendar_events.remove_bot"))
        deadline = random.choice((None, None, 0.0, random.random() * 2, random.random() * 20))
        story = Story(operation, target, office.name(), deadline, office.now())
        office.stories.append(story)
        task = asyncio.ensure_future(self._perform(story, office.session()))
        if random.random() < 0.15:
            await asyncio.wait([task], timeout=random.choice((0.0, 0.05, 1.0, 5.0)) * random.random())
            story.cancelled = task.cancel()
        await asyncio.wait([task])  # so that who ends the run is not taken for who cancels the task
        try:
            story.answer = task.result()
        except (RecallError, asyncio.CancelledError) as error:
            story.error = error
        story.ended = office.now()

    async def _perform(self, story: Story, session: RecallSession) -> Any:
        random, target = self._office.random, story.target
        options: dict[str, Any] = {"deadline": story.deadline, "priority": random.choice(list(Priority))}
        match story.operation:
            case "calendar_events.schedule_bot":
                start = random.choice((None, EPOCH + timedelta(days=random.randint(1, 3))))
                key = f"key of {target}"
                config = {"bot_name": story.nonce}
                return await session.calendar_events.schedule_bot(
                    target, deduplication_key=key, bot_config=config, start_time=start, **options
                )
            case "calendar_events.remove_bot":
                return await session.calendar_events.remove_bot(target, **options)
            case "calendar_events.retrieve":
                return await session.calendar_events.retrieve(target, **options)
            case "calendar_events.list":
                return [event async for event in session.calendar_events.list(**options)]
        return await session.calendars.create(
            platform="google_calendar", oauth_client_id="i", oauth_client_secret="s", oauth_refresh_token="r",
            oauth_email=story.nonce, **options,
        )  # fmt: skip


class Job:
    """A bulk job with a journal, which is interrupted and started again until it is through."""

    def __init__(self, office: Office, folder: str, actions: int) -> None:
        self._office = office
        random = office.random
        self.journal = os.path.join(folder, f"{office.name()}.jsonl") if random.random() < 0.8 else None
        self.actions: list[ScheduleBot | RemoveBot] = []
        self.nonces: dict[str, int] = {}
        """Which action has which name."""
        self.periods: list[tuple[float, float]] = []
        """When it ran."""
        self.outcomes: list[Outcome] = []
        """Those of the last run."""
        self.finished = False
        self.errors: list[BaseException] = []
        self.told: list[tuple[float, Outcome]] = []
        """When an action was told to be done, in any run."""
        self.torn = False
        """A line of the journal was lost."""
        events = [office.new_event() for _ in range(max(1, actions * 3 // 4))]
        starts = {event: random.choice((None, random.randint(3, 5), -3)) for event in events}
        for _ in range(actions):
            event = random.choice(events)
            days = starts[event]
            start = None if days is None else EPOCH + timedelta(days=days)
            if random.random() < 0.7:
                name = office.name()
                self.nonces[name] = len(self.actions)
                key = f"key {random.randint(1, 2)} of {event}"
                self.actions.append(ScheduleBot(event, key, {"bot_name": name}, start))
            else:
                self.actions.append(RemoveBot(event, start))
        self._retry_failed = False
        self._collection = random.random() < 0.5

    async def work(self) -> None:
        """Run it up to six times, until it is through."""
        for _ in range(6):
            await self._run(self._office.random.choice(("", "", "stop", "close", "cancel", "leave")))
            if self.finished and self._office.random.random() < 0.7:
                return
            await asyncio.sleep(self._office.random.random() * 3)

    async def finish(self) -> None:
        """Run it without interruption, and repeat what failed."""
        self._retry_failed = True
        await self._run("")

    async def _run(self, interruption: str) -> None:
        office, random = self._office, self._office.random
        self.outcomes, self.finished = [], False
        begun = office.now()
        task = asyncio.ensure_future(self._fetch(interruption, random.randint(0, len(self.actions))))
        if interruption == "cancel":
            await asyncio.wait([task], timeout=random.random() * 10)
            task.cancel()
        await asyncio.wait([task])
        try:
            task.result()
        except (RecallError, asyncio.CancelledError) as error:
            self.errors.append(error)
        self.periods.append((begun, office.now()))
        if self.journal is not None and interruption == "cancel" and random.random() < 0.2:
            self._tear(self.journal)

    def _tear(self, journal: str) -> None:
        """Leave the last line as it is when the process was killed while writing it."""
        if os.path.exists(journal) and (size := os.path.getsize(journal)):
            with open(journal, "rb+") as file:
                last = len(file.read().splitlines(keepends=True)[-1])
                file.truncate(size - self._office.random.randint(1, last))
            self.torn = True

    async def _fetch(self, interruption: str, number: int) -> None:
        random, session = self._office.random, self._office.session()
        actions = self.actions if self._collection else iter(self.actions)
        concurrency = random.choice((None, 1, 3))
        journal = None if self.journal is None else Journal(self.journal, retry_failed=self._retry_failed)
        run = session.bulk(actions, concurrency=concurrency, journal=journal, on_progress=lambda progress: None)
        try:
            async for outcome in run:
                self.outcomes.append(outcome)
                self.told.append((self._office.now(), outcome))
                if random.random() < 0.1:
                    await asyncio.sleep(random.random())
                if len(self.outcomes) == number and interruption == "stop":
                    run.stop()
                if len(self.outcomes) == number and interruption == "close":
                    await run.aclose()
                if len(self.outcomes) == number and interruption == "leave":
                    break
            else:
                self.finished = len(self.outcomes) == len(self.actions)
                if not interruption:
                    assert self.finished, f"a job of {len(self.actions)} actions had {len(self.outcomes)} outcomes"
        finally:
            await run.aclose()


class Janitor:
    """Closes sessions and opens others, and sets the clock on the wall."""

    def __init__(self, office: Office, set_clock: Callable[[float], None]) -> None:
        self._office = office
        self._set_clock = set_clock

    async def work(self) -> None:
        office, random = self._office, self._office.random
        while True:
            await asyncio.sleep(random.random() * 20)
            self._set_clock(random.choice((0.0, 0.0, random.uniform(-43200, 43200))))
            if random.random() < 0.5:
                continue
            place = random.randrange(len(office.sessions))
            old, office.sessions[place] = office.sessions[place], office.open_session(place)
            office.closings.append(office.now())
            await old.aclose()


def bots_of(answer: object) -> set[str]:
    """The names of the bots in an answer."""
    assert isinstance(answer, CalendarEvent)
    return {bot.bot_id for bot in answer.bots}
