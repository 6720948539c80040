"""What a lane leaves to the next one, and how it is kept: pure, with made-up times."""

from __future__ import annotations

import math

import pytest

from recall_async.limits.local.memory import Exchange, Memories, Memory
from recall_async.limits.pace import Pace
from recall_async.limits.window import Record

KEY = "w", "o"
PER = 60.0


def memory(
    answers: tuple[float, ...] = (),
    lost: tuple[float, ...] = (),
    in_flight: int = 0,
    paused_until: float = -math.inf,
    pace: Pace | None = None,
    grace: float = 10.0,
    longest: float = PER,
) -> Memory:
    return Memory(Record(answers, lost, in_flight, longest), paused_until, pace, grace)


def slowed(resume: float) -> Pace:
    """The pace of a lane that got a 429."""
    pace = Pace(600, PER)
    pace.rejected(resume - 1.0, 0.0, resume, 0.5)
    assert pace.rate(resume) != math.inf
    return pace


def test_requests_in_flight_are_lost_when_their_loop_ends() -> None:
    """Would free the slots of requests that were on their way when their loop was closed, or keep them for ever."""
    settled = memory((1.0,), (30.0,), in_flight=2).settled(5.0)
    assert settled.window == Record((1.0,), (15.0, 15.0, 30.0), 0, PER)
    assert (settled.paused_until, settled.grace) == (-math.inf, 10.0)
    assert memory((1.0,)).settled(5.0) == memory((1.0,))


@pytest.mark.parametrize(
    ("kept", "until"),
    [
        (memory((1.0, 2.0)), 62.0),
        (memory((1.0,), (5.0,)), 65.0),
        (memory((9.0,), (5.0,)), 69.0),
        (memory((1.0,), paused_until=100.0), 100.0),
        (memory((50.0,), paused_until=100.0), 110.0),
        (memory(paused_until=7.0), 7.0),
        (memory((1.0,), longest=4.0), 5.0),
    ],
)
def test_state_is_kept_until_it_no_longer_matters(kept: Memory, until: float) -> None:
    """Would forget what counts still or a pause that lasts, or keep every workspace for ever."""
    assert (kept.over(until - 1e-6), kept.over(until)) == (False, True)
    for now, left in ((until - 1e-6, kept), (until, None)):
        memories = Memories()
        memories.add(KEY, kept, min(now, 60.0))
        memories.add(("another", "o"), memory((now,)), now)  # which removes what is over
        assert memories.pop(KEY) == left
        late = Memories()
        late.add(KEY, kept, now)
        assert late.pop(KEY) == left


def test_slower_pace_is_kept_until_it_has_grown() -> None:
    """Would let a lane that is opened again run into the 429 of others, or keep a pace that is the full one."""
    kept = memory(paused_until=10.0, pace=slowed(10.0))
    memories = Memories()
    memories.add(KEY, kept, 20.0)
    assert memories.pop(KEY) == kept
    assert (kept.over(20.0), kept.over(1e4)) == (False, True)
    assert not memory((1e4,), pace=slowed(10.0)).over(1e4)
    memories.add(("old", "o"), kept, 20.0)
    memories.add(("new", "o"), memory((1e4,)), 1e4)  # which removes what is over
    assert (len(memories), memories.pop(("old", "o"))) == (1, None)
    memories.add(KEY, memory((1.0,), pace=slowed(10.0)), 20.0)
    memories.add(KEY, memory((2.0,)), 20.0)  # the later lane has none of its own
    found = memories.pop(KEY)
    assert found is not None
    assert found.pace is not None
    newer = slowed(15.0)
    memories.add(KEY, memory((1.0,), pace=slowed(10.0)), 20.0)
    memories.add(KEY, memory((2.0,), pace=newer), 20.0)
    found = memories.pop(KEY)
    assert found is not None
    assert found.pace is newer


def test_two_states_of_a_lane_are_one() -> None:
    """Would forget the requests of all loops but the last, or count one twice that both know of."""
    memories = Memories()
    memories.add(KEY, memory((1.0, 2.0, 2.0), (5.0,), paused_until=30.0, grace=20.0), 3.0)
    memories.add(KEY, memory((2.0, 3.0), (5.0, 5.0, 4.0), in_flight=1, paused_until=20.0, longest=70.0), 3.0)
    assert len(memories) == 1
    joined = memories.pop(KEY)
    assert joined == memory((1.0, 2.0, 2.0, 3.0), (4.0, 5.0, 5.0, 13.0), 0, 30.0, None, 20.0, 70.0)
    assert (memories.pop(KEY), len(memories)) == (None, 0)


def test_time_of_another_clock_is_not_kept() -> None:
    """Would hold slots until a time that this clock may never show, or drop a state because an older one was such."""
    ahead, ours = memory((5000.0,)), memory((1000.0,))
    assert (ahead.foreign(1001.0), ahead.foreign(5000.0), ours.foreign(1001.0)) == (True, False, False)
    assert not memory((), (5000.0,)).foreign(0.0)
    memories = Memories()
    memories.add(KEY, ahead, 1001.0)
    assert memories.pop(KEY) is None
    memories.add(KEY, ahead, 5001.0)
    memories.add(KEY, ours, 1001.0)  # of a loop in which time begins anew
    assert memories.pop(KEY) == ours


def test_only_the_last_response_says_whether_the_clock_is_another() -> None:
    """Would take a lane's own state for that of another clock, or miss one because its first response is old."""
    assert memory((1.0, 2000.0)).foreign(1000.0)
    assert not memory((1.0, 999.0)).foreign(1000.0)


def test_pause_is_ended_and_what_was_sent_is_not_forgotten() -> None:
    """Would find no pause to end, end only that, or free the slots with it."""
    memories = Memories()
    assert memories.resume(KEY, 0.0) == 0.0
    memories.add(KEY, memory((1.0,), (2.0,), paused_until=100.0, pace=slowed(100.0)), 10.0)
    memories.add(("another", "o"), memory((1.0,), paused_until=100.0), 10.0)
    assert memories.resume(KEY, 40.0) == 60.0
    assert memories.resume(KEY, 40.0) == 0.0
    assert memories.pop(KEY) == memory((1.0,), (2.0,))
    assert memories.resume(("another", "o"), 100.5) == 0.0


def test_cleared_memories_are_empty() -> None:
    """Would let one test of a suite use up the quota of the next."""
    memories = Memories()
    memories.add(KEY, memory((1.0,)), 2.0)
    memories.clear()
    assert (len(memories), memories.pop(KEY)) == (0, None)
    memories.add(KEY, memory((1.0,)), 2.0)
    assert len(memories) == 1


def test_requests_in_flight_are_told_once() -> None:
    """Would tell a request again at each look of another loop, or one less for each that ended before it was told."""
    ours, theirs = Exchange(), Exchange()
    assert (theirs.told_at, ours.learn(theirs, memory(), 0.0)) == (-math.inf, memory())
    theirs.tell(0, 1.0)
    assert theirs.told_at == -math.inf
    assert ours.learn(theirs, memory(), 1.0) is None
    theirs.tell(3, 2.0)
    assert theirs.told_at == 2.0
    assert ours.learn(theirs, memory(in_flight=3), 2.0) == memory(in_flight=3)
    theirs.tell(3, 3.0)
    assert (theirs.told_at, ours.learn(theirs, memory(in_flight=3), 3.0)) == (2.0, None)
    theirs.ended(4.0)  # granted after the look
    theirs.ended(2.0)
    theirs.ended(1.5)
    theirs.tell(3, 5.0)  # of which one was known
    assert theirs.told_at == 5.0
    learned = ours.learn(theirs, memory((4.0,), in_flight=3), 5.0)
    assert learned == memory((4.0,), in_flight=2)
    third = Exchange()
    assert third.learn(theirs, memory((4.0,), in_flight=3), 5.0) == memory((4.0,), in_flight=3)
    theirs.ended(1.0)
    theirs.ended(4.9)
    theirs.ended(4.9)
    theirs.ended(4.9)
    theirs.tell(1, 6.0)
    assert ours.learn(theirs, memory((4.0, 5.5), in_flight=1), 6.0) == memory((4.0, 5.5), in_flight=1)


def test_what_was_borrowed_is_not_lent_again() -> None:
    """Would count a request of one loop once for each loop that has heard of it, or forget a loop's own lost ones."""
    first, second, third = Exchange(), Exchange(), Exchange()
    first.tell(2, 1.0)
    assert second.learn(first, memory(in_flight=2), 1.0) == memory(in_flight=2)  # lost at 11
    second.tell(0, 2.0)
    assert third.learn(second, memory((), (7.0, 11.0, 11.0)), 2.0) == memory((), (7.0,))
    # They are remembered as long as they may count somewhere.
    first.tell(3, 70.0)
    second.learn(first, memory(in_flight=3), 70.0)
    assert third.learn(second, memory((), (11.0, 80.0)), 70.0) == memory((), ())
    first.tell(4, 71.0)
    second.learn(first, memory(in_flight=4), 71.0)
    assert third.learn(second, memory((), (11.0, 80.0, 81.0)), 71.0) == memory((), (11.0,))


def test_a_request_that_nobody_was_told_of() -> None:
    """The end of a request that no other lane knows would be counted against one that they know."""
    exchange = Exchange()
    exchange.ended(1.0)
    exchange.tell(2, 5.0)
    exchange.ended(6.0)  # granted after that was told
    exchange.tell(3, 7.0)
    assert exchange.told_at == 7.0
