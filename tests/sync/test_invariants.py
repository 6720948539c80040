"""Whatever happens to calendars: a plan that was applied leaves nothing to do, and no two bots have one key."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async import BotSpec, Deduplication, RecordingPolicy
from recall_async.models import Calendar, CalendarEvent
from recall_async.sandbox.mutate import changes
from recall_async.sandbox.settings import Settings
from recall_async.sandbox.state import State
from recall_async.sync.decide import Kind, decide
from tests.sync.invitations import NOW

POLICIES = st.builds(
    RecordingPolicy,
    external_only=st.booleans(),
    accepted_only=st.booleans(),
    title_includes=st.sampled_from([(), ("sync", "call", "re")]),
    title_excludes=st.sampled_from([(), ("1:1",)]),
    organizers=st.sampled_from([(), ("northwind.example", "contoso.example")]),
    platforms=st.sampled_from([(), ("zoom", "google_meet", "webex")]),
    min_attendees=st.integers(0, 4),
    lead_time=st.sampled_from([0, 600, 3600, 86400]),
    deduplication=st.sampled_from(list(Deduplication)),
)
STEPS = st.one_of(
    st.tuples(st.just("mutate"), st.integers(1, 20)),
    st.tuples(st.just("wait"), st.integers(1, 4000)),
    st.tuples(st.just("apply"), st.integers(1, 30)),
    st.tuples(st.just("policy"), POLICIES),
)


class Workspace:
    """The sandbox's data, without the server around it."""

    def __init__(self, seed: int, policy: RecordingPolicy) -> None:
        self.now = NOW
        self.state = State(Settings(seed=seed, now=lambda: NOW, events=40, calendars=3))
        self.policy = policy

    def decisions(self) -> list[tuple[str, Kind, BotSpec | None]]:
        """What is to be done about each event, as it looks over the wire."""
        calendars = {key: read(value, Calendar) for key, value in self.state.calendars.items()}
        decisions = []
        for event_id, stored in self.state.events.items():
            event = read(stored.document, CalendarEvent)
            spec = self.policy(event, calendars[event.calendar_id])
            kind, _ = decide(event, spec, now=self.now, lead_time=self.policy.lead_time)
            decisions.append((event_id, kind, spec))
        return decisions

    def changes(self) -> list[tuple[str, Kind, BotSpec | None]]:
        return [decision for decision in self.decisions() if decision[1] not in ("keep", "skip")]

    def apply(self, number: int | None = None) -> None:
        for event_id, kind, spec in self.changes()[:number]:
            event = self.state.event(event_id)
            if kind == "remove":
                self.state.remove(event, self.now)
            else:
                assert spec is not None
                self.state.schedule(
                    event,
                    spec.deduplication_key,
                    dict(spec.bot_config),
                    start_time=None,
                    meeting_url=None,
                    now=self.now,
                )

    def keys_to_come(self) -> Counter[str]:
        return Counter(bot.key for bot in self.state.bots.values() if bot.start_time > self.now)


def read(document: object, kind: type) -> object:
    return msgspec.json.decode(msgspec.json.encode(document), type=kind)


@given(seed=st.integers(0, 2**16), policy=POLICIES, steps=st.lists(STEPS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_an_applied_plan_leaves_nothing_to_do(seed, policy, steps):
    """Plans ask for the same again and again, leave a bot where no meeting is, or send two into one."""
    workspace = Workspace(seed, policy)
    for step, argument in steps:
        match step:
            case "mutate":
                list(changes(workspace.state, argument, workspace.now))
            case "wait":
                workspace.now += timedelta(minutes=argument)
            case "apply":
                workspace.apply(argument)
            case "policy":
                workspace.policy = argument
    workspace.apply()
    assert workspace.changes() == []
    assert all(count == 1 for count in workspace.keys_to_come().values())
    check_bots(workspace)


def check_bots(workspace: Workspace) -> None:
    """Every bot that is to come is where an event is that should have it, and each such event has one."""
    expected = set()
    calendars = {key: read(value, Calendar) for key, value in workspace.state.calendars.items()}
    for stored in workspace.state.events.values():
        event = read(stored.document, CalendarEvent)
        spec = workspace.policy(event, calendars[event.calendar_id])
        if spec is not None and event.start_time > workspace.now:
            expected.add((event.id, spec.deduplication_key, event.start_time))
    found = {
        (event_id, bot.key, bot.start_time)
        for bot in workspace.state.bots.values()
        if bot.start_time > workspace.now
        for event_id in bot.event_ids
    }
    late = workspace.now + timedelta(seconds=workspace.policy.lead_time)
    assert found <= expected
    assert {place for place in expected - found if place[2] >= late} == set()


def test_steps_change_something():
    """The invariants would be checked on workspaces in which nothing ever happens."""
    workspace = Workspace(7, RecordingPolicy(title_excludes=["1:1"]))
    kinds = set()
    for _ in range(20):
        kinds |= {kind for _, kind, _ in workspace.decisions()}
        workspace.apply()
        list(changes(workspace.state, 5, workspace.now))
        workspace.now += timedelta(hours=5)
        workspace.policy = RecordingPolicy(title_excludes=["sync"])
    assert kinds == {"schedule", "reschedule", "remove", "keep", "skip"}
