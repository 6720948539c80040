"""What a job does that was interrupted, changed and started again, against a server that only remembers."""

from __future__ import annotations

import asyncio
import tempfile
import tracemalloc
from pathlib import Path

import msgspec
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recall_async import Journal, Outcome, RemoveBot, ScheduleBot, ServerError
from recall_async.bulk.actions import Action, event_of
from recall_async.bulk.history import History
from recall_async.bulk.journal import JournalFile
from recall_async.bulk.records import result_of
from tests.bulk.world import event_id

ON, OTHER, CHANGED, OFF = "on", "other", "changed", "off"
Step = tuple[int, str]


def action(step: Step, *, shared: bool = False) -> Action:
    """An action; `shared` says whether events have keys, and so bots, in common."""
    number, what = step
    if what == OFF:
        return RemoveBot(event_id(number))
    key = ("b" if what == OTHER else "a") + ("" if shared else str(number))
    return ScheduleBot(event_id(number), key, {"changed": what == CHANGED})


def effect(bots: dict[tuple[str, str], object], action: Action) -> None:
    """What an action does to the bots, by event and key. Events with one key share a bot, hence its configuration."""
    if isinstance(action, ScheduleBot):
        bots[event_of(action), action.deduplication_key] = action.bot_config
        for bot in bots:
            if bot[1] == action.deduplication_key:
                bots[bot] = action.bot_config
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
        for one in job:
            if history.known(one) is not None:
                resumed += 1
            elif done == until:
                break
            else:
                error = ServerError("failed", status=500) if done in fails else None
                effect(self.bots, one)
                file.append(result_of(Outcome(one, None, error, 1, 0.0)))
                done += 1
        file.close()
        return done, resumed


STEPS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([ON, OTHER, CHANGED, OFF])), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(STEPS, st.integers(0, 6), st.frozensets(st.integers(0, 5), max_size=2)), max_size=4),
    last=STEPS,
)
@example(runs=[([(0, OTHER), (0, CHANGED), (1, ON)], 9, frozenset())], last=[(0, OTHER), (0, CHANGED), (1, ON)])
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
        done, resumed = server.run(job)
        assert server.bots == expected
        if len({number for number, _ in last}) == len(last):
            assert (done, resumed) == (0, len(job))


@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(0, 6), st.frozensets(st.integers(0, 5), max_size=2)), max_size=4),
    steps=st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([ON, OTHER, CHANGED, OFF])), unique_by=lambda step: step[0]
    ),
)
@example(runs=[(9, frozenset())], steps=[(0, CHANGED), (1, ON), (2, OTHER)])
@example(runs=[(1, frozenset()), (1, frozenset())], steps=[(0, CHANGED), (1, ON)])
@example(runs=[(2, frozenset({0})), (1, frozenset())], steps=[(0, ON), (1, CHANGED)])
def test_a_job_whose_events_share_bots_ends_as_if_it_had_run_once(
    runs: list[tuple[int, frozenset[int]]], steps: list[Step]
) -> None:
    """Would leave an earlier action's configuration on a bot that two events share, because only that one was repeated."""
    job = [action(step, shared=True) for step in steps]
    with tempfile.TemporaryDirectory() as folder:
        server = Rerun(Path(folder) / "journal")
        for until, fails in runs:
            server.run(job, until=until, fails=fails)
        expected: dict[tuple[str, str], object] = {}
        for one in job:
            effect(expected, one)
        assert sum(server.run(job)) == len(job)
        assert server.bots == expected


@given(
    runs=st.lists(st.integers(0, 4), max_size=4),
    whats=st.dictionaries(st.integers(0, 5), st.sampled_from([ON, OTHER, CHANGED, OFF])),
)
@settings(max_examples=40, deadline=None)
def test_an_interrupted_job_does_each_action_once(runs: list[int], whats: dict[int, str]) -> None:
    """Would do an action a second time though the journal shows that the job had come further."""
    job = [action(step) for step in whats.items()]
    with tempfile.TemporaryDirectory() as folder:
        server = Rerun(Path(folder) / "journal")
        done = [server.run(job, until=until)[0] for until in runs]
        assert sum(done) + server.run(job)[0] == len(job)


def test_a_key_that_was_retried_does_not_overwrite_what_came_after_it(tmp_path: Path) -> None:
    """Would leave the configuration of the first of two events that share a bot, because only that one was retried."""
    server = Rerun(tmp_path / "journal")
    first = ScheduleBot(event_id(0), "shared", {"version": 1})
    second = ScheduleBot(event_id(1), "shared", {"version": 2})
    assert server.run([first, second], fails=frozenset({0})) == (2, 0)
    assert server.run([first, second]) == (2, 0)
    assert server.run([first, second]) == (0, 2)


def test_memory(tmp_path: Path) -> None:
    """Would need hundreds of megabytes for a journal of some hundred thousand lines."""
    events, each = 2000, 10
    path = tmp_path / "journal"
    job = [
        ScheduleBot(event_id(number), f"2031-05-01T10:00:00Z-https://zoom.us/j/{number}/{turn}")
        for turn in range(each)
        for number in range(events)
    ]
    path.write_bytes(b"".join(msgspec.json.encode(result_of(Outcome(one, None, None, 1, 0.0))) + b"\n" for one in job))
    tracemalloc.start()
    try:
        file = JournalFile(Journal(path))
        before, _ = tracemalloc.get_traced_memory()
        history = History(file, retry_failed=False)
        asyncio.run(history.load())
        assert [history.known(one) for one in job] == [None] * len(job)
        _, most = tracemalloc.get_traced_memory()
        file.close()
    finally:
        tracemalloc.stop()
    assert (most - before) / events < 400  # 300, and what does not grow with the events
