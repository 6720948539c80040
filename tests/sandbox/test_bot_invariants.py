"""Whatever happens to events, bots and references to them agree."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from recall_async.sandbox.documents import Event
from recall_async.sandbox.replies import Refusal
from recall_async.sandbox.settings import Settings, SharedBots
from recall_async.sandbox.state import State

EVENTS = st.integers(0, 3)
KEYS = st.sampled_from(["a", "b", "c"])


class Bots(RuleBasedStateMachine):
    """Four events whose bots are scheduled, removed, moved and overtaken by time."""

    shared_bots: SharedBots = "detach"

    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2025, 6, 10, 12, tzinfo=UTC)
        self.state = State(Settings(seed=1, now=lambda: self.now, events=4, calendars=2, shared_bots=self.shared_bots))
        self.events = list(self.state.events.values())

    @rule(number=EVENTS, key=KEYS, join_in=st.none() | st.integers(-2, 2))
    def schedule(self, number: int, key: str, join_in: int | None) -> None:
        event = self.events[number]
        if event.document.is_deleted:
            return
        start_time = None if join_in is None else self.now + timedelta(hours=join_in)
        self.state.schedule(event, key, {}, start_time=start_time, meeting_url=None, now=self.now)
        assert event.document.bots[-1].deduplication_key == key
        assert event.document.bots[-1].start_time == (start_time or event.document.start_time)

    @rule(number=EVENTS)
    def remove(self, number: int) -> None:
        event = self.events[number]
        before = list(event.document.bots)
        over = [entry for entry in before if entry.start_time <= self.now]
        if over and event.document.start_time <= self.now:
            with pytest.raises(Refusal):
                self.state.remove(event, self.now)
            assert event.document.bots == before
        else:
            self.state.remove(event, self.now)
            assert event.document.bots == over

    @rule(number=EVENTS, hours=st.integers(-30, 30))
    def move(self, number: int, hours: int) -> None:
        self.state.move_event(self.events[number], self.now + timedelta(hours=hours), self.now)

    @rule(number=EVENTS)
    def delete(self, number: int) -> None:
        self.state.delete_event(self.events[number], self.now)
        assert self.events[number].document.bots == []

    @rule(hours=st.integers(1, 48), alive=st.booleans())
    def wait(self, hours: int, alive: bool) -> None:
        self.now += timedelta(hours=hours)
        if alive:
            self.state.tick(self.now)
            due = self.state.next_due()
            assert due is None or due > self.now

    @invariant()
    def bots_live_in_order(self) -> None:
        for bot in self.state.bots.values():
            times = [change.created_at for change in bot.status_changes]
            assert times == sorted(times)
            assert len({change.code for change in bot.status_changes}) == len(bot.status_changes)

    @invariant()
    def references_and_bots_agree(self) -> None:
        references: dict[str, set[str]] = {}
        for event in self.events:
            ids = [entry.bot_id for entry in event.document.bots]
            assert len(set(ids)) == len(ids)
            for bot_id in ids:
                references.setdefault(bot_id, set()).add(event.document.id)
        assert set(self.state._live_bots.values()) <= set(self.state.bots)
        assert references == {bot.id: bot.event_ids for bot in self.state.bots.values()}

    @invariant()
    def an_event_has_at_most_one_bot_to_come(self) -> None:
        for event in self.events:
            assert sum(entry.start_time > self.now for entry in event.document.bots) <= 1

    @invariant()
    def events_stay_in_order(self) -> None:
        assert self.state.event_order == sorted(self._position(event) for event in self.events)

    @staticmethod
    def _position(event: Event) -> tuple[datetime, str]:
        return event.document.start_time, event.document.id


class SharedBotsInPlace(Bots):
    """The same, where a bot that events share is updated for all of them."""

    shared_bots: SharedBots = "update"

    @invariant()
    def events_agree_on_their_bots(self) -> None:
        for bot in self.state.bots.values():
            entries = {
                (entry.start_time, entry.deduplication_key)
                for event in self.events
                for entry in event.document.bots
                if entry.bot_id == bot.id
            }
            assert entries == {(bot.start_time, bot.key)}


TestBots = Bots.TestCase
TestSharedBotsInPlace = SharedBotsInPlace.TestCase
for case in (TestBots, TestSharedBotsInPlace):
    case.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
