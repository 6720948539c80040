"""What a job does that was interrupted, changed and started again, against a server that only remembers."""

from __future__ import annotations

import asyncio
import tempfile
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recall_async import (
    EventEndedError,
    Journal,
    NotFoundError,
    Outcome,
    RecallError,
    RemoveBot,
    ScheduleBot,
    ServerError,
)
from recall_async.bulk.actions import Action, event_of, over_since
from recall_async.bulk.earlier import EarlierResults
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
        history = EarlierResults(file, retry_failed=False)
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
    assert server.run([first, first, second]) == (0, 3)
    fresh = Rerun(tmp_path / "another journal")
    assert fresh.run([first, second]) == (2, 0)
    assert fresh.run([first, second]) == (0, 2)


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
        history = EarlierResults(file, retry_failed=False)
        asyncio.run(history.load())
        assert [history.known(one) for one in job] == [None] * len(job)
        _, most = tracemalloc.get_traced_memory()
        file.close()
    finally:
        tracemalloc.stop()
    assert (most - before) / events < 400  # 300, and what does not grow with the events


NOW = datetime.now(UTC)
PAST, LATER = NOW - timedelta(days=1), NOW + timedelta(days=1)
GONE = NotFoundError("no such event", status=404)
EVENT_OVER = EventEndedError("the meeting has ended", status=400)


def remembered(
    path: Path, one: Action, error: RecallError | None = None, attempts: int = 1, reason: str | None = None
) -> None:
    """Write an earlier outcome of an action into a journal."""
    file = JournalFile(Journal(path))
    file.append(result_of(Outcome(one, None, error, attempts, 0.0, reason)))
    file.close()


def looked_up(path: Path, *actions: Action, retry_failed: bool = False) -> list[Outcome | None]:
    """What a run knows of its actions, one after the other."""
    file = JournalFile(Journal(path))
    history = EarlierResults(file, retry_failed=retry_failed)
    asyncio.run(history.load())
    found = [history.known(one) for one in actions]
    file.close()
    return found


FAILED: list[tuple[RecallError, int, bool]] = [
    (GONE, 1, False),
    (GONE, 0, True),  # nothing was asked
    (ServerError("away", status=500), 1, True),
    (RecallError("of an unknown kind"), 1, True),
]


@pytest.mark.parametrize(("error", "attempts", "again"), FAILED)
def test_failures_that_are_repeated(tmp_path: Path, error: RecallError, attempts: int, again: bool) -> None:
    """Would give up on what may pass, or ask again for what was refused for good."""
    remembered(tmp_path / "journal", action((0, ON)), error, attempts)
    (found,) = looked_up(tmp_path / "journal", action((0, ON)))
    assert (found is None) is again
    if found is not None:
        assert (found.status, found.resumed, found.attempts, found.waited) == ("failed", True, 0, 0.0)
        assert type(found.error) is type(error)
    assert looked_up(tmp_path / "journal", action((0, ON)), retry_failed=True) == [None]


def test_an_error_of_a_newer_version_is_repeated(tmp_path: Path) -> None:
    """Would trip over the name of an error that this version does not have, or take any class for one."""
    path = tmp_path / "journal"
    remembered(path, action((0, ON)), GONE)
    for name in (b"UnheardOfError", b"Enum", b"annotations"):
        path.write_bytes(path.read_bytes().replace(b"NotFoundError", name))
        assert looked_up(path, action((0, ON))) == [None]
        path.write_bytes(path.read_bytes().replace(name, b"NotFoundError"))
    assert looked_up(path, action((0, ON))) != [None]


def timed(start: datetime | str | None, end: datetime | None = None) -> ScheduleBot:
    return ScheduleBot(event_id(0), "a0", {}, start, end)


SKIPPED = [
    (1, timed(None), False),  # the API said so, and only the API can say otherwise
    (0, timed(None), True),
    (0, timed(PAST), False),
    (1, timed(PAST), False),
    (1, timed(LATER), True),  # postponed
    (1, timed(None, LATER), True),
    (0, timed("soon"), True),  # which is an error, to be raised in its turn
]


@pytest.mark.parametrize(("attempts", "one", "again"), SKIPPED)
def test_meetings_that_may_have_been_postponed(tmp_path: Path, attempts: int, one: ScheduleBot, again: bool) -> None:
    """Would pass over a meeting that was postponed, or ask for one that is over at every start."""
    remembered(tmp_path / "journal", timed(None), EVENT_OVER if attempts else None, attempts, "the meeting is over")
    (found,) = looked_up(tmp_path / "journal", one)
    assert (found is None) is again
    if found is not None:
        assert (found.status, found.resumed) == ("skipped", True)
        assert found.reason == (str(EVENT_OVER) if attempts else over_since(one, NOW.timestamp()))


def test_an_action_that_cannot_be_written_is_performed(tmp_path: Path) -> None:
    """Would end the job where the action's own error is to be raised."""
    remembered(tmp_path / "journal", action((0, ON)))
    assert looked_up(tmp_path / "journal", ScheduleBot(event_id(0), "a0", {"name": object()})) == [None]


def test_actions_with_one_key_are_left_out_in_the_order_of_the_journal(tmp_path: Path) -> None:
    """Would repeat what is done, from the first line of the journal on; or leave out what must go after another action."""
    path = tmp_path / "journal"
    first, second = (action((number, ON), shared=True) for number in range(2))
    for one in (first, second):
        remembered(path, one)
    assert None not in looked_up(path, first, second, second)
    found = looked_up(path, second, first)
    assert found[0] is not None
    assert found[1] is None


def test_the_journal_of_another_job_is_noticed(tmp_path: Path) -> None:
    """Would warn of another job's journal where one event is known, or not where none is."""
    path = tmp_path / "journal"
    for number in range(3):
        remembered(path, action((number, ON)))

    def loaded() -> EarlierResults:
        history = EarlierResults(JournalFile(Journal(path)), retry_failed=False)
        asyncio.run(history.load())
        return history

    history = loaded()
    assert (history.foreign_events, len(history)) == (3, 3)
    history.look_for([action((7, ON))])
    assert history.known(action((7, ON))) is None
    assert (history.foreign_events, len(history)) == (3, 3)
    history.look_for([action((7, ON)), action((1, OFF))])
    assert history.foreign_events == 0
    assert history.known(action((0, ON))) is not None
    assert len(history) == 2
    assert history.known(action((1, OFF))) is None
    assert len(history) == 1
    assert history.known(action((0, OFF))) is None
    assert len(history) == 1
    history._file.close()
    history = loaded()
    assert history.known(action((0, ON))) is not None
    assert history.foreign_events == 0
    history._file.close()


def test_a_long_journal_is_read_in_turns(tmp_path: Path) -> None:
    """Would hold up the event loop until all of a long journal is read."""
    path = tmp_path / "journal"
    line = msgspec.json.encode(result_of(Outcome(action((0, ON)), None, None, 1, 0.0))) + b"\n"
    path.write_bytes(line * 600)

    async def main() -> int:
        file = JournalFile(Journal(path))
        loading = asyncio.ensure_future(EarlierResults(file, retry_failed=False).load())
        turns = 0
        while not loading.done():
            await asyncio.sleep(0)
            turns += 1
        file.close()
        return turns

    assert 3 <= asyncio.run(main()) <= 5


@pytest.mark.parametrize(("lines", "turns"), [(0, 0), (255, 0), (256, 1), (1024, 4)])
def test_each_256_lines_of_a_journal_are_a_turn_of_the_loop(tmp_path: Path, lines: int, turns: int) -> None:
    """Would slow the reading of a journal down with a turn for each line, or take fewer turns the longer it is."""
    path = tmp_path / "journal"
    path.write_bytes(msgspec.json.encode(result_of(Outcome(action((0, ON)), None, None, 1, 0.0))) + b"\n")
    path.write_bytes(path.read_bytes() * lines)
    file = JournalFile(Journal(path))
    history = EarlierResults(file, retry_failed=False)
    assert (history.foreign_events, len(history)) == (0, 0)
    loading = history.load()
    taken = 0
    with pytest.raises(StopIteration):
        while True:
            loading.send(None)
            taken += 1
    assert taken == turns
    assert (history.foreign_events, len(history)) == (min(lines, 1), min(lines, 1))
    file.close()
