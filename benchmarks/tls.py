"""`tls`: what a call costs over TLS, and how many handshakes calls take, one after the other and many at once."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import ssl
import statistics
import sys
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from typing import Any

from .calls import CONCURRENCY, bare, ours
from .charts import bars, chart
from .peers import Call
from .processes import measured, serving
from .report import Report, Table, Target, judged
from .rounds import INTERPRETERS, figure, ratio, turns
from .server import AUTHORITY

MINE, LEAST, UNBOUNDED = "recall_async", "aiohttp + msgspec, bare", "aiohttp, connections without a limit"
BURST = 300
MOST_CONNECTIONS = 100


async def unbounded(url: str, stack: AsyncExitStack) -> Call:
    """Bare, and free to open as many connections as there are calls."""
    from .peers import connections, posting

    return posting(await stack.enter_async_context(connections()), url)


CLIENTS: dict[str, Callable[[str, AsyncExitStack], Coroutine[Any, Any, Call]]] = {
    MINE: ours,
    LEAST: bare,
    UNBOUNDED: unbounded,
}


class Measured:
    """One client, kept open from turn to turn, and what the server saw of its connections."""

    def __init__(self, name: str, url: str) -> None:
        self._name, self._url = name, url
        self.cpu: list[float] = []
        self.handshakes: list[int] = []
        self.bursts: list[dict[str, float]] = []
        self._ids = (f"00000000-0000-4000-8000-{number:012x}" for number in itertools.count())

    async def steady(self, calls: int, call: Call) -> tuple[float, int]:
        """CPU seconds and handshakes of so many calls, `CONCURRENCY` of them at a time."""

        async def worker(ids: Iterator[str]) -> None:
            for event_id in ids:
                await call(event_id)

        before, cpu = _connections(self._url), time.process_time()
        ids = itertools.islice(self._ids, calls)
        async with asyncio.TaskGroup() as group:
            for _ in range(CONCURRENCY):
                group.create_task(worker(ids))
        return time.process_time() - cpu, _connections(self._url) - before

    async def burst(self) -> dict[str, float]:
        """A session that is just opened, `BURST` calls at once, and as many again a second later."""
        found: dict[str, float] = {}
        async with AsyncExitStack() as stack:
            call = await CLIENTS[self._name](self._url, stack)
            for which in ("first", "second"):
                before, cpu, began = _connections(self._url), time.process_time(), time.perf_counter()
                await asyncio.gather(*(call(event_id) for event_id in itertools.islice(self._ids, BURST)))
                found |= {f"{which} cpu": time.process_time() - cpu, f"{which} wall": time.perf_counter() - began}
                found[f"{which} connections"] = _connections(self._url) - before
                await asyncio.sleep(1)
        return found


_context = ssl.create_default_context(cafile=str(AUTHORITY))


def _connections(url: str) -> int:
    """How many connections the server has seen, this question's aside."""
    with urllib.request.urlopen(f"{url}/statistics", context=_context) as answer:
        _connections.asked += 1  # type: ignore[attr-defined]
        return int(json.load(answer)["connections"]) - int(_connections.asked)  # type: ignore[attr-defined]


_connections.asked = 0  # type: ignore[attr-defined]


async def _measure(url: str, rounds: int, turn: int) -> dict[str, Any]:
    subjects = {name: Measured(name, url) for name in CLIENTS}
    async with AsyncExitStack() as stack:
        calls = {name: await build(url, stack) for name, build in CLIENTS.items()}
        for name, counts in turns(CLIENTS, rounds):
            cpu, handshakes = await subjects[name].steady(turn, calls[name])
            if counts:
                subjects[name].cpu.append(cpu / turn)
                subjects[name].handshakes.append(handshakes)
    for name in CLIENTS:
        subjects[name].bursts.append(await subjects[name].burst())
    return {
        name: {"cpu": subject.cpu, "handshakes": subject.handshakes, "bursts": subject.bursts}
        for name, subject in subjects.items()
    }


def run(quick: bool) -> Report:
    """The report on calls over TLS."""
    interpreters, rounds, turn = (2, 1, 64) if quick else (INTERPRETERS, 6, 320)
    runs = []
    for _ in range(interpreters):
        with serving("benchmarks.server", "--tls") as url:
            runs.append(measured("benchmarks.tls", url, str(rounds), str(turn), trusts=AUTHORITY))
    found = {
        name: {what: [value for each in runs for value in each[name][what]] for what in ("cpu", "handshakes", "bursts")}
        for name in CLIENTS
    }
    cpu = {name: statistics.median(each["cpu"]) * 1e6 for name, each in found.items()}
    to_bare = {name: figure(ratio(each[name]["cpu"], each[LEAST]["cpu"]) for each in runs) for name in CLIENTS}
    per_thousand = {
        name: sum(each["handshakes"]) * 1000 / (turn * len(each["handshakes"])) for name, each in found.items()
    }

    def of_burst(name: str, what: str) -> float:
        return statistics.median(burst[what] for burst in found[name]["bursts"])

    opened = max(burst["first connections"] for burst in found[MINE]["bursts"])
    again = max(burst["second connections"] for burst in found[MINE]["bursts"])

    drawing, (left, right) = chart(1, 2, size=(10.0, 2.4))
    bars(left, cpu, ours=MINE, form="{:.0f}")
    left.set(title="CPU per call over TLS", xlabel="µs")
    bars(right, {name: of_burst(name, "first wall") * 1e3 for name in CLIENTS}, ours=MINE, form="{:.0f}")
    right.set(title=f"{BURST} calls at once, from a cold start", xlabel="ms", yticklabels=[])
    return Report(
        title="tls: calls over TLS",
        method=f"As [`calls`](#calls), over TLS as the API is, under asyncio: {rounds} rounds of {turn} calls, "
        f"{CONCURRENCY} at a time, in each of {interpreters} interpreters with a server of its own, which counts "
        f"handshakes. Then bursts: a session that is just opened makes {BURST} calls at once, and as many again a second "
        f"later. aiohttp by itself keeps to {MOST_CONNECTIONS} connections; the third client has no limit.",
        figure=drawing,
        alt="CPU per call over TLS, and time of a burst of calls, by client",
        tables=[
            Table(
                ("client", "CPU per call", "times bare", "handshakes per 1,000 calls"),
                [
                    (
                        f"**{name}**" if name == MINE else name,
                        f"{cpu[name]:.0f} µs",
                        f"{to_bare[name].value:.2f}",
                        f"{per_thousand[name]:.1f}",
                    )
                    for name in CLIENTS
                ],
            ),
            Table(
                ("client", "handshakes", "of the second burst", "CPU", "time", "time of the second"),
                [
                    (
                        f"**{name}**" if name == MINE else name,
                        f"{of_burst(name, 'first connections'):.0f}",
                        f"{of_burst(name, 'second connections'):.0f}",
                        f"{of_burst(name, 'first cpu') * 1e3:.0f} ms",
                        f"{of_burst(name, 'first wall') * 1e3:.0f} ms",
                        f"{of_burst(name, 'second wall') * 1e3:.0f} ms",
                    )
                    for name in CLIENTS
                ],
                caption=f"A burst of {BURST} calls:",
            ),
        ],
        targets=[
            judged("≤ 1.20 × the CPU of a bare call over TLS", [to_bare[MINE]], at_most=1.20),
            Target(
                f"a burst of {BURST} calls makes ≤ {MOST_CONNECTIONS} handshakes, and the next one none",
                f"{opened:.0f} and {again:.0f}",
                opened <= MOST_CONNECTIONS and not again,
            ),
            Target(
                "≤ 1 handshake per 1,000 calls on warm connections",
                f"{per_thousand[MINE]:.1f}",
                per_thousand[MINE] <= 1,
            ),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("rounds", type=int)
    parser.add_argument("turn", type=int)
    options = parser.parse_args()
    found = asyncio.run(_measure(options.url, options.rounds, options.turn))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
