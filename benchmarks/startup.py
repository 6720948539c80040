"""`startup`: what importing costs, and how long the command line takes to say something."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

from .charts import bars, chart
from .processes import ROOT
from .report import Report, Table, Target
from .rounds import turns

DEPENDENCIES = "import aiohttp, aiolimiter, msgspec"
COMMAND = "import sys; from recall_async.cli import main; sys.argv = ['recall-async', '--help']; main()"
PROGRAMS = {
    "python alone": "pass",
    "httpx + pydantic": "import httpx, pydantic; httpx.AsyncClient; pydantic.BaseModel",
    "the three dependencies": DEPENDENCIES,
    "recall_async": f"{DEPENDENCIES}; from recall_async import RecallSession",
    "recall_async, errors and models only": "from recall_async import CalendarEvent, RecallError",
    "recall-async --help": COMMAND,
}


def _seconds(program: str) -> float:
    # Installed packages have their bytecode; so has this one, wherever it is measured.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def run(quick: bool) -> Report:
    """The report on starting."""
    rounds = 1 if quick else 40
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for name, counts in turns(PROGRAMS, rounds):
        seconds = _seconds(PROGRAMS[name])
        if counts:
            taken[name].append(seconds * 1e3)
    typical = {name: statistics.median(millis) for name, millis in taken.items()}
    # The work is the same each time: what makes a run slower than the fastest is somebody else's.
    fastest = {name: min(millis) for name, millis in taken.items()}
    over = fastest["recall_async"] - fastest["the three dependencies"]
    shown = fastest["recall-async --help"]

    figure, axes = chart(size=(9.0, 2.8))
    bars(axes, fastest, ours="recall_async", form="{:.0f}")
    axes.set(title="From starting Python to its end, the fastest run", xlabel="ms")
    return Report(
        title="startup: importing, and the command line's help",
        method=f"New interpreters, one after the other, {rounds} of each, from start to end: with nothing to do, with the "
        "dependencies imported (aiohttp, aiolimiter, msgspec), with `RecallSession` imported on top of them, with a part of "
        "the package that needs no HTTP, and showing the help of the command line. The fastest run counts.",
        figure=figure,
        alt="Milliseconds from starting Python to its end, by what is imported",
        tables=[
            Table(
                ("", "fastest", "median", "over Python alone"),
                [
                    (
                        f"**{name}**" if "recall" in name else name,
                        f"{fastest[name]:.0f} ms",
                        f"{typical[name]:.0f} ms",
                        f"{fastest[name] - fastest['python alone']:.0f} ms",
                    )
                    for name in PROGRAMS
                ],
            )
        ],
        targets=[
            Target("importing it takes ≤ 40 ms over its dependencies", f"{over:.0f} ms", over <= 40),
            Target("`recall-async --help` takes ≤ 0.4 s", f"{shown / 1e3:.2f} s", shown <= 400),
        ],
        packages=("click", "httpx", "pydantic", "rich"),
    )
