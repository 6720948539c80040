"""`lane`: what it costs to wait for a quota, when many do: to be let in, and to give up."""

from __future__ import annotations

import asyncio
import gc
import math
import statistics
import time
from collections.abc import Awaitable, Callable
from random import Random

from aiolimiter import AsyncLimiter

from recall_async import Quota
from recall_async.limits.local.lane import LocalLane
from recall_async.limits.sockets import MAX_IN_FLIGHT

from .charts import OTHERS, OURS, chart, powers
from .report import Report, Table, Target
from .rounds import turns

PER = 1000.0
"""Seconds of the quota: nobody's turn comes while the waiters queue up."""
MINE = "recall_async, a lane"
REJECTED = 100
"""Requests that are answered 429 while others wait."""
UNCONTENDED = 5000
"""Admissions in a row, each with a free slot."""
FLAT = 1.5
"""By how much the cost may grow from the fewest waiters to the most, and still count as flat."""

Wait = Callable[[], Awaitable[object]]
Open = Callable[[], object]


class SkippingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put forward."""

    ahead = 0.0

    def time(self) -> float:
        return time.monotonic() + self.ahead


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


RIVAL = "aiolimiter.AsyncLimiter"
SEMAPHORE = "asyncio.Semaphore"
ASYNCIO = "a task and a future each, no limit"
SUBJECTS: dict[str, Callable[[int], Awaitable[tuple[Wait, Open]]]] = {
    MINE: lane,
    RIVAL: limiter,
    SEMAPHORE: semaphore,
    ASYNCIO: futures,
}
Cell = tuple[str, int, bool]
"""Who, how many, and whether they are cancelled."""


async def _measure(make: Callable[[int], Awaitable[tuple[Wait, Open]]], count: int, cancel: bool) -> float:
    """CPU seconds per waiter, its task included: to come and be let in, or only to be cancelled."""
    wait, open_ = await make(count)
    random = Random(count)
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


async def _pause(count: int) -> float:
    """CPU seconds that one answer of 429 takes while `count` calls wait, half of them with a deadline."""
    made = LocalLane("calendar_events.schedule_bot", Quota(REJECTED, PER, burst=REJECTED))
    slots = [await made.admit() for _ in range(REJECTED)]
    waiters = [made.admit(until=1e9 if one % 2 else math.inf) for one in range(count)]
    for waiter in waiters:  # driven by hand: nothing else is measured
        waiter.send(None)
    began = time.process_time()
    for number, slot in enumerate(slots):
        slot.rejected(5.0 + number)
    seconds = time.process_time() - began
    for waiter in waiters:
        waiter.close()
    return seconds / REJECTED


async def _uncontended(make: Callable[[int], Awaitable[tuple[Wait, Open]]], count: int) -> float:
    """CPU seconds of one after the other, `count` times, with a place free for each."""
    wait, open_ = await make(count)
    open_()
    began = time.process_time()
    for _ in range(count):
        await wait()
    return (time.process_time() - began) / count


def run(quick: bool) -> Report:
    """The report on waiting."""
    counts = (100, 1000) if quick else (100, 1000, 10_000, 100_000)
    rounds = 2 if quick else 6
    # Who leaves a semaphore is searched for in a list: a hundred thousand of them would take minutes.
    cells = [
        (name, count, cancel)
        for name in SUBJECTS
        for count in counts
        for cancel in (False, True)
        if not (cancel and name == SEMAPHORE and count > 10_000)
    ]
    taken: dict[Cell, list[float]] = {cell: [] for cell in cells}
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:

        def turn(cell: Cell) -> float:
            # A handful of waiters is over in a moment: one turn has as many of them as it takes to measure.
            name, count, cancel = cell
            repeats = max(1, 2000 // count)
            return statistics.fmean(runner.run(_measure(SUBJECTS[name], count, cancel)) for _ in range(repeats))

        collected = turn((MINE, counts[-1], False))
        gc.disable()
        for cell, measured in turns(cells, rounds):
            seconds = turn(cell)
            if measured:
                taken[cell].append(seconds)
        pauses = {count: [runner.run(_pause(count)) for _ in range(rounds + 1)] for count in counts}
        free: dict[str, list[float]] = {name: [] for name in (MINE, RIVAL)}
        for name, measured in turns(free, 2 * rounds):
            seconds = runner.run(_uncontended(SUBJECTS[name], UNCONTENDED))
            if measured:
                free[name].append(seconds)
        gc.enable()
    return _report(counts, taken, pauses, {name: min(seconds) * 1e6 for name, seconds in free.items()}, collected * 1e6)


def _report(
    counts: tuple[int, ...],
    taken: dict[Cell, list[float]],
    pauses: dict[int, list[float]],
    free: dict[str, float],
    collected: float,
) -> Report:
    most = counts[-1]
    rounds = len(taken[MINE, most, False])
    paused = {count: min(seconds) * 1e6 for count, seconds in pauses.items()}
    # The work is the same in each round: what makes one slower than the fastest is somebody else's.
    micros = {cell: min(seconds) * 1e6 for cell, seconds in taken.items()}
    own = [micros[MINE, count, False] - micros[ASYNCIO, count, False] for count in counts]
    growth, asyncios = (micros[name, most, False] / micros[name, counts[0], False] for name in (MINE, ASYNCIO))

    figure, (left, right) = chart(1, 2, size=(10.0, 3.4), sharey=True)
    for axes, cancel, title in ((left, False, "To wait and be let in"), (right, True, "To be cancelled")):
        for place, name in enumerate(SUBJECTS):
            line = {count: micros[name, count, cancel] for count in counts if (name, count, cancel) in micros}
            axes.plot(
                list(line), list(line.values()), marker="o", label=name, color=OTHERS[place - 1] if place else OURS
            )
        axes.set(title=title, xlabel="waiters", ylabel="µs of CPU each", ylim=(0, 2 * micros[MINE, most, False]))
        powers(axes, counts)
    left.legend(fontsize="small")

    def table(cancel: bool, caption: str) -> Table:
        def cells(name: str) -> list[str]:
            return [
                f"{micros[name, count, cancel]:.1f} µs" if (name, count, cancel) in micros else "-" for count in counts
            ]

        rows = [(f"**{name}**" if name == MINE else name, *cells(name)) for name in SUBJECTS]
        return Table(("", *(f"{count:,} waiters" for count in counts)), rows, caption)

    losses = [
        f"one of {most:,} waiters takes {micros[MINE, most, cancel]:.1f} µs to {what}, with "
        f"{name} {micros[name, most, cancel]:.1f} µs."
        for cancel, what in ((False, "be let in"), (True, "be cancelled"))
        for name in (RIVAL, SEMAPHORE)
        if (name, most, cancel) in micros and micros[MINE, most, cancel] > micros[name, most, cancel]
    ]
    return Report(
        title="lane: many waiting for one quota",
        method="So many tasks wait for a quota that is used up. Then the quota is free again and all are admitted, or all "
        "are cancelled in random order. CPU for each, with what asyncio itself takes to create, wake and end a task that "
        f"waits for a future, which is the last line: the fastest of {rounds} rounds, with the garbage collector off, as in "
        "`timeit`. The lane, which knows priorities, deadlines and responses, is compared with `AsyncLimiter`, which knows "
        f"a rate, and `asyncio.Semaphore`, which knows neither. Then {UNCONTENDED:,} admissions in a row that find a free "
        "slot.",
        figure=figure,
        alt="CPU for each waiter by number of waiters, to be let in and to be cancelled",
        tables=[
            table(False, "To come, wait and be let in:"),
            table(True, "To be cancelled:"),
            Table(
                ("", *(f"{count:,} waiters" for count in counts)),
                [(f"**{MINE}**", *(f"{paused[count]:.1f} µs" for count in counts))],
                "A response of 429, which pauses all waiting calls:",
            ),
            Table(
                ("", "CPU per admission"),
                [(f"**{name}**" if name == MINE else name, f"{micros_:.1f} µs") for name, micros_ in free.items()],
                "One after the other, each with a free slot:",
            ),
        ],
        targets=[
            Target(
                "≤ 10 µs per admission with a free slot, its end included",
                f"{free[MINE]:.1f} µs",
                free[MINE] <= 10,
                f"an `AsyncLimiter`, which the lane contains, takes {free[RIVAL]:.1f} µs of it.",
            ),
            Target(
                "≤ 20 µs per admission, beside asyncio's own",
                f"{max(own):.1f} µs at most",
                max(own) <= 20,
                f"asyncio's own are another {micros[ASYNCIO, most, False]:.1f} µs.",
            ),
            Target(
                f"flat from {counts[0]:,} to {most:,} waiters (within {FLAT:g} ×)",
                f"{growth:.2f} ×",
                growth <= FLAT,
                f"so many objects leave the processor's caches; asyncio's own part grows by {asyncios:.2f} ×.",
            ),
            Target(
                "≤ 50 µs for a response of 429, however many calls wait",
                f"{max(paused.values()):.1f} µs at most",
                max(paused.values()) <= 50,
            ),
        ],
        losses=losses,
        notes=[
            f"With the garbage collector on, {most:,} waiters take {collected:.1f} µs each to be let in: it looks at all of "
            "them again and again, whatever they wait for."
        ],
    )
