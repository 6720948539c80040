"""A day of many workspaces in one process, in virtual time, judged every hour: `python -m tests.whole.day`.

Memory must be flat: what is allocated after the last hour is held against what was after an early one.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
from random import Random
from typing import NamedTuple

from recall_async import Quota, RecallSession
from tests.whole.faults import Faults
from tests.whole.judge import judge
from tests.whole.network import Network, NetworkLoop
from tests.whole.people import Job, Office, Person
from tests.whole.run import SCRATCH, at_rest, clocks, leftovers
from tests.whole.server import Server

HOUR = 3600.0
PER, TIMEOUT, DELAY = 60.0, 3.0, 0.2
LIMITS = {"calendar_events.schedule_bot": 12, "calendar_events.remove_bot": 12, "calendar_events.retrieve": 6}
LIMITS |= {"calendar_events.list": 6, "calendars.create": 6, "calendars.retrieve": 6}


class Day(NamedTuple):
    """What a day was like."""

    complaints: list[str]
    objects: list[int]
    """How many objects were alive after each hour."""
    requests: int
    faults: int


def live(hours: int, workspaces: int, fault_rate: float, seed: int = 1) -> Day:
    """Let so many hours pass."""
    random, loop = Random(seed), NetworkLoop()
    loop.max_turns = 10**9
    runner = asyncio.Runner(loop_factory=lambda: loop)
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder, clocks(loop), runner:
        day = runner.run(_main(loop, random, folder, hours, workspaces, fault_rate))
    return day._replace(complaints=day.complaints + [repr(error) for error in loop.failures])


async def _main(loop: NetworkLoop, random: Random, folder: str, hours: int, workspaces: int, fault_rate: float) -> Day:
    network, faults = Network(loop, random, DELAY), Faults(random, fault_rate)
    quotas = {name: Quota(limit, PER) for name, limit in LIMITS.items()}
    complaints: list[str] = []
    objects: list[int] = []
    requests = injected = 0

    def office() -> Office:
        server = Server(loop, network, random, faults, LIMITS, PER, TIMEOUT * 0.9, TIMEOUT)

        def open_session(place: int) -> RecallSession:
            return RecallSession(
                f"key-{place}", base_url=server.url, workspace=server.url, quotas=quotas, timeout=TIMEOUT
            )

        return Office(random, server, open_session, [open_session(0), open_session(1)])

    offices = [office() for _ in range(workspaces)]
    for number in range(workspaces):
        os.mkdir(os.path.join(folder, str(number)))
    people = [Person(office) for office in offices]
    for _ in range(hours):
        faults.rate = fault_rate
        jobs = [Job(office, os.path.join(folder, str(number)), 10) for number, office in enumerate(offices)]
        # An hour's work takes about as long, by chance; what takes twice as long hangs.
        async with asyncio.timeout(2 * HOUR), asyncio.TaskGroup() as group:
            for person, job in zip(people, jobs, strict=True):
                group.create_task(person.work(90, 60.0))
                group.create_task(job.work())
        faults.rate = 0.0
        await asyncio.sleep(PER + 5 * TIMEOUT)
        for each, job in zip(offices, jobs, strict=True):
            each.jobs = [job]
            await job.finish()
        await asyncio.sleep(2 * PER)
        for each in offices:
            requests += len(each.server.asked)
            injected += sum(asked.fault.name != "NONE" for asked in each.server.asked)
            complaints += [*at_rest(each), *judge(each, each.server, TIMEOUT, DELAY, strangers=False)]
            each.stories.clear()
            each.jobs.clear()
            each.server.forget()
            while len(each.server.events) > 10:
                each.server.events.popitem()
            each.sessions[0], old = each.open_session(0), each.sessions[0]
            await old.aclose()
        del jobs, job, each, old
        gc.collect()
        objects.append(len(gc.get_objects()))
    for each in offices:
        for session in each.sessions:
            await session.aclose()
    complaints += await leftovers(loop, network)
    return Day(complaints, objects, requests, injected)


if __name__ == "__main__":
    day = live(int(sys.argv[1]) if sys.argv[1:] else 24, 20, 0.02)
    print(
        f"{day.requests} requests, {day.faults} faults, objects after each hour: {day.objects}",
        *day.complaints,
        sep="\n",
    )
    sys.exit(1 if day.complaints else 0)
