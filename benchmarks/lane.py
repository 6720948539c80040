"""`lane`: what it costs to wait for a quota, when many do: to be let in, and to give up."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from random import Random

from aiolimiter import AsyncLimiter

from recall_async import Quota
from recall_async.limits.lane import MAX_IN_FLIGHT, LocalLane

from .charts import OTHERS, OURS, chart, powers
from .report import Report, Table, Target

PER = 1000.0
"""Seconds of the quota: nobody's turn comes while the waiters queue up."""
MINE = "recall_async, a lane"
FLAT = 1.5
"""By how much the cost may grow from the fewest waiters to the most, and still count as flat."""

Wait = Callable[[], Awaitable[object]]
Open = Callable[[], object]


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def _skip() -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    loop.ahead += 2 * PER


# Each is used up when it is made, lets people wait, and lets them all go when it is opened.


async def lane(count: int) -> tuple[Wait, Open]:
    made = LocalLane("calendar_events.schedule_bot", Quota(count, PER, burst=count))
    for _ in range(count):
        (await made.admit()).answered()

    async def wait() -> None:
        (await made.admit()).answered()

    return wait, _skip


async def limiter(count: int) -> tuple[Wait, Open]:
    made = AsyncLimiter(count, PER)
    await made.acquire(count)
    return made.acquire, _skip


async def semaphore(count: int) -> tuple[Wait, Open]:
    made = asyncio.Semaphore(0)

    async def wait() -> None:
        async with made:
            pass

    def open_() -> None:
        for _ in range(min(count, MAX_IN_FLIGHT)):
            made.release()

    return wait, open_


async def futures(count: int) -> tuple[Wait, Open]:
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[None]] = []

    async def wait() -> None:
        turn: asyncio.Future[None] = loop.create_future()
        waiting.append(turn)
        await turn

    def open_() -> None:
        for turn in waiting:
            turn.set_result(None)

    return wait, open_


SUBJECTS: dict[str, Callable[[int], Awaitable[tuple[Wait, Open]]]] = {
    MINE: lane,
    "aiolimiter.AsyncLimiter": limiter,
    "asyncio.Semaphore": semaphore,
    "a task and a future each, no limit": futures,
}


async def _measure(make: Callable[[int], Awaitable[tuple[Wait, Open]]], count: int, *, cancel: bool) -> float:
    """CPU seconds per waiter, its task included: to come and be let in, or only to be cancelled."""
    wait, open_ = await make(count)
    random = Random(count)
    gc.collect()
    began = time.process_time()
    tasks = [asyncio.ensure_future(wait()) for _ in range(count)]
    await asyncio.sleep(0)
    if cancel:
        random.shuffle(tasks)
        began = time.process_time()
        for task in tasks:
            task.cancel()
    else:
        open_()
    await asyncio.wait(tasks)
    return (time.process_time() - began) / count


def run(quick: bool) -> Report:
    """The report on waiting."""
    counts = (100, 1000) if quick else (100, 1000, 10_000, 100_000)
    rounds = 2 if quick else 7
    taken: dict[tuple[str, int, bool], list[float]] = {}
    random = Random(1)
    order = [(name, count, cancel) for name in SUBJECTS for count in counts for cancel in (False, True)]
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:
        for number in range(-1, rounds):
            random.shuffle(order)
            for name, count, cancel in order:
                # A handful of waiters is over in a moment: one turn has as many of them as it takes to measure.
                seconds = statistics.fmean(
                    runner.run(_measure(SUBJECTS[name], count, cancel=cancel)) for _ in range(max(1, 2000 // count))
                )
                if number >= 0:
                    taken.setdefault((name, count, cancel), []).append(seconds)
    micros = {key: statistics.median(seconds) * 1e6 for key, seconds in taken.items()}
    return _report(counts, micros, rounds)


def _report(counts: tuple[int, ...], micros: dict[tuple[str, int, bool], float], rounds: int) -> Report:
    figure, (left, right) = chart(1, 2, size=(10.0, 3.4), sharey=True)
    for axes, cancel, title in ((left, False, "To wait and be let in"), (right, True, "To be cancelled")):
        for place, name in enumerate(SUBJECTS):
            line = [micros[name, count, cancel] for count in counts]
            axes.plot(counts, line, marker="o", label=name, color=OTHERS[place - 1] if place else OURS)
        axes.set(title=title, xlabel="waiters", ylabel="µs of CPU each", ylim=(0, None))
        powers(axes, counts)
    left.legend(fontsize="small")

    def table(cancel: bool, caption: str) -> Table:
        return Table(
            ("", *(f"{count:,} waiters" for count in counts)),
            [
                (
                    f"**{name}**" if name == MINE else name,
                    *(f"{micros[name, count, cancel]:.1f} µs" for count in counts),
                )
                for name in SUBJECTS
            ],
            caption,
        )

    admits = [micros[MINE, count, False] for count in counts]
    growth = admits[-1] / admits[0]
    rival = "aiolimiter.AsyncLimiter"
    losses = [
        f"one of {count:,} waiters costs {micros[MINE, count, False]:.1f} µs to be let in, "
        f"with {rival} {micros[rival, count, False]:.1f} µs."
        for count in (counts[-1],)
        if micros[MINE, count, False] > micros[rival, count, False]
    ]
    return Report(
        title="lane: many waiting for one quota",
        method="So many tasks wait for a quota that is used up; then it is there again, and all are let in, or all are "
        "cancelled in random order. CPU for each, with what asyncio itself takes to make, wake and end a task that waits "
        f"for a future (the last line); {rounds} rounds. Beside a lane, which knows priorities, deadlines and answers: "
        "`AsyncLimiter`, which knows a rate, and `asyncio.Semaphore`, which knows neither.",
        figure=figure,
        alt="CPU for each waiter by number of waiters, to be let in and to be cancelled",
        tables=[table(False, "To come, wait and be let in:"), table(True, "To be cancelled:")],
        targets=[
            Target(
                "≤ 20 µs per admission",
                f"{max(admits):.1f} µs at most",
                max(admits) <= 20,
                f"{micros[tuple(SUBJECTS)[-1], counts[-1], False]:.1f} µs of it are asyncio's own.",
            ),
            Target(
                f"flat from {counts[0]:,} to {counts[-1]:,} waiters (within {FLAT:g} ×)",
                f"{growth:.2f} ×",
                growth <= FLAT,
                "asyncio's own cost grows by "
                f"{micros[tuple(SUBJECTS)[-1], counts[-1], False] / micros[tuple(SUBJECTS)[-1], counts[0], False]:.2f} ×, "
                "as tasks leave the caches.",
            ),
        ],
        losses=losses,
    )
