"""`calls`: what one call costs beside the least that it can cost, and beside what people write."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
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
from .processes import measured, serving
from .pydantic_models import PydanticEvent
from .report import Report, Table, judged
from .rounds import INTERPRETERS, Figure, figure, ratio, turns

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


Taken = dict[str, dict[str, dict[str, list[float]]]]
"""Seconds per call in each round, by client, event loop, and `cpu` or `wall`."""


def measure(url: str, rounds: int, turn: int, seed: int) -> Taken:
    """What the clients' calls take in this interpreter."""
    subjects = {(name, loop): Subject(build, loop, url) for name, build in CLIENTS.items() for loop in LOOPS}
    random = Random(seed)
    ids = iter(lambda: str(UUID(int=random.getrandbits(128), version=4)), "")
    for subject, counts in turns(subjects.values(), rounds):
        subject.turn(list(islice(ids, turn)), counts=counts)
    for subject in subjects.values():
        subject.close()
    return {
        name: {loop: {"cpu": subjects[name, loop].cpu, "wall": subjects[name, loop].wall} for loop in LOOPS}
        for name in CLIENTS
    }


def run(quick: bool) -> Report:
    """The report on calls."""
    interpreters, rounds, turn = (2, 1, 32) if quick else (2 * INTERPRETERS, 6, 320)
    with serving("benchmarks.server") as url:
        found: list[Taken] = [
            measured("benchmarks.calls", url, str(rounds), str(turn), str(seed)) for seed in range(interpreters)
        ]
    return _report(found, rounds, turn)


def _report(found: list[Taken], rounds: int, turn: int) -> Report:
    cells = [(name, loop) for name in CLIENTS for loop in LOOPS]

    def typical(what: str) -> dict[tuple[str, str], float]:
        return {
            (name, loop): statistics.median(second for each in found for second in each[name][loop][what])
            for name, loop in cells
        }

    def compared(name: str, to: str, loop: str, what: str) -> Figure:
        return figure(ratio(each[name][loop][what], each[to][loop][what]) for each in found)

    cpu, wall = typical("cpu"), typical("wall")
    mine, least, _, pydantic = CLIENTS
    to_bare = {(name, loop): compared(name, least, loop, "cpu") for name, loop in cells}
    to_pydantic = compared(pydantic, mine, "asyncio", "wall")
    times = to_bare[mine, "asyncio"].value
    over = (times - 1) * cpu[least, "asyncio"] * 1e6

    drawing, (left, right) = chart(1, 2, size=(10.0, 3.2))
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
            *(f"{to_bare[name, loop].value:.2f}" for loop in LOOPS),
            *(f"{1 / wall[name, loop]:,.0f} / s" for loop in LOOPS),
        )

    return Report(
        title="calls: what one call costs",
        method=f"`schedule_bot`, {CONCURRENCY} at a time, to a server that answers each with the same event of about 3 kB, "
        f"with the quota out of the way; {rounds} rounds of {turn} calls for each client in each event loop, in each of "
        f"{len(found)} interpreters, every call for another event with another key. Bare is the least that does the same "
        "over aiohttp: it encodes the body, sends the headers that the API wants and decodes the answer into the same "
        "type; it has no quota, no retry, no errors and no deadlines. The other two are what people write. The server has "
        "another core for itself.",
        figure=drawing,
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
            judged(
                f"≤ 1.20 × the CPU of a bare call, {' and '.join(LOOPS)}",
                [to_bare[mine, loop] for loop in LOOPS],
                at_most=1.20,
                reason=f"beside the {cpu[least, 'asyncio'] * 1e6:.0f} µs that aiohttp takes by itself, the guarantees of a "
                "call (a slot of the quota, the retry rules, the check whether a request may have left) take "
                f"{over:.0f} µs.",
            ),
            judged("≥ 10 × the throughput of httpx + pydantic", [to_pydantic], at_least=10, form="{:.1f} ×"),
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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    for name in ("rounds", "turn", "seed"):
        parser.add_argument(name, type=int)
    options = parser.parse_args()
    sys.stdout.write(json.dumps(measure(options.url, options.rounds, options.turn, options.seed)))


if __name__ == "__main__":
    main()
