"""The promise to interactive calls, in its fast form against the sentence of the documentation, and what it is worth."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recall_async.limits.promise import FOLLOWED, OPENING, STEPS, WINDOWS, Promise
from recall_async.limits.quota import Quota
from recall_async.limits.window import Window

PER = 6.0


def kept(window: Window, quota: Quota, rho: float, now: float, slack: float) -> bool:
    """Whether what remains after one more slot keeps the promise, evaluated at every moment of the next window."""
    answers = sorted(answer for answer in window.answers() if answer + window.per > now)
    held = window.in_flight + sum(lost + window.per > now for lost in window._lost)
    free = quota.limit - held - len(answers) - 1
    moments = [(0.0, 0), *((answer + window.per - now, back) for back, answer in enumerate(answers))]
    moments.append((quota.per, len(answers)))
    return all(free + back + slack >= quota.reserved + rho * after for after, back in moments)


@st.composite
def quotas(draw: st.DrawFn) -> Quota:
    limit = draw(st.integers(1, 40))
    return Quota(limit, PER, draw(st.none() | st.integers(1, limit)), draw(st.none() | st.integers(0, limit - 1)))


steps = st.lists(
    st.tuples(
        st.floats(0.0, 1.0), st.sampled_from(["bulk", "bulk", "interactive", "answer", "answer", "lost", "unused"])
    ),
    max_size=200,
)


@settings(max_examples=300, deadline=None)
@given(quotas(), steps)
def test_it_is_the_inequality_of_the_documentation(quota: Quota, steps: list[tuple[float, str]]) -> None:
    """Would keep more or less for interactive calls than is promised, or tell a moment after the right one."""
    window = Window(quota.per)
    promise = Promise(window, quota)
    now = 0.0
    for pause, step in steps:
        now += pause
        opens = promise.opens(now)
        # At a moment when both sides are equal, rounding decides.
        if opens <= now:
            assert kept(window, quota, promise.rho, now, 1e-5)
        else:
            assert not kept(window, quota, promise.rho, now, -1e-5)
            until = min(opens, now + 2 * PER)
            for part in range(1, 8):
                # It cannot open before it is looked at, unless an answer comes.
                assert not kept(window, quota, promise.rho, now + (until - now) * part / 8, -1e-5)
        if step == "interactive":
            promise.wanted(now)
        if step in ("bulk", "interactive"):
            ready = opens if step == "bulk" else window.opens(now, quota.limit)
            if ready <= now:
                window.take()
        elif window.in_flight and step == "answer":
            window.answered(now)
            promise.answered(now)
        elif window.in_flight and step == "lost":
            window.lost(now, 1.0)
        elif window.in_flight:
            window.unused()


@given(quotas())
def test_a_lone_bulk_call_always_goes(quota: Quota) -> None:
    """Would promise so much that a bulk call waits for ever, with a small limit, a small burst or a large reserve."""
    window = Window(quota.per)
    promise = Promise(window, quota)
    for _ in range(1000):
        promise.wanted(0.0)
    assert promise.opens(0.0) == 0.0


@settings(max_examples=50, deadline=None)
@given(quotas(), st.lists(st.floats(0.01, 0.5), min_size=30, max_size=60), st.randoms(use_true_random=False))
def test_interactive_calls_find_what_was_promised(quota: Quota, delays: list[float], random: object) -> None:
    """Would leave interactive calls that come no faster than promised without a slot."""
    window = Window(quota.per)
    promise = Promise(window, quota)
    rho = promise.rho
    if not rho:
        return
    now, due, answers = 0.0, 1 / rho, list[float]()
    for number in range(2000):
        while answers and answers[0] <= now:
            window.answered(answers.pop(0))
            promise.answered(now)
        if now >= due:
            assert window.opens(now, quota.limit) <= now
            window.take()
            answers.append(now)  # the theorem is about slots that come back one window later; requests take no time
            due += 1 / rho
        elif promise.opens(now) <= now:
            window.take()
            answers.append(now)
        while answers and answers[0] <= now:
            window.answered(answers.pop(0))
            promise.answered(now)
        now += delays[number % len(delays)] / quota.limit


def test_it_follows_demand_in_steps_and_forgets_it() -> None:
    """Would keep slots for nobody, or none for many who call."""
    quota = Quota(600, 60.0)
    window = Window(quota.per)
    promise = Promise(window, quota)
    assert promise.rho == 5.0
    moves = set()
    for number in range(300):
        promise.wanted(number / 5)
        moves.add(promise.rho)
    assert promise.rho == math.ceil(FOLLOWED * 5.0 / (10 / STEPS)) * 10 / STEPS
    assert len(moves) <= STEPS
    promise.opens(60.0 * (WINDOWS + 1) + 1)
    assert promise.rho == 5.0
    for _ in range(10_000):
        promise.wanted(300.0)
    assert promise.rho == quota.promised_at_most == 9.0


def test_greedy_promises_nothing_by_itself() -> None:
    """Would hold a job up that named a burst as large as the quota because it is alone."""
    window, quota = Window(60.0), Quota(600, 60.0, burst=600)
    promise = Promise(window, quota)
    for _ in range(quota.limit - quota.reserved):
        assert promise.opens(0.0) == 0.0
        window.take()
    assert promise.opens(0.0) > 0.0


@given(quotas(), st.integers(1, 200))
def test_demand_is_followed_at_every_call(quota: Quota, calls: int) -> None:
    """Would look at the demand too seldom, because that is not done at each call."""
    promise = Promise(Window(quota.per), quota)
    step = quota.rate / STEPS
    for number in range(1, calls + 1):
        promise.wanted(0.0)
        wanted = FOLLOWED * number / quota.per
        assert promise.rho >= min(wanted, quota.promised_at_most) - 1e-9
        assert promise.rho <= max(quota.promised, wanted + step) + 1e-9


def test_a_slot_that_is_freed_is_not_waited_for() -> None:
    """Would look again at once, and again, all the time until somebody asks for statistics."""
    quota = Quota(4, PER, burst=3)
    window = Window(quota.per)
    promise = Promise(window, quota)
    for _ in range(2):
        window.take()
    window.lost(0.0, grace=1.0)
    opens = promise.opens(0.5)
    while (later := promise.opens(opens)) > opens:
        assert later > opens + 1e-3
        opens = later
    assert opens <= window.per + 1.0


def filled(quota: Quota, now: float = 0.0) -> Promise:
    """A promise whose bulk calls have taken all that they may at a moment, answered at once."""
    window = Window(quota.per)
    promise = Promise(window, quota)
    while promise.opens(now) <= now:
        window.take()
        window.answered(now)
        promise.answered(now)
    return promise


def test_the_earliest_moment_is_the_one_at_which_it_opens() -> None:
    """Would fail bulk calls whose deadline can be kept, or wait for one that cannot."""
    quota = Quota(600, 60.0)
    promise = filled(quota)
    opens = promise.opens(0.0)
    assert len(promise._window.answers()) == 297  # 2 are reserved, 300.3 promised until the first slot is freed
    assert opens == pytest.approx(0.3 / promise.rho)
    assert promise.earliest(0.0, 0) == pytest.approx(opens)
    assert promise.earliest(0.0, 10) == pytest.approx(opens + 10 / promise.rho)
    assert promise.earliest(0.0, 10_000) == Window(60.0).per  # by then the answered slots are free
    assert promise.earliest(100.0, 10) == 100.0
    assert filled(Quota(600, 60.0, burst=600)).earliest(0.0, 5) == 0.0


def test_demand_that_may_go_down_is_looked_at_again() -> None:
    """Would keep bulk calls waiting for slots that interactive calls no longer need."""
    quota = Quota(600, 60.0)
    promise = filled(quota)
    for _ in range(500):
        promise.wanted(1.0)
    assert promise.rho == quota.promised_at_most
    assert promise.earliest(1.0, 10_000) == Window(60.0).per
    assert promise.earliest(50.0, 10_000) == Window(60.0).per


def test_bulk_calls_go_on_as_soon_as_demand_is_forgotten() -> None:
    """Would look at bulk calls again when the slots return that interactive calls no longer need."""
    window, quota = Window(60.0), Quota(600, 60.0)
    promise = Promise(window, quota)
    for _ in range(500):
        promise.wanted(0.0)
    for _ in range(560):
        window.take()
        window.answered(130.0)
        promise.answered(130.0)
    at = 130.0
    while (later := promise.opens(at)) > at:
        at = later
    # 37 slots are left beside the reserve, and at five a second they last until those of the 560 are free.
    assert at == pytest.approx(130.0 + window.per - 37 / 5.0)
    assert promise.rho == 5.0


def test_a_careful_start() -> None:
    """Would send half of a window into one that others have filled, or hold back a lane that knows better."""
    window, quota = Window(60.0), Quota(600, 60.0)
    promise = Promise(window, quota)
    assert promise.places(0.0) == OPENING
    for _ in range(5):
        window.take()
    window.answered(1.0)
    assert promise.places(1.0) == OPENING + 1
    assert promise.places(100.0) == OPENING
    assert Promise(Window(60.0), Quota(600, 60.0, burst=600)).places(0.0) == math.inf


@pytest.mark.parametrize("burst", [1, 20, 40])
@pytest.mark.parametrize("rate", [1.0, 6.5, 40.0])
def test_interactive_calls_alone_leave_nothing_behind(burst: int, rate: float) -> None:
    """Would keep something of each response as long as no bulk call comes: a web backend runs for months."""
    window = Window(PER)
    promise = Promise(window, Quota(40, PER, burst))
    for number in range(1000):
        now = number / rate
        promise.wanted(now)
        window.take()
        window.answered(now)
        promise.answered(now)
    assert len(promise._keys) <= rate * PER + 2


class Demand:
    """The rate that is promised, from the times of all interactive calls, as the documentation says it."""

    def __init__(self, quota: Quota, per: float) -> None:
        self._quota, self._per = quota, per
        self._calls: list[float] = []
        self._began = self._looked = -math.inf

    def _number(self, at: float) -> int:
        return int((at - self._began) // self._per)

    def look(self, now: float) -> None:
        """Windows follow each other, and begin anew with the first look after as many as count have passed."""
        if self._began > -math.inf and (now - self._began) / self._per - self._number(self._looked) < WINDOWS:
            self._looked = now
        else:
            self._began, self._looked, self._calls = now, now, []

    def call(self, now: float) -> None:
        self.look(now)
        self._calls.append(now)

    def rho(self, now: float) -> float:
        counts = [0] * WINDOWS
        for at in self._calls:
            if (age := self._number(now) - self._number(at)) < WINDOWS:
                counts[age] += 1
        step = self._quota.rate / STEPS
        wanted = step * math.ceil(FOLLOWED * max(counts) / self._quota.per / step)
        return min(self._quota.promised_at_most, max(self._quota.promised, wanted))


@pytest.mark.parametrize("seed", range(30))
def test_it_follows_the_busiest_of_three_windows(seed: int) -> None:
    """Would forget demand too soon, keep slots for callers of long ago, or miscount where a window begins."""
    random = Random(seed)
    quota = Quota(random.choice([20, 60, 600]), PER, random.choice([None, 5, 20]))
    window = Window(quota.per)
    promise, demand, now = Promise(window, quota), Demand(quota, window.per), 0.0
    for _ in range(400):
        busy = random.random() < 0.9
        now += random.expovariate(quota.rate) if busy else random.uniform(0.0, 2.4) * PER
        if busy:
            promise.wanted(now)
            demand.call(now)
        else:
            promise.earliest(now, 0)
            demand.look(now)
        assert promise.rho == pytest.approx(demand.rho(now))


@pytest.mark.parametrize("seed", range(20))
def test_a_crowded_lane_opens_at_the_very_moment(seed: int) -> None:
    """Would tell a wrong moment, or spin, where many slots are used: behind freed, lost or equal answers."""
    random = Random(seed)
    limit = random.choice([6, 12, 30])
    quota = Quota(limit, PER, random.choice([None, 1, limit // 2]), random.choice([None, 0, 2]))
    window = Window(quota.per)
    promise, now = Promise(window, quota), 0.0
    opened = 0
    for _ in range(300):
        now += random.choice([0.0, 0.0, 0.001, 0.1, 0.5])
        action = random.random()
        if action < 0.25:
            promise.wanted(now)
            if window.opens(now, limit) <= now:
                window.take()
                window.answered(now)
                promise.answered(now)
        elif action < 0.3 and window.in_flight:
            window.lost(now, random.choice([0.0, 1.0]))
        elif action < 0.6 and window.in_flight:
            window.answered(now)
            promise.answered(now)
        elif action < 0.65 and not window.in_flight:
            # Nothing comes in between, so that it opens when the inequality allows it, and is looked at a few times.
            looks, at, earliest = 0, now, promise.earliest(now, 0)
            while (later := promise.opens(at)) > at:
                assert not kept(window, quota, promise.rho, (at + later) / 2, -1e-5)
                assert later - at > 1e-6
                looks, at = looks + 1, later
            assert looks <= limit + WINDOWS
            assert earliest <= at + 1e-6
            assert kept(window, quota, promise.rho, at, 1e-5)
            opened, now = opened + bool(looks), at
        elif promise.opens(now) <= now:
            window.take()
    assert opened


def test_requests_in_flight_hold_their_slots() -> None:
    """Would fail bulk calls too late, as if requests in flight had been answered."""
    quota = Quota(600, 60.0)
    promise = filled(quota)
    for _ in range(10):
        promise._window.take()
    assert promise.opens(1.0) == pytest.approx(promise.earliest(1.0, 0))
    assert promise.earliest(1.0, 0) == pytest.approx((10 + 0.3) / promise.rho)
    assert promise.earliest(1.0, 5) == pytest.approx((15 + 0.3) / promise.rho)


def test_a_call_at_the_end_of_a_window_begins_the_next() -> None:
    """Would count the calls of two windows as those of one, and keep twice as many slots as people ask for."""
    quota = Quota(20, PER, burst=20, reserve=0)
    window = Window(quota.per)
    promise = Promise(window, quota)
    promise.wanted(0.0)
    promise.wanted(window.per)
    assert promise.rho == pytest.approx(2 * quota.rate / 20)


def test_the_numbers_of_the_documentation() -> None:
    """Would follow demand for another time, in other steps, or begin with more requests than docs/quota.md says."""
    quota = Quota(600, 60.0)
    window = Window(quota.per)
    promise = Promise(window, quota)
    assert promise.places(0.0) == 32
    for _ in range(300):
        promise.wanted(0.0)
    assert promise.rho == 8.0  # 1.6 times 300 in a minute
    for call in (60.0, 120.0):
        promise.wanted(call + 1.0)
        assert promise.rho == 8.0
    promise.wanted(181.0)
    assert promise.rho == 5.0


@pytest.mark.parametrize("limit", [20, 40])
def test_demand_on_a_fast_quota_is_followed(limit: int) -> None:
    """Would not notice that people call, with a quota of many requests in each second."""
    quota = Quota(limit, 0.25, burst=limit - 2)
    promise = Promise(Window(quota.per), quota)
    for number in range(1, limit + 1):
        promise.wanted(0.0)
        assert promise.rho >= min(FOLLOWED * number / quota.per, quota.promised_at_most) - 1e-9


def test_demand_that_goes_down_before_the_slots_are_freed() -> None:
    """Would fail bulk calls at once that can be sent when the busy window is over, or wait for it in vain."""
    quota = Quota(600, 60.0)

    def used(demand: int) -> Promise:
        """All that bulk calls may take is taken, by calls half a window after the demand."""
        window = Window(quota.per)
        promise = Promise(window, quota)
        for _ in range(demand):
            promise.wanted(0.0)
        promise.opens(0.0)
        for _ in range(590):
            window.take()
            window.answered(30.0)
            promise.answered(30.0)
        return promise

    busy, calm = used(500), used(0)
    over, freed = Window(60.0).per, 30.0 + Window(60.0).per
    assert (busy.rho, calm.rho) == (quota.promised_at_most, quota.promised)
    assert busy.earliest(31.0, 0) == over
    assert calm.earliest(31.0, 10_000) == freed
    assert busy.opens(31.0) == over
    assert calm.opens(31.0) > over
