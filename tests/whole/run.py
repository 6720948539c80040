"""One run of the whole client, aiohttp included, in virtual time; all that is random follows from a seed.

python -m tests.whole.run SEED            run one seed and say what it did
python -m tests.whole.run --trace SEED    with every request
python -m tests.whole.run FIRST LAST      run many, and name those that fail
python -m tests.whole.run --redis ...     the same with the quota in Redis: each session is a process of its own
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import random as global_random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from random import Random
from typing import NamedTuple
from unittest import mock

import aiohttp.connector
from redis import Redis

from recall_async import Quota, RecallSession, RetryPolicy
from recall_async.sync import apply, planner
from tests.redis.server import RedisProcess
from tests.whole.faults import Faults
from tests.whole.judge import judge
from tests.whole.network import Network, NetworkLoop
from tests.whole.owners import Owner, SyncingOwner
from tests.whole.people import Janitor, Job, Office, Person
from tests.whole.server import EPOCH, Server
from tests.whole.shared import SharedQuota

_numbers = itertools.count()  # every run has a workspace of its own: what an earlier loop sent would be inherited
LONGEST = 3600.0
"""Seconds of virtual time after which a run hangs."""
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Setting(NamedTuple):
    """What kind of world a run takes place in."""

    limits: dict[str, int]
    per: float
    timeout: float
    delay: float
    fault_rate: float
    people: int
    calls: int
    pause: float
    jobs: int
    actions: int
    owners: int
    strangers: bool
    attempts: int


def setting_of(random: Random) -> Setting:
    """Draw one."""
    size = random.choice((2, 5, 12, 40))
    names = ("schedule_bot", "remove_bot", "retrieve", "list")
    limits = {f"calendar_events.{name}": random.randint(1, size) for name in names}
    limits |= {"calendars.create": size, "calendars.retrieve": size}
    return Setting(
        limits=limits,
        per=random.choice((1.0, 4.0, 10.0)),
        timeout=random.choice((1.0, 3.0)),
        delay=random.choice((0.01, 0.2)),
        fault_rate=random.choice((0.0, 0.02, 0.1, 0.4)),
        people=random.randint(0, 4),
        calls=random.randint(1, 12),
        pause=random.choice((0.1, 2.0)),
        jobs=random.randint(0, 2),
        actions=random.choice((1, 6, 20)),
        owners=random.choice((0, 0, 1)),
        strangers=random.random() < 0.15,
        attempts=random.choice((5, 5, 5, 1, 2)),
    )


class LoopClock:
    """Stands for `datetime` where only `now` is asked for."""

    def __init__(self, loop: NetworkLoop) -> None:
        self._loop = loop

    def now(self, zone: tzinfo) -> datetime:
        return (EPOCH + timedelta(seconds=self._loop.time())).astimezone(zone)


@contextlib.contextmanager
def clocks(loop: NetworkLoop) -> Iterator[list[float]]:
    """Let the clocks of the process go as the loop's does; what is put in the list is added to the one on the wall.

    Plans are made by a clock that is right: a watermark rests on it.
    """
    step = [0.0]

    def wall() -> float:
        return EPOCH.timestamp() + loop.time() + step[0]

    with (
        mock.patch.object(time, "time", wall),
        mock.patch.object(aiohttp.connector, "monotonic", loop.time),
        mock.patch.object(planner, "datetime", LoopClock(loop)),
        mock.patch.object(apply, "datetime", LoopClock(loop)),
    ):
        yield step


class Result(NamedTuple):
    """What happened in a run."""

    setting: Setting
    complaints: list[str]
    counts: dict[str, int]
    trace: list[str]
    """Every request that arrived."""


def run(seed: int, redis: Redis | None = None) -> Result:
    """Run a seed; with the quota in this Redis, which loses all that it has."""
    random = Random(seed)
    global_random.seed(seed)  # the client's jitter
    setting = setting_of(random)
    loop = NetworkLoop()
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder, clocks(loop) as step:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            result = runner.run(_main(loop, random, setting, folder, step, f"run {next(_numbers)}", redis))
        lost = [f"a callback or a lost task failed: {error!r}" for error in loop.failures]
    return result._replace(complaints=result.complaints + lost)


async def _main(
    loop: NetworkLoop, random: Random, setting: Setting, folder: str, step: list[float], workspace: str,
    redis: Redis | None,
) -> Result:  # fmt: skip
    network = Network(loop, random, setting.delay)
    faults = Faults(random, setting.fault_rate)
    server = Server(
        loop, network, random, faults, setting.limits, setting.per, setting.timeout * 0.9, setting.timeout
    )  # fmt: skip
    quotas = {name: Quota(limit, setting.per) for name, limit in setting.limits.items()}
    shared = None if redis is None else SharedQuota(redis, loop, random, workspace, quotas, setting.timeout)

    def open_session(place: int) -> RecallSession:
        return RecallSession(
            f"key-{place}",
            base_url=server.url,
            workspace=workspace,
            quotas=quotas,
            timeout=setting.timeout,
            retry=RetryPolicy(attempts=setting.attempts, backoff_cap=4.0),
            quota_store=None if shared is None else shared.store(place),
        )

    if shared is not None:
        await shared.begin()
    office = Office(random, server, open_session)
    office.sessions = [open_session(0), open_session(1)]
    complaints: list[str] = []

    def set_clock(seconds: float) -> None:
        step[0] = seconds

    others = [asyncio.ensure_future(Janitor(office, set_clock).work())]
    if shared is not None:
        others.append(asyncio.ensure_future(shared.mishaps()))
    if setting.strangers:
        others.append(asyncio.ensure_future(server.bother()))
    try:
        async with asyncio.timeout(LONGEST):
            async with asyncio.TaskGroup() as group:
                for _ in range(setting.people):
                    group.create_task(Person(office).work(setting.calls, setting.pause))
                for _ in range(setting.jobs):
                    office.jobs.append(Job(office, folder, setting.actions))
                    group.create_task(office.jobs[-1].work())
                for _ in range(setting.owners):
                    kind = SyncingOwner if len(server.events) % 2 else Owner
                    office.owners.append(kind(office, setting.actions))
                    group.create_task(office.owners[-1].work())
            for other in others:
                other.cancel()
            await asyncio.wait(others)
            faults.rate = 0.0
            if shared is not None:
                shared.heal()
            await asyncio.sleep(40 + 5 * setting.timeout + setting.per)  # until what lies around, and others, are gone
            for job in office.jobs:
                await job.finish()
            for owner in office.owners:
                await owner.finish()
            await asyncio.sleep(2 * setting.per + 3 * setting.timeout)
            complaints += at_rest(office)
            for session in office.sessions:
                await session.aclose()
            if shared is not None:
                complaints += await shared.left()
    except TimeoutError:
        hung = f"it hung: {[str(task.get_coro()) for task in asyncio.all_tasks()]}"
        return Result(setting, [*complaints, hung], {}, [str(asked) for asked in server.asked])
    complaints += await leftovers(loop, network)
    complaints += judge(
        office, server, setting.timeout, setting.delay, strangers=setting.strangers, shared=shared is not None
    )
    kinds = Counter(type(story.error).__name__ if story.error else "done" for story in office.stories)
    outcomes = Counter(outcome.status for job in office.jobs for outcome in job.outcomes)
    asked = {"asked": len(server.asked), "faults": sum(a.fault.name != "NONE" for a in server.asked)}
    counts = {**asked, "connections": network.peak, **kinds, **outcomes}
    return Result(setting, complaints, counts, [str(asked) for asked in server.asked])


def at_rest(office: Office) -> list[str]:
    """What the lanes still hold when everything is long over."""
    complaints = []
    for session in office.sessions:
        for name, lane in session.statistics().items():
            if lane.taken or lane.in_flight or any(lane.waiting.values()):
                complaints.append(f"{name} holds slots or calls: {lane}")
    return complaints


async def leftovers(loop: NetworkLoop, network: Network) -> list[str]:
    """What is left of tasks, connections and timers when all sessions are closed."""
    gc.collect(0)
    await asyncio.sleep(1)
    complaints = []
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        complaints.append(f"tasks are left: {[str(task.get_coro()) for task in others]}")
    if network.open:
        complaints.append(f"{len(network.open)} connections are left")
    if loop.timers():
        complaints.append(f"{loop.timers()} timers are left")
    return complaints


def main(arguments: list[str]) -> int:
    """The command line."""
    flags = {word for word in arguments if word.startswith("--")}
    seeds = [int(word) for word in arguments if word not in flags]
    logging.getLogger("recall_async").setLevel(logging.CRITICAL)
    with contextlib.ExitStack() as stack:
        redis = None
        if "--redis" in flags:
            process = RedisProcess()
            stack.callback(process.close)
            process.start()
            redis = stack.enter_context(Redis(port=process.port))
        return _run_all(range(seeds[0], seeds[-1] + 1), redis, trace="--trace" in flags)


def _run_all(seeds: range, redis: Redis | None, *, trace: bool) -> int:
    failed = 0
    for seed in seeds:
        try:
            result = run(seed, redis)
        except BaseException as error:
            if len(seeds) == 1 or not isinstance(error, Exception):
                raise
            result = Result(setting_of(Random(seed)), [f"it raised {error!r}"], {}, [])
        if trace:
            print(*result.trace, sep="\n")
        if len(seeds) == 1:
            print(f"{result.setting}\n{result.counts}")
        if result.complaints:
            failed += 1
            print(f"seed {seed}: " + "\n    ".join(result.complaints[:5]), flush=True)
    print(f"{len(seeds) - failed} of {len(seeds)} runs are well")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
