"""What a job does that was interrupted, changed and started again, against a server that only remembers."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from recall_async import Journal, Outcome, RemoveBot, ScheduleBot, ServerError
from recall_async.bulk.actions import Action, event_of
from recall_async.bulk.history import Decision, History, Places
from recall_async.bulk.journal import JournalFile, line_of
from tests.bulk.world import event_id

ON, OTHER, CHANGED, OFF = "on", "other", "changed", "off"
Step = tuple[int, str]


def action(step: Step) -> Action:
    number, what = step
    if what == OFF:
        return RemoveBot(event_id(number))
    return ScheduleBot(event_id(number), "b" if what == OTHER else "a", {"changed": what == CHANGED})


def effect(bots: dict[tuple[str, str], object], action: Action) -> None:
    """What an action does to the bots, by event and key."""
    if isinstance(action, ScheduleBot):
        bots[event_of(action), action.deduplication_key] = action.bot_config
    else:
        for bot in [bot for bot in bots if bot[0] == event_of(action)]:
            del bots[bot]


class Rerun:
    """One run after the other on one journal."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bots: dict[tuple[str, str], object] = {}

    def run(self, job: list[Action], *, until: int = 1000, fails: frozenset[int] = frozenset()) -> tuple[int, int]:
        """How many actions were done and how many left out; at most `until` are done, those in `fails` badly."""
        file = JournalFile(Journal(self.path))
        history = History(file, retry_failed=False)
        asyncio.run(history.load())
        done = resumed = 0

        def perform(decisions: list[Decision]) -> bool:
            nonlocal done, resumed
            for decision in decisions:
                if decision.outcome is not None:
                    resumed += 1
                    continue
                if done == until:
                    return False
                error = ServerError("failed", status=500) if done in fails else None
                effect(self.bots, decision.action)
                file.append(line_of(Outcome(decision.action, None, error, 1, 0.0), replaces=decision.replaces))
                done += 1
            return True

        if all(perform(history.decide(action)) for action in job):
            perform(history.rest())
        file.close()
        return done, resumed


STEPS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([ON, OTHER, CHANGED, OFF])), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(STEPS, st.integers(0, 6), st.frozensets(st.integers(0, 5), max_size=2)), max_size=4),
    last=STEPS,
)
@example(runs=[([(0, ON), (0, OFF), (0, ON)], 9, frozenset())], last=[(0, ON), (0, OFF)])
@example(runs=[([(0, ON), (0, OFF)], 9, frozenset({0}))], last=[(0, ON), (0, OFF)])
@example(runs=[([(0, ON), (0, OTHER), (0, CHANGED)], 9, frozenset({1}))], last=[(0, ON), (0, OTHER), (0, CHANGED)])
@example(runs=[([(0, ON)], 9, frozenset()), ([(0, CHANGED)], 9, frozenset())], last=[(0, ON)])
def test_the_end_state_is_that_of_a_run_without_a_journal(
    runs: list[tuple[list[Step], int, frozenset[int]]], last: list[Step]
) -> None:
    """Would leave out an action that matters, because something like it was done once; or do a finished job again."""
    with tempfile.TemporaryDirectory() as folder:
        server = Rerun(Path(folder) / "journal")
        for steps, until, fails in runs:
            server.run([action(step) for step in steps], until=until, fails=fails)
        job = [action(step) for step in last]
        expected = dict(server.bots)
        for one in job:
            effect(expected, one)
        assert sum(server.run(job)) == len(job)
        assert server.bots == expected
        assert server.run(job) == (0, len(job))


@given(runs=st.lists(st.integers(0, 4), max_size=4), steps=STEPS)
@settings(max_examples=40, deadline=None)
def test_an_interrupted_job_does_each_action_once(runs: list[int], steps: list[Step]) -> None:
    """Would do an action a second time though the journal shows that the job had come further."""
    before: dict[int, str] = {}
    job = []
    for number, what in steps:  # an action that repeats the one before it on its event makes no difference
        if before.get(number) != what:
            job.append(action((number, what)))
        before[number] = what
    with tempfile.TemporaryDirectory() as folder:
        server = Rerun(Path(folder) / "journal")
        done = [server.run(job, until=until)[0] for until in runs]
        assert sum(done) + server.run(job)[0] == len(job)


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 2**63)), st.lists(st.text(max_size=3)))
@settings(max_examples=40, deadline=None)
def test_places_are_a_dictionary(entries: dict[str, int], missing: list[str]) -> None:
    """Would find another event's line, or none."""
    places = Places(len(entries))
    for event, value in entries.items():
        places.put(event, 1)
        places.put(event, value)
    assert {event: places.get(event) for event in entries} == entries
    assert all(places.get(event) == 0 for event in missing if event not in entries)
    for event in entries:
        places.put(event, 0)
    assert not any(places.get(event) for event in entries)
