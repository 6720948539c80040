"""The promise to interactive calls, as the scripts keep it, held against the one in a single process."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest
from redis import Redis

from recall_async import Quota
from recall_async.limits.contract import Ending
from recall_async.limits.promise import OPENING, Promise
from recall_async.limits.redis.scripts import Keys
from recall_async.limits.window import Window
from tests.redis.moved_clock import Clock, Process
from tests.redis.server import RedisProcess


@pytest.mark.parametrize("seed", range(24))
def test_scripts_keep_the_promise_of_promise_py(shared_redis: RedisProcess, prefix: str, seed: int) -> None:
    """Would let bulk calls of several processes take what a single process leaves to interactive ones, or leave more."""
    random = Random(seed)
    limit, per = random.choice([(12, 6.0), (60, 6.0), (60, 60.0), (200, 60.0)])
    quota = Quota(limit, per, random.choice([None, limit, max(1, limit // 4)]), random.choice([None, 0, 2]))
    with Redis(port=shared_redis.port) as client:
        clock = Clock(client, 1.7e9)
        processes = [Process(clock, Keys(prefix, "w", "o"), f"p{place}", quota, 1e4) for place in range(3)]
        window, begin = Window(per), clock.now
        promise = Promise(window, quota)
        flying: deque[tuple[Process, int]] = deque()
        asked = went = 0
        for _ in range(500):
            clock.advance(round(random.expovariate(limit / per * 1.5), 6))
            now = clock.now - begin + 1000
            process, action = random.choice(processes), random.random()
            if action < 0.2:
                promise.wanted(now)
                numbers = process.ask(1)
                assert bool(numbers) <= (window.opens(now, limit) <= now)
                for number in numbers:
                    window.take()
                    flying.append((process, number))
            elif action < 0.6:
                # The bucket may be empty where the promise allows a call, which Redis then refuses.
                numbers = process.ask(0, 1)
                allows = promise.opens(now) <= now
                assert bool(numbers) <= allows, (promise.opens(now) - now, process.last)
                asked, went = asked + allows, went + len(numbers)
                for number in numbers:
                    window.take()
                    flying.append((process, number))
            elif flying:
                random.shuffle(flying)
                process, number = flying.popleft()
                ending = random.choice([Ending.ANSWERED] * 8 + [Ending.REJECTED, Ending.UNUSED])
                process.answered(number, ending=ending)
                if ending is Ending.UNUSED:
                    window.unused()
                else:
                    window.answered(now)
                    promise.answered(now)
        if quota.burst is None:
            assert went >= 0.6 * asked
        assert went


def test_queue_is_kept_only_while_bulk_calls_ask(shared_redis: RedisProcess, prefix: str) -> None:
    """Would let the list of a workspace without bulk calls grow for ever, at the cost of each of its calls."""
    with Redis(port=shared_redis.port) as client:
        clock = Clock(client)
        one = Process(clock, Keys(prefix, "w", "o"), "p", Quota(60, 6.0))
        one.answered(*one.ask(3))
        assert client.llen(one.keys.promise) == 0
        one.answered(*one.ask(0, 3))
        assert client.llen(one.keys.promise) > 0
        assert client.pttl(one.keys.promise) > 0
        for _ in range(200):
            clock.advance(0.1)
            one.answered(*one.ask(1))
        assert client.llen(one.keys.promise) == 0


def test_slots_that_bulk_leaves_are_there(shared_redis: RedisProcess, prefix: str) -> None:
    """Would have a person wait behind a job that took half of the window at once and spreads the rest."""
    with Redis(port=shared_redis.port) as client:
        clock, quota = Clock(client), Quota(60, 6.0)
        job, person = (Process(clock, Keys(prefix, "w", "o"), name, quota) for name in ("job", "person"))
        flying: list[tuple[float, int]] = []
        refused = counted = calls = 0
        for turn in range(6000):
            clock.advance(0.01)
            done = [number for at, number in flying if at <= clock.now]
            flying = [one for one in flying if one[0] > clock.now]
            job.answered(*done)
            numbers = job.ask(0, 32 - len(flying))
            counted += len(numbers)
            flying += [(clock.now + 0.05, number) for number in numbers]
            if turn > 600 and turn % 50 == 0:  # two a second
                slot = person.ask(1)
                calls, refused = calls + 1, refused + (not slot)
                person.answered(*slot)
        assert refused <= 1
        assert counted + calls >= 0.93 * 60 * 10


def test_job_of_several_processes_begins_with_a_few_requests(shared_redis: RedisProcess, prefix: str) -> None:
    """Would send half a window at once, or a request more with each ask, to a server whose window others have filled; or
    hold up greedy jobs, interactive calls, and a job whose killed processes have lost slots."""
    with Redis(port=shared_redis.port) as client:
        clock, quota = Clock(client), Quota(600, 60.0)
        processes = [Process(clock, Keys(prefix, "w", "o"), f"p{place}", quota) for place in range(3)]

        def ask_all() -> list[tuple[Process, int]]:
            return [(each, number) for _ in range(8) for each in processes for number in each.ask(0, 300)]

        for _ in range(2):
            flying = ask_all()
            assert len(flying) == OPENING
            for each, number in flying[:5]:
                each.answered(number)
            assert len(ask_all()) == 2 * 5  # the place of each, and one more
            assert len(processes[0].ask(40)) == 40
            assert not ask_all()
            clock.advance(0.11)
            assert len(ask_all()) == 1
            clock.advance(300.0)  # all slots are free, and no response is left of the last window
        greedy = Process(clock, Keys(prefix, "greedy", "o"), "p", Quota(600, 60.0, 600))
        assert sum(len(greedy.ask(0, 300)) for _ in range(20)) == quota.limit - quota.reserved
