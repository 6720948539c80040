"""`bulk`: whether a job's memory grows with the number of its actions, and what an action costs."""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec

from recall_async import Quota, RecallSession, ScheduleBot
from recall_async.answers import Response
from recall_async.operations import Request
from recall_async.sending import Sending
from tests.virtual_time import run as in_virtual_time

from .charts import LIMIT, OTHERS, OURS, chart, powers
from .events import event
from .processes import measured, serving
from .report import Report, Table, Target

QUOTA = Quota(50_000, 1.0, burst=50_000)
"""More than there will be: a job over HTTP goes as fast as it can."""
MOST = 150.0
"""MiB, the target."""
FLAT = 1.1
"""By how much memory may grow from the fewest actions to the most, and still count as flat."""
IN_PROCESS = "in process"


class Job(msgspec.Struct):
    """One bulk job in an interpreter of its own."""

    actions: int
    seconds: float
    cpu: float
    """CPU seconds."""
    before: float
    """MiB resident before the job."""
    peak: float
    """MiB resident at the most."""


def _actions(count: int) -> Iterator[ScheduleBot]:
    for number in range(count):
        yield ScheduleBot(f"00000000-0000-4000-8000-{number:012x}", f"key-{number}", {"bot_name": "Notes"})


def _peak() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says includes the parent's, from before this program was loaded
        [kibibytes] = (line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(kibibytes) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


async def _job(where: str, count: int, journal: str | None) -> Job:
    url = "http://127.0.0.1:9" if where == IN_PROCESS else where
    quotas = {} if where == IN_PROCESS else {"calendar_events.schedule_bot": QUOTA}
    async with RecallSession("0" * 40, base_url=url, quotas=quotas) as recall:
        if where == IN_PROCESS:
            body = event()
            head, tail = body.split(json.loads(body)["id"].encode(), 1)
            answered: Any = SimpleNamespace(status=200, headers={})

            async def send(attempt: Sending, request: Request[Any], *arguments: Any) -> Response:
                await asyncio.sleep(0)
                attempt.response = answered
                return Response(200, {}, head + str(request.id).encode() + tail)

            recall._client.transport.send = send  # type: ignore[method-assign]
        before, wall, cpu = _peak(), time.perf_counter(), time.process_time()
        done = 0
        async for outcome in recall.bulk(_actions(count), journal=journal):
            done += outcome.status == "done"
        assert done == count
        return Job(count, time.perf_counter() - wall, time.process_time() - cpu, before, _peak())


def _measure(where: str, count: int, *, journal: bool = False) -> Job:
    with tempfile.TemporaryDirectory() as directory:
        file = (f"{directory}/journal",) if journal else ()
        return msgspec.convert(measured("benchmarks.bulk", where, str(count), *file), Job)


def run(quick: bool) -> Report:
    """The report on bulk jobs."""
    counts = (200, 1000) if quick else (10_000, 100_000, 1_000_000)
    jobs = {count: _measure(IN_PROCESS, count) for count in counts}
    with serving("benchmarks.server") as url:
        over_http = {count: _measure(url, count) for count in counts[:-1]}
    journals = {count: _measure(IN_PROCESS, count, journal=True) for count in counts[:-1]}

    figure, axes = chart(size=(9.0, 3.0))
    for (label, found), colour in zip(
        {"answers in process": jobs, "over HTTP": over_http, "with a journal": journals}.items(),
        (OURS, OTHERS[0], OTHERS[1]),
        strict=True,
    ):
        axes.plot(list(found), [job.peak for job in found.values()], marker="o", color=colour, label=label)
    axes.axhline(MOST, color=LIMIT, linewidth=0.8, linestyle=":")
    axes.annotate("target", (counts[0], MOST), color=LIMIT, xytext=(0, -12), textcoords="offset points")
    axes.set(title="Memory of a bulk job", xlabel="actions", ylabel="peak RSS, MiB", ylim=(0, MOST * 1.05))
    powers(axes, counts)
    axes.legend(loc="center right")

    def rows(label: str, found: dict[int, Job]) -> list[tuple[str, ...]]:
        return [
            (
                label,
                f"{count:,}",
                f"{job.before:.0f} MiB",
                f"{job.peak:.0f} MiB",
                f"{job.cpu / count * 1e6:.0f} µs",
                "-" if label.startswith(IN_PROCESS) else f"{count / job.seconds:,.0f} / s",
            )
            for count, job in found.items()
        ]

    fewest, most = jobs[counts[0]], jobs[counts[-1]]
    growth = most.peak / fewest.peak
    highest = max(job.peak for found in (jobs, over_http, journals) for job in found.values())
    return Report(
        title="bulk: memory and CPU of a job",
        method="`recall.bulk` over a generator, so that no list of the actions exists, with the outcomes counted and "
        "dropped; each job in an interpreter of its own. *In process*, an answer of 3 kB is there as soon as a request "
        "is sent, in place of aiohttp, and the time is virtual, so that a day at the API's quota passes in minutes: what is "
        "measured is the engine, the quota's lane and the decoding. *Over HTTP*, a server in another process gives the same "
        "answer, with the quota out of the way.",
        figure=figure,
        alt="Peak resident memory of a bulk job by the number of its actions",
        tables=[
            Table(
                ("answers", "actions", "RSS before", "peak RSS", "CPU per action", "actions"),
                [*rows(IN_PROCESS, jobs), *rows("over HTTP", over_http), *rows("in process, with a journal", journals)],
            )
        ],
        targets=[
            Target(
                f"memory is flat: ≤ {FLAT:g} × from {counts[0]:,} to {counts[-1]:,} actions",
                f"{growth:.2f} ×",
                growth <= FLAT,
            ),
            Target(f"peak RSS < {MOST:.0f} MiB", f"{highest:.0f} MiB", highest < MOST),
        ],
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("where")
    parser.add_argument("count", type=int)
    parser.add_argument("journal", nargs="?")
    options = parser.parse_args()
    run_job = in_virtual_time if options.where == IN_PROCESS else asyncio.run
    job = run_job(_job(options.where, options.count, options.journal))
    sys.stdout.write(json.dumps(msgspec.to_builtins(job)))


if __name__ == "__main__":
    main()
