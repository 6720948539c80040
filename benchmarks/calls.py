"""`calls`: what one call costs beside the least that it can cost, and beside what people write."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp
import httpx
import uvloop
from aiolimiter import AsyncLimiter

from recall_async import Quota, RecallSession

from .charts import OTHERS, OURS, chart
from .peers import KEY, Call, posting, scheduling
from .processes import serving
from .pydantic_models import PydanticEvent
from .report import Report, Table, Target
from .rounds import ratio, turns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CONCURRENCY = 32
EVERYTHING = 10**6
"""Requests per second that every limiter here grants: more than there will be."""

Build = Callable[[str, AsyncExitStack], Coroutine[Any, Any, Call]]


async def ours(url: str, stack: AsyncExitStack) -> Call:
    quotas = {"calendar_events.schedule_bot": Quota(EVERYTHING, 1.0)}
    recall = await stack.enter_async_context(RecallSession(KEY, base_url=url, workspace=str(uuid4()), quotas=quotas))
    return scheduling(recall)


async def bare(url: str, stack: AsyncExitStack) -> Call:
    return posting(await stack.enter_async_context(aiohttp.ClientSession()), url)


async def as_people_write_it(url: str, stack: AsyncExitStack) -> Call:
    http = await stack.enter_async_context(aiohttp.ClientSession(headers={"Authorization": f"Token {KEY}"}))
    limiter = AsyncLimiter(EVERYTHING, 1)

    async def call(event_id: str) -> object:
        body = {"deduplication_key": f"key-{event_id}", "bot_config": {"bot_name": "Notes"}}
        headers = {"Idempotency-Key": str(uuid4())}
        async with (
            limiter,
            http.post(f"{url}/api/v2/calendar-events/{event_id}/bot/", json=body, headers=headers) as answer,
        ):
            answer.raise_for_status()
            return await answer.json()

    return call


async def httpx_and_pydantic(url: str, stack: AsyncExitStack) -> Call:
    http = await stack.enter_async_context(
        httpx.AsyncClient(base_url=url, headers={"Authorization": f"Token {KEY}"}, timeout=30)
    )

    async def call(event_id: str) -> object:
        answer = await http.post(
            f"/api/v2/calendar-events/{event_id}/bot/",
            json={"deduplication_key": f"key-{event_id}", "bot_config": {"bot_name": "Notes"}},
            headers={"Idempotency-Key": str(uuid4())},
        )
        answer.raise_for_status()
        return PydanticEvent.model_validate_json(answer.content)

    return call


CLIENTS: dict[str, Build] = {
    "recall_async": ours,
    "aiohttp + msgspec, bare": bare,
    "aiohttp + aiolimiter + json": as_people_write_it,
    "httpx + pydantic": httpx_and_pydantic,
}
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Subject:
    """One client in one event loop, kept open from turn to turn."""

    def __init__(self, build: Build, loop: str, url: str) -> None:
        self.wall: list[float] = []
        self.cpu: list[float] = []
        self._runner = asyncio.Runner(loop_factory=LOOPS[loop])
        self._stack = AsyncExitStack()
        self._call = self._runner.run(build(url, self._stack))

    def turn(self, ids: list[str], *, counts: bool) -> None:
        """One call for each id, `CONCURRENCY` of them at a time."""
        cpu, wall = time.process_time(), time.perf_counter()
        self._runner.run(self._calls(iter(ids)))
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        if counts:
            self.cpu.append(cpu / len(ids))
            self.wall.append(wall / len(ids))

    async def _calls(self, ids: Iterator[str]) -> None:
        async def worker() -> None:
            for event_id in ids:
                await self._call(event_id)

        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(worker())

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


def run(quick: bool) -> Report:
    """The report on calls."""
    rounds, turn = (2, 32) if quick else (30, 320)
    with serving("benchmarks.server") as url:
        subjects = {(name, loop): Subject(build, loop, url) for name, build in CLIENTS.items() for loop in LOOPS}
        random = Random(1)
        ids = iter(lambda: str(UUID(int=random.getrandbits(128), version=4)), "")
        for subject, counts in turns(subjects.values(), rounds):
            subject.turn(list(islice(ids, turn)), counts=counts)
        for subject in subjects.values():
            subject.close()
    return _report(subjects, rounds, turn)


def _report(subjects: dict[tuple[str, str], Subject], rounds: int, turn: int) -> Report:
    cpu = {key: statistics.median(subject.cpu) for key, subject in subjects.items()}
    wall = {key: statistics.median(subject.wall) for key, subject in subjects.items()}
    mine, least, _, pydantic = CLIENTS
    to_bare = {
        (name, loop): ratio(subject.cpu, subjects[least, loop].cpu) for (name, loop), subject in subjects.items()
    }
    to_pydantic = ratio(subjects[pydantic, "asyncio"].wall, subjects[mine, "asyncio"].wall)
    times = to_bare[mine, "asyncio"]
    over = (times - 1) * cpu[least, "asyncio"] * 1e6

    figure, (left, right) = chart(1, 2, size=(10.0, 3.2))
    # Beside the last client's CPU, the others' would be bars of a few pixels.
    _pairs(left, {key: seconds * 1e6 for key, seconds in cpu.items() if key[0] != pydantic})
    left.set(title="CPU per call", xlabel="µs")
    _pairs(right, {key: 1 / seconds for key, seconds in wall.items()})
    right.set(title="Calls per second", xlabel="calls / s")
    right.legend(loc="lower right")

    def row(name: str) -> tuple[str, ...]:
        return (
            f"**{name}**" if name == mine else name,
            *(f"{cpu[name, loop] * 1e6:.0f} µs" for loop in LOOPS),
            *(f"{to_bare[name, loop]:.2f}" for loop in LOOPS),
            *(f"{1 / wall[name, loop]:,.0f} / s" for loop in LOOPS),
        )

    return Report(
        title="calls: what one call costs",
        method=f"`schedule_bot`, {CONCURRENCY} at a time, to a server that answers each with the same event of about 3 kB, "
        f"with the quota out of the way; {rounds} rounds of {turn} calls for each client in each event loop, every call "
        "for another event with another key. Bare is the least that does the same over aiohttp: it encodes the body, "
        "sends the headers that the API wants and decodes the answer into the same type; it has no quota, no retry, no "
        "errors and no deadlines. The other two are what people write. The server has another core for itself.",
        figure=figure,
        alt="CPU per call and calls per second, by client and event loop",
        tables=[
            Table(
                (
                    "client",
                    *(f"CPU, {loop}" for loop in LOOPS),
                    *(f"times bare, {loop}" for loop in LOOPS),
                    *(f"calls, {loop}" for loop in LOOPS),
                ),
                [row(name) for name in CLIENTS],
            )
        ],
        targets=[
            Target(
                f"≤ 1.20 × the CPU of a bare call, {' and '.join(LOOPS)}",
                " and ".join(f"{to_bare[mine, loop]:.2f} ×" for loop in LOOPS),
                all(to_bare[mine, loop] <= 1.20 for loop in LOOPS),
                f"beside the {cpu[least, 'asyncio'] * 1e6:.0f} µs that aiohttp takes by itself, the guarantees of a call "
                f"(a slot of the quota, the retry rules, the check whether a request may have left) take {over:.0f} µs.",
            ),
            Target("≥ 10 × the throughput of httpx + pydantic", f"{to_pydantic:.1f} ×", to_pydantic >= 10),
        ],
        losses=[
            f"a call takes {times - 1:.0%} more CPU than one over bare aiohttp that knows no quota, retry or deadline."
        ]
        if times > 1
        else [],
        packages=("httpx", "pydantic", "uvloop"),
    )


def _pairs(axes: Axes, values: dict[tuple[str, str], float]) -> None:
    """Horizontal bars for each client, one for each event loop."""
    names = list(dict.fromkeys(name for name, _ in values))
    for offset, (loop, colour) in enumerate(zip(LOOPS, (OURS, OTHERS[0]), strict=True)):
        places = [place + (offset - 0.5) * 0.38 for place in range(len(names))]
        drawn = axes.barh(places, [values[name, loop] for name in names], height=0.36, color=colour, label=loop)
        axes.bar_label(drawn, fmt="{:,.0f}", padding=4)
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False, axis="y")
    axes.set_xmargin(0.15)
    axes.invert_yaxis()
