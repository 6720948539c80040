"""The scripts on a clock that the test moves: what is remembered, for how long, and who goes first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from random import Random

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from recall_async import Quota
from recall_async.limits.contract import Ending
from recall_async.limits.pace import Pace
from recall_async.limits.redis.memory import MEMORY_TTL
from recall_async.limits.redis.scripts import STATE_TTL, Ask, Keys, Terms, acquire, resume, usage
from recall_async.limits.redis.scripts import decode_usage as decode
from recall_async.limits.window import CLOCK_TOLERANCE
from tests.redis.moved_clock import Clock, Process
from tests.redis.processes import jain
from tests.redis.server import RedisProcess

_names = itertools.count()

MakeProcess = Callable[..., Process]


@pytest.fixture
def clock(shared_redis: RedisProcess) -> Iterator[Clock]:
    with Redis(port=shared_redis.port, decode_responses=False) as client:
        yield Clock(client)


@pytest.fixture
def process(clock: Clock, prefix: str) -> MakeProcess:
    """Makes processes that share one quota."""
    keys = Keys(prefix, "w", "o")

    def make(quota: Quota, longest_request: float = 60.0, **options: bool) -> Process:
        return Process(clock, keys, f"client{next(_names)}", quota, longest_request, **options)

    return make


def most_in_any(per: float, times: list[float]) -> int:
    """The most of these moments that lie in any window."""
    return max(sum(at <= other < at + per for other in times) for at in times)


def test_longest_lease_in_use_counts(clock: Clock, process: MakeProcess) -> None:
    """Would give back the slots of a process with long requests as soon as another process' lease is over."""
    slow, quick = process(Quota(5, 0.5, burst=5), 60.0), process(Quota(5, 0.5, burst=5), 0.3)
    assert len(slow.ask(4)) == 4
    clock.advance(1.1)
    quick.answered(*quick.ask(1))
    for _ in range(10):
        clock.advance(4.0)
        assert len(quick.ask(5)) <= 1
        quick.answered(*quick.ask(1))
    clock.advance(30.0)
    assert len(quick.ask(5)) == 5


def test_hold_is_as_long_as_the_longest_lease(clock: Clock, process: MakeProcess) -> None:
    """Would end the hold after a restart when the lease of whoever asks first is over."""
    slow, quick = process(Quota(5, 0.5, burst=5), 60.0), process(Quota(5, 0.5, burst=5), 0.3)
    slow.ask(4)
    quick.ask(0)
    quick.run = "another run"
    assert quick.ask(1) == []
    clock.advance(60.0)
    assert quick.ask(1) == []
    clock.advance(6.0)
    assert len(quick.ask(1)) == 1


def test_keys_live_as_long_as_the_longest_lease(clock: Clock, process: MakeProcess, shared_redis: RedisProcess) -> None:
    """Would have the key of all slots expire while some of them are in use."""
    slow, quick = process(Quota(5, 0.5, burst=5), 60.0), process(Quota(5, 0.5, burst=5), 0.3)
    slow.ask(4)
    clock.advance(1.1)
    quick.ask(1)
    with Redis(port=shared_redis.port) as client:
        assert client.pttl(slow.keys.slots) >= 65_000


def test_a_longer_lease_or_window_lengthens_the_life_of_the_keys_at_once(
    clock: Clock, process: MakeProcess, shared_redis: RedisProcess
) -> None:
    """Would forget a slot whose request is in flight if nobody asks again before what was there first has expired."""
    quick, slow = process(Quota(5, 0.5, burst=5), 0.3), process(Quota(5, 0.5, burst=5), 300.0)
    quick.ask(1)
    slow.ask(1)
    with Redis(port=shared_redis.port) as client:
        assert client.pttl(slow.keys.slots) >= 300_000
        slow.use(Quota(5, 3600.0, burst=5))
        slow.ask(1)
        assert client.pttl(slow.keys.slots) >= 3_900_000


@pytest.mark.parametrize("set_back", [0.0, 100.0])
def test_no_key_lives_for_ever(clock: Clock, process: MakeProcess, shared_redis: RedisProcess, set_back: float) -> None:
    """Would leave the keys of a short job behind for ever: nobody asks after its last response."""
    one = process(Quota(60, 6.0))
    one.ask(1)
    clock.advance(0.1 - set_back)
    one.answered(*one.ask(1, 2))
    with Redis(port=shared_redis.port) as client:
        keys = client.keys(f"{one.keys.slots.rpartition(':')[0]}*")
        assert keys
        assert [key for key in keys if client.pttl(key) < 0] == []


def test_pauses_do_not_keep_the_keys_from_being_renewed(
    clock: Clock, process: MakeProcess, shared_redis: RedisProcess
) -> None:
    """Would let the slots in use expire during a stream of 429s."""
    one = process(Quota(60, 6.0))
    one.ask(1)
    with Redis(port=shared_redis.port) as client:
        client.persist(one.keys.slots)
        for _ in range(6):
            clock.advance(0.4)
            one.pause(0.01)
            one.ask(1)
        assert client.pttl(one.keys.slots) > 0


def test_what_was_sent_under_another_quota_is_remembered(clock: Clock, process: MakeProcess) -> None:
    """Would send two windows' worth at once when a quota is replaced by another and comes back."""
    one = process(Quota(5, 60.0, burst=5))
    sent: list[float] = []

    def send() -> int:
        numbers = one.ask(5)
        sent.extend([clock.now] * len(numbers))
        one.answered(*numbers)
        return len(numbers)

    send()
    one.use(Quota(1, 1.0))
    for _ in range(50):
        clock.advance(0.5)
        send()
    assert len(sent) > 20
    one.use(Quota(5, 60.0, burst=5))
    went = 0
    for _ in range(400):
        clock.advance(0.5)
        if send():
            went += 1
            assert sum(clock.now - 60.0 < at <= clock.now for at in sent) <= 5
    assert went


def test_what_was_sent_under_a_shorter_window_is_remembered_for_the_one_of_the_api(
    clock: Clock, process: MakeProcess
) -> None:
    """Would send a minute's worth at once after a minute of as many requests in small windows."""
    one, other = process(Quota(5, 1.0, burst=5)), process(Quota(50, 10.0, burst=50))
    sent: list[float] = []
    while len(sent) < 50:
        numbers = one.ask(5)
        sent.extend([clock.now] * len(numbers))
        one.answered(*numbers)
        clock.advance(0.5)
    for _ in range(60):
        numbers = other.ask(50)
        sent.extend([clock.now] * len(numbers))
        other.answered(*numbers)
        assert sum(clock.now - 10.0 < at <= clock.now for at in sent) <= 50
        clock.advance(0.5)
    assert len(sent) > 100


def test_shorter_window_counts_what_is_younger(clock: Clock, process: MakeProcess) -> None:
    """Would keep a quota with a short window from going for a whole long one."""
    one = process(Quota(5, 60.0, burst=5))
    one.answered(*one.ask(5))
    one.use(Quota(5, 1.0, burst=5))
    assert one.ask(5) == []
    clock.advance(1.1)
    assert len(one.ask(5)) == 5


def test_window_that_nobody_names_is_forgotten(clock: Clock, process: MakeProcess, shared_redis: RedisProcess) -> None:
    """Would keep the slots of a quota of an hour for ever because it was used once."""
    one = process(Quota(5, 3600.0, burst=5))
    one.answered(*one.ask(5))
    one.use(Quota(100, 1.0, burst=100))
    for _ in range(400):
        clock.advance(11.0)
        one.answered(*one.ask(1))
    with Redis(port=shared_redis.port) as client:
        assert client.zcard(one.keys.slots) <= 10


def test_clock_set_back_in_a_hold_holds_for_one_lease(clock: Clock, process: MakeProcess) -> None:
    """Would hold for an hour when a host boots with a clock that is an hour ahead, and is then set right."""
    one = process(Quota(60, 60.0, burst=60))
    one.ask(1)
    clock.advance(3700)
    one.run = "after the boot"
    assert one.ask(1) == []
    clock.advance(-3600)
    assert one.ask(1) == []
    clock.advance(124)
    assert one.ask(1) == []
    clock.advance(2)
    assert len(one.ask(1)) == 1


def test_flush_before_the_clock_was_set_back_holds_for_one_lease(
    clock: Clock, process: MakeProcess, shared_redis: RedisProcess
) -> None:
    """Would hold for days: until a lease after the moment at which the new state was born, by the clock of then."""
    one, other = process(Quota(60, 60.0)), process(Quota(60, 60.0))
    one.ask(1)
    other.ask(1)
    with Redis(port=shared_redis.port) as client:
        client.delete(one.keys.state, one.keys.slots)
    clock.advance(1)
    one.ask(1)
    clock.advance(-1e6)
    assert other.ask(1) == []
    clock.advance(126)
    assert len(other.ask(1)) == 1


def test_clock_set_back_in_a_pause_keeps_the_pause(clock: Clock, process: MakeProcess) -> None:
    """Would pause for hours, or not at all, when the clock was set back during a pause."""
    one = process(Quota(60, 60.0, burst=60))
    one.answered(*one.ask(1))
    clock.advance(200)
    one.pause(300.0)
    clock.advance(-3600)
    assert one.ask(1) == []
    assert one.last is not None
    assert 295e6 < one.last.paused - one.last.now <= 301e6


def test_clock_that_is_set_back_overruns_nothing(clock: Clock, process: MakeProcess) -> None:
    """Would forget what was sent, or wait until the clock has caught up."""
    one, sent, real = process(Quota(5, 60.0, burst=5), 10.0), [], 0.0
    for turn in range(600):
        step = 1.0
        real += step
        clock.advance(step - (90.0 if turn in (50, 300, 310) else 0.0))
        numbers = one.ask(5)
        sent += [real] * len(numbers)
        one.answered(*numbers)
    assert most_in_any(60.0, sent) <= 5
    assert len(sent) >= 25


def test_daily_call_does_not_wait_for_a_lease(clock: Clock, process: MakeProcess, shared_redis: RedisProcess) -> None:
    """Would take the end of Redis' memory for a flush: a call a day, to the second, would wait two minutes each time."""
    assert MEMORY_TTL < STATE_TTL
    one = process(Quota(60, 60.0))
    one.ask(1)
    for _ in range(20):  # asks that are granted nothing keep the state alive, too
        clock.advance(1.5)
        one.ask(0)
    with Redis(port=shared_redis.port) as client:
        assert client.pttl(one.keys.state) / 1000 > STATE_TTL - 60


def test_new_quota_is_held_if_asked_to(clock: Clock, process: MakeProcess) -> None:
    """Would begin with an empty window after a flush that nobody remembers, though the user asked for certainty."""
    careful = process(Quota(60, 60.0, burst=60), hold_new=True)
    assert careful.ask(1) == []
    clock.advance(124)
    assert careful.ask(1) == []
    clock.advance(2)
    assert len(careful.ask(1)) == 1
    assert len(process(Quota(60, 60.0, burst=60), hold_new=True).ask(1)) == 1  # the quota is known now


@pytest.mark.slow
def test_interactive_call_goes_before_bulk_of_others(clock: Clock, process: MakeProcess) -> None:
    """Would let bulk jobs of other processes take each slot before a person's process comes to ask for it."""
    quota = Quota(12, 6.0, burst=12, reserve=1)
    person, jobs = process(quota), [process(quota) for _ in range(7)]
    person.answered(*person.ask(12))
    random, waits = Random(1), []
    for _ in range(20):
        assert person.ask(1) == []
        asked, at = clock.now, clock.now + person.last.soon_interactive / 1e6  # type: ignore[union-attr]
        while True:
            clock.advance(0.02)
            for job in random.sample(jobs, 3):
                job.answered(*job.ask(0, 5))
            if clock.now >= at:
                numbers = person.ask(1)
                if numbers:
                    break
                at = clock.now + min(person.last.soon_interactive / 1e6, 1.0) + 0.03  # type: ignore[union-attr]
        waits.append(clock.now - asked)
        person.answered(*numbers)
        while (free := person.ask(12)) == []:
            clock.advance(0.05)
        person.answered(*free)
    assert max(waits) <= 6.2


def test_bulk_goes_on_when_nobody_else_waits(clock: Clock, process: MakeProcess) -> None:
    """Would refuse bulk calls for long after a person gave up."""
    quota = Quota(12, 6.0, burst=12, reserve=0)
    person, job = process(quota), process(quota)
    for _ in range(12):
        job.answered(*job.ask(0, 12))
    assert person.ask(1) == []
    clock.advance(6.1)
    assert (
        sum(len(job.ask(0, 12)) for _ in range(12)) >= 9
    )  # one was asked for, so one a window and a half are promised


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4, 8])
def test_greedy_jobs_share_every_three_windows(clock: Clock, process: MakeProcess, processes: int) -> None:
    """Would let the job that asks first when the window opens take all of it, for minutes."""
    quota, random = Quota(60, 6.0, burst=60, reserve=1), Random(2)
    jobs = [process(quota) for _ in range(processes)]
    next_ask, flying = [0.0] * processes, list[tuple[float, int, int]]()
    got: list[tuple[float, int]] = []
    begin = clock.now
    while clock.now < begin + 90:
        clock.advance(0.01)
        now = clock.now
        for at, number, of in [one for one in flying if one[0] <= now]:
            flying.remove((at, number, of))
            jobs[of].answered(number)
        for place, job in enumerate(jobs):
            mine = sum(of == place for _, _, of in flying)
            if now >= next_ask[place] and mine < 64:
                numbers = job.ask(0, 64 - mine)
                flying += [(now + 0.05 + random.random() * 0.1, number, place) for number in numbers]
                got += [(now, place)] * len(numbers)
                assert job.last is not None
                next_ask[place] = now + max(min(job.last.soon_bulk / 1e6, 1.0) + 0.02 * random.random(), 0.05)
    for window in range(0, 72, 6):
        shares = [0] * processes
        for at, place in got:
            shares[place] += window <= at - begin < window + 18
        assert jain(shares) >= 0.9, (window, shares)
    assert len(got) >= 0.9 * 59 * 14


def test_resume_ends_the_pause_and_the_slow_pace(clock: Clock, process: MakeProcess) -> None:
    """Would keep a fleet silent for decades because a server once said so."""
    one = process(Quota(60, 60.0, burst=60))
    (number,) = one.ask(1)
    one.pause(1e9)
    one.answered(number)
    clock.advance(100)
    assert one.ask(1) == []
    assert clock.run(resume(one.keys)) > 0.9e15
    assert len(one.ask(5)) == 5
    seen = decode(clock.run(usage(one.keys)))
    assert (seen.paused <= seen.now, seen.pace) == (True, None)
    assert clock.run(resume(one.keys)) == -1


def test_pause_by_a_quota_with_a_longer_window_keeps_what_was_sent(clock: Clock, process: MakeProcess) -> None:
    """Would forget what was sent, because a 429 came to a process whose window is longer than the one in use."""
    slow, quick = process(Quota(5, 120.0), 600.0), process(Quota(5, 60.0), 1.0)
    assert len(slow.ask(1)) == 1
    for _ in range(60):
        clock.advance(5.0)
        quick.answered(*quick.ask(1))
    clock.advance(1.0)
    while quick.ask(1):
        quick.answered(quick._number - 1)
    slow.pause(0.0)
    quick.ask()
    clock.advance(2.0)
    assert quick.last is not None
    assert not quick.ask(5)


def test_no_key_is_kept_for_ever(clock: Clock, process: MakeProcess, prefix: str) -> None:
    """Would leave keys of workspaces that nobody uses any more in Redis for ever."""

    def of(name: str) -> Process:
        made = process(Quota(100, 60.0))
        made.keys = Keys(prefix, name, "o")
        return made

    again, rejected, bulk = of("again"), of("rejected"), of("bulk")
    again.answered(*again.ask(1), ending=Ending.UNUSED)
    again.ask(1)
    rejected.answered(*rejected.ask(1), ending=Ending.REJECTED)
    rejected.pause(1.0)
    numbers = bulk.ask(bulk=3)
    for number in numbers:
        bulk.answered(number)
        clock.advance(2.0)
    with Redis(port=clock._client.connection_pool.connection_kwargs["port"]) as client:
        keys = list(client.scan_iter(f"{prefix}:*"))
        assert len(keys) >= 7
        assert [key for key in keys if client.pttl(key) < 0] == []


@pytest.mark.parametrize("bulk", [False, True])
@pytest.mark.parametrize("limit", [2, 100])
def test_scripts_keep_the_pace_of_a_local_lane(clock: Clock, process: MakeProcess, limit: int, bulk: bool) -> None:
    """Would go at one pace after a 429 in one process, and at another one between several."""
    random, per, rejected = Random(limit), 20.0, 1.0  # the first request meets others
    one, pace, paces = process(Quota(limit, per, burst=limit)), Pace(limit, per * (1 + CLOCK_TOLERANCE)), set[float]()
    for _ in range(300):
        clock.advance(per * random.choice([0.001, 0.01, 0.1, 0.7]))
        for number in one.ask(bulk=1) if bulk else one.ask(1):
            pace.admitted(clock.now)
            clock.advance(0.1)
            if random.random() < rejected:
                pause = random.choice([0.0, 1.0, per])
                one.answered(number, ending=Ending.REJECTED)
                one.pause(pause)
                pace.rejected(clock.now, clock.now, clock.now + pause, 0.0, bulk=bulk)
            else:
                one.answered(number)
                pace.accepted(clock.now)
            rejected = random.choice([0.0, 0.0, 0.02, 0.3])
        seen, rate = decode(clock.run(usage(one.keys))).pace, pace.rate(clock.now)
        assert (math.inf if seen is None else seen) == pytest.approx(rate, rel=1e-3, abs=2e-3)
        paces.add(rate)
    assert len(paces) > 20


def test_server_that_counts_with_32_bits(shared_redis: RedisProcess, prefix: str) -> None:
    """Its slots would end at once, and the quota would be overrun: its `%d` has no room for a time."""
    keys, terms = Keys(prefix, "w", "o"), Terms.of(Quota(5), 0, 60.0)
    script, names, arguments = acquire(
        keys, "client", 1, Ask(0, 1, 0, 0.0), again=False, run="run", epoch="", age=0.0, terms=terms
    )
    text = script.text.replace("string.format('(%d', now + span - per)", "string.format('(%d', -2^31)")
    assert text != script.text
    with Redis(port=shared_redis.port) as client:
        with pytest.raises(ResponseError, match="32 bits in scripts"):
            client.eval(text, len(names), *names, *arguments)
        assert client.exists(keys.slots) == 0
