"""The window against a brute-force server: whatever the network does, no window of the server holds more than the limit."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from heapq import heappop, heappush

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async.limits.window import CLOCK_TOLERANCE, Record, Window

PER = 4.0
GRACE = 2.0
GRID = 1 / 8
"""Times are multiples of it, exact in binary, so that things happen at the same moment and just at a boundary."""


MODEST = settings(max_examples=100, deadline=None)


def seconds(most: float) -> st.SearchStrategy[float]:
    return st.integers(0, int(most / GRID)).map(lambda steps: steps * GRID)


@dataclass(frozen=True)
class Request:
    gap: float
    """Seconds since the request before it wanted to go."""
    outward: float
    """Seconds until the server counts it."""
    back: float
    fate: str = "answered"


requests = st.builds(
    Request,
    seconds(PER),
    seconds(2 * PER),
    seconds(2 * PER),
    st.sampled_from(["answered", "answered", "lost", "unused"]),
)


def drive(script: list[Request], limit: int, per: float = PER) -> tuple[list[float], list[Window]]:
    """When the server counted what, and the window at every moment of change, if each request goes as soon as it may."""
    window, counted, seen = Window(per), list[float](), list[Window]()
    returns: list[tuple[float, int, str]] = []
    now = 0.0

    def settle(until: float) -> float:
        nonlocal now
        at, _, fate = heappop(returns)
        if at > until:
            heappush(returns, (at, 0, fate))
            return until
        if fate == "answered":
            window.answered(at)
        elif fate == "lost":
            window.lost(at, GRACE)
        else:
            window.unused()
        return at

    for number, request in enumerate(script):
        now, wanted = now, now + request.gap
        while True:
            opens = window.opens(now, limit)
            if opens <= now and now >= wanted:
                break
            goal = max(wanted, opens)
            now = settle(goal) if returns else goal
            seen.append(copy.deepcopy(window))
        window.take()
        match request.fate:
            case "answered":
                counted.append(now + request.outward)
                gone = now + request.outward + request.back
            case "lost":
                # Given up after `back` seconds, counted at any time from its sending until the grace is over.
                counted.append(now + min(request.outward, request.back + GRACE))
                gone = now + request.back
            case _:
                gone = now + request.back
        heappush(returns, (gone, number, request.fate))
        seen.append(copy.deepcopy(window))
    return sorted(counted), seen


def largest(counted: list[float], per: float, *, keeps_the_boundary: bool) -> int:
    """The most that a server has ever counted in its last `per` seconds, the start of them counted in or not."""
    return max(
        (
            sum(now - per <= at <= now if keeps_the_boundary else now - per < at <= now for at in counted)
            for now in counted
        ),
        default=0,
    )


@MODEST
@given(st.lists(requests, max_size=40), st.integers(1, 5))
def test_server_never_counts_more_than_the_limit(script: list[Request], limit: int) -> None:
    """Would let a server see more requests than the quota in some window, and earn a 429."""
    counted, _ = drive(script, limit)
    assert largest(counted, PER, keeps_the_boundary=False) <= limit
    assert largest(counted, PER, keeps_the_boundary=True) <= limit


@MODEST
@given(st.lists(requests, max_size=40), st.integers(1, 5))
def test_server_whose_clock_is_slow_counts_no_more_either(script: list[Request], limit: int) -> None:
    """Would overrun a server whose seconds are longer than ours by as much as clocks are slewed."""
    counted, _ = drive(script, limit)
    assert largest(counted, PER * (1 + CLOCK_TOLERANCE * 0.99), keeps_the_boundary=True) <= limit


@pytest.mark.parametrize("limit", [1, 3])
def test_the_guarantee_is_no_tighter_than_it_must_be(limit: int) -> None:
    """Would waste quota: with instant answers, a full window goes every `per` seconds."""
    counted, _ = drive([Request(0.0, 0.0, 0.0)] * (limit * 5), limit)
    assert counted[-1] == pytest.approx(4 * PER, rel=2 * CLOCK_TOLERANCE)


@MODEST
@given(st.lists(requests, max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_opens_is_the_very_moment(script: list[Request], limit: int, ceiling: int) -> None:
    """Would let a waiter go too early, or look again too late."""
    for window in drive(script, limit)[1]:
        now = max([*window._answered, 0.0])
        opens = window.opens(now, ceiling)
        if opens is math.inf:
            assert window.in_flight >= ceiling
        else:
            assert copy.deepcopy(window).taken(opens) < ceiling
            assert opens == now or copy.deepcopy(window).taken(math.nextafter(opens, 0.0)) >= ceiling


@MODEST
@given(
    st.lists(requests, max_size=20),
    st.integers(1, 5),
    st.integers(0, 4),
    st.integers(0, 25),
    st.integers(0, 2**25 - 1),
)
def test_earliest_is_a_lower_bound(script: list[Request], limit: int, reserve: int, ahead: int, bulk: int) -> None:
    """Would fail a call with a deadline that could have been kept, or wait for one that could not."""
    ceiling = max(1, limit - reserve)
    for window in drive(script, limit)[1][-4:]:
        now = max([*window._answered, 0.0])
        bound = copy.deepcopy(window).earliest(now, ceiling, ahead, limit)
        # Those ahead may be bulk or not; the best that can happen is that every request is answered at once.
        ceilings = [ceiling if bulk >> one & 1 else limit for one in range(ahead)] + [ceiling]
        best, at = copy.deepcopy(window), now
        for _ in range(best.in_flight):
            best.answered(now)
        for own in ceilings:
            at = best.opens(at, own)
            best.take()
            best.answered(at)
        assert bound <= at + 1e-9
        if ceiling == limit and not window._lost:
            assert bound == pytest.approx(at)


LONG = PER * (1 + CLOCK_TOLERANCE)
"""For how long a slot is kept after its answer."""


def used(answers: list[float], lost: list[float], in_flight: int = 0, per: float = PER) -> Window:
    """A window with requests that were answered and lost at these times."""
    window = Window(per)
    for _ in range(len(answers) + len(lost) + in_flight):
        window.take()
    for moment in answers:
        window.answered(moment)
    for moment in lost:
        window.lost(moment, GRACE)
    return window


def test_what_is_known_of_the_slots() -> None:
    """Would count a lost request as answered, or one in flight twice."""
    window = used([1.0, 2.0], [5.0, 3.0], in_flight=1)
    assert window.taken(2.0) == 5
    assert (window.held, window.heard(2.0), window.answers()) == (3, 2, (1.0, 2.0))
    assert window.next_lost() == 3.0 + GRACE + LONG
    assert window.earliest(2.0, ceiling=6, ahead=0, limit=6) == 2.0
    assert window.earliest(2.0, ceiling=6, ahead=1, limit=6) == 1.0 + LONG
    assert (window.heard(1.0 + LONG), window.taken(1.0 + LONG)) == (1, 4)
    assert window.taken(3.0 + GRACE + LONG) == 2
    assert window.next_lost() == 5.0 + GRACE + LONG
    assert window.taken(5.0 + GRACE + LONG) == 1
    assert window.next_lost() == math.inf


def test_a_shorter_window_and_the_longer_one_again() -> None:
    """Would forget requests that count again when the quota's window becomes longer, or keep them for ever."""
    window = used([0.0], [0.5])
    window.configure(1.0)
    assert window.taken(1.0) == 2
    assert window.taken(1.001) == 1
    assert window.taken(4.0) == 0
    window.configure(PER)
    assert window.taken(4.0) == 2
    assert window.taken(LONG) == 1
    assert window.taken(2.5 + LONG) == 0
    assert window.record().answers == ()


def test_a_shorter_window_lets_go_in_the_end() -> None:
    """Would remember every request of a lane whose window has become shorter."""
    window = used([0.0, 1.0], [])
    window.configure(1.0)
    assert window.taken(3.0) == 0
    assert window.record() == Record((0.0, 1.0), (), 0, LONG)
    window.taken(LONG)
    assert window.record().answers == (1.0,)
    window.taken(1.0 + LONG)
    assert window.record().answers == ()
    window.configure(2 * PER)
    assert window.record().longest == 2 * LONG


def test_a_record_matters_until_its_last_request_does_not() -> None:
    """Would drop what counts still, or keep a record for ever."""
    assert Window(PER).record().over == -math.inf
    assert used([1.0, 2.0], []).record().over == 2.0 + LONG
    assert used([1.0], []).record().over == 1.0 + LONG
    assert used([], [1.0]).record().over == 1.0 + GRACE + LONG
    assert used([5.0], [1.0, 2.0]).record().over == 5.0 + LONG
    assert Window(0.5).record().longest == 0.5 * (1 + CLOCK_TOLERANCE)
    assert used([1.0], [2.0, 3.0]).record().over == 3.0 + GRACE + LONG
    assert used([1.0], [], in_flight=1).record().over == math.inf
    assert used([1.0], [2.0], in_flight=2).record() == Record((1.0,), (2.0 + GRACE,), 2, LONG)


def test_a_window_takes_over_from_another() -> None:
    """Would free what another loop sent, count it twice, or lose what was in flight there."""
    record = used([1.0, 2.0, 2.0], [3.0], in_flight=2, per=2 * PER).record()
    window = used([1.5], [])
    window.restore(record, 6.0, GRACE)
    assert window.answers() == (1.0, 1.5, 2.0, 2.0)
    assert window.record() == Record((1.0, 1.5, 2.0, 2.0), (3.0 + GRACE, 6.0 + GRACE, 6.0 + GRACE), 0, 2 * LONG)
    assert window.taken(4.5) == 7
    window.restore(window.record(), 7.0, GRACE)
    assert window.taken(4.5) == 7
    older = used([0.0], [])
    older.configure(1.0)
    older.taken(2.0)
    older.restore(older.record(), 2.0, GRACE)
    assert older.record().answers == (0.0,)


def test_everything_that_was_sent_counts_again_with_a_longer_window() -> None:
    """Would remember only a part of what a large quota sent, and send the rest of it twice."""
    window = Window(1.0, remember=60.0)
    for number in range(10_000):
        now = number / 1000
        window.taken(now)
        window.take()
        window.answered(now)
    assert window.taken(10.0) < 1100
    window.configure(60.0)
    assert window.taken(10.0) == 10_000
    window.configure(60.0)
    assert window.taken(10.0) == 10_000
