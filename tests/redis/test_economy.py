"""How few scripts a request takes: its slot, and how the one before it ended, are one script."""

from __future__ import annotations

import asyncio
import random as global_random
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import NamedTuple

import pytest
from redis import Redis

from recall_async import Priority, Quota
from recall_async.limits.contract import Ending
from recall_async.limits.redis.memory import Memory
from recall_async.limits.redis.outbox import Outbox
from recall_async.limits.redis.scripts import ACQUIRE, MARK, OVERTAKEN, SETTLE, Command, Ended, Keys, Terms
from tests.redis.moved_clock import Clock
from tests.redis.moved_clock import Process as Speaker
from tests.redis.server import RedisProcess
from tests.redis.words import ends, reply
from tests.redis.world import Process, World
from tests.virtual_time import VirtualTimeLoop

QUOTA = Quota(600, 60.0)


@pytest.fixture
def redis(own_redis: Callable[..., RedisProcess]) -> Iterator[Redis]:
    with Redis(port=own_redis().port) as client:
        yield client


class Count(NamedTuple):
    """What a process sent in some virtual time."""

    at: list[float]
    """When each request was sent, in seconds since the beginning."""
    scripts: float
    """Scripts for each request, after the first window."""


class _CountingWorld(World):
    def execute(self, commands: list[Command]) -> list[object]:
        self.scripts += sum(command.script is not MARK and self.loop.time() > 1060 for command in commands)
        return super().execute(commands)

    scripts = 0


def sent(client: Redis, callers: int, priority: Priority, rest: float) -> Count:
    """Let callers send for two minutes; each waits `rest` seconds between its requests, which take a twentieth."""
    global_random.seed(1)
    loop = VirtualTimeLoop(1000.0)
    world = _CountingWorld(client, Random(1))
    world.loop = loop
    at: list[float] = []

    async def caller(process: Process) -> None:
        while True:
            slot = await process.lane.admit(priority)
            at.append(loop.time() - 1000)
            await asyncio.sleep(0.05)
            slot.answered()
            await asyncio.sleep(rest)

    async def main() -> None:
        process = Process(world, 0, QUOTA, longest_request=30.0)
        tasks = [asyncio.create_task(caller(process)) for _ in range(callers)]
        await asyncio.sleep(120)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        process.lane.leave(QUOTA)
        await process.lane.flush()

    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())
    finally:
        world.close()
    assert not loop.failures
    return Count(at, world.scripts / sum(moment > 60 for moment in at))


def test_interactive_request_is_one_script(redis: Redis) -> None:
    """Would have Redis run a script for each slot, and another one for its end."""
    count = sent(redis, 1, Priority.INTERACTIVE, 0.06)
    assert len(count.at) > 300
    assert count.scripts < 1.1


def test_bulk_requests_share_a_script_and_leave_no_slot_idle(redis: Redis) -> None:
    """Would have Redis run a script for each slot that returns, or leave slots unused that a job waits for."""
    count = sent(redis, 32, Priority.BULK, 0.0)
    assert count.scripts < 0.65
    assert len(count.at) >= 0.97 * 2 * QUOTA.limit


@pytest.mark.parametrize("seed", range(12))
def test_ends_that_travel_with_an_ask_count_as_those_that_go_alone(
    shared_redis: RedisProcess, prefix: str, seed: int
) -> None:
    """Would free a slot too early, too late or never, or forget it in the promise, because it came in the other script."""
    random = Random(seed)
    quota = Quota(20, 6.0, random.choice([None, 5, 20]), random.choice([None, 0, 3]))
    with Redis(port=shared_redis.port) as client:
        clock = Clock(client, 1.7e9)
        alone, together = (
            Speaker(clock, Keys(prefix + way, "w", "o"), "client", quota) for way in ("alone", "together")
        )
        flying: list[int] = []
        for _ in range(150):
            clock.advance(round(random.expovariate(4), 6))
            numbers = [flying.pop(random.randrange(len(flying))) for _ in range(random.randrange(len(flying) + 1))]
            ended = [Ended(number, random.choice(list(Ending)[:2]), 0.0) for number in numbers]
            for end in ended:
                alone.answered(end.number, ending=end.ending)
            asks = random.randrange(3), random.randrange(3)
            granted = alone.ask(*asks)
            assert together.ask(*asks, ended=ended) == granted
            assert alone.last is not None
            assert together.last is not None
            assert alone.last._replace(epoch="", quota="") == together.last._replace(epoch="", quota="")
            one, other = (client.zrange(speaker.keys.slots, 0, -1, withscores=True) for speaker in (alone, together))
            assert one == other
            assert client.lrange(alone.keys.promise, 0, -1) == client.lrange(together.keys.promise, 0, -1)
            flying += granted


def test_message_is_one_script_until_it_is_confirmed() -> None:
    """Would lose how a slot ended, if the message that said so was void or got no reply."""
    keys, terms = Keys("recall", "w", "o"), Terms.of(QUOTA, 0, 60.0)
    outbox = Outbox(keys, Memory("recall").known(("w", "o")))
    compose = partial(outbox.compose, run="run", terms=terms)
    outbox.ended(7, Ending.ANSWERED, 1.0)
    (only,) = compose(1.5, interactive=1, bulk=0)
    assert only.script is ACQUIRE
    assert ends(only) == [(7, Ending.ANSWERED, 500_000)]
    outbox.ended(8, Ending.UNUSED, 2.0)
    assert outbox.on_reply([OVERTAKEN], 2.0) is None
    outbox.on_no_reply()
    (again,) = compose(2.0, interactive=0, bulk=0)
    assert ends(again) == [(7, Ending.ANSWERED, 1_000_000), (8, Ending.UNUSED, 0)]
    assert outbox.on_reply([reply(1, name=f"1-a/run {terms.text}")], 2.1) is not None
    assert not outbox.pending
    outbox.ended(0, Ending.ANSWERED, 3.0)
    (end,) = compose(3.0, interactive=0, bulk=0)
    assert end.script is SETTLE
