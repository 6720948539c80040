"""`startup`: what importing costs, and how long the command line takes to say something."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

from .charts import bars, chart
from .processes import ROOT
from .report import Report, Table, Target, judged
from .rounds import figure, turns

DEPENDENCIES = "import aiohttp, aiolimiter, msgspec"
OVER = f"""
import time
{DEPENDENCIES}
began = time.process_time()
from recall_async import RecallSession
print(time.process_time() - began)
"""
COMMAND = "import sys; from recall_async.cli import main; sys.argv = ['recall-async', '--help']; main()"
FEW = "from recall_async import CalendarEvent, RecallError"
LOADS = f"{FEW}; import sys; print(*(name for name in ('aiohttp', 'yarl', 'aiolimiter') if name in sys.modules))"
PROGRAMS = {
    "python alone": "pass",
    "httpx + pydantic": "import httpx, pydantic; httpx.AsyncClient; pydantic.BaseModel",
    "the three dependencies": DEPENDENCIES,
    "recall_async": OVER,
    "recall_async, errors and models only": FEW,
    "recall-async --help": COMMAND,
}


def _seconds(program: str) -> tuple[float, str]:
    """The CPU seconds that a new interpreter takes for it, and what it prints."""
    # Installed packages have their bytecode; so has this one, wherever it is measured.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        printed = started.stdout.read()
        _, status, used = os.wait4(started.pid, 0)
        started.returncode = os.waitstatus_to_exitcode(status)
    if started.returncode:
        raise subprocess.CalledProcessError(started.returncode, command)
    return used.ru_utime + used.ru_stime, printed


def run(quick: bool) -> Report:
    """The report on starting."""
    rounds = 1 if quick else 40
    taken: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    imports = []
    for name, counts in turns(PROGRAMS, rounds):
        seconds, printed = _seconds(PROGRAMS[name])
        if counts:
            taken[name].append(seconds * 1e3)
            if PROGRAMS[name] == OVER:
                imports.append(float(printed) * 1e3)
    typical = {name: statistics.median(millis) for name, millis in taken.items()}
    over = figure(imports)
    alone = taken["python alone"]
    shown = figure(millis - other for millis, other in zip(taken["recall-async --help"], alone, strict=True))
    loaded = _seconds(LOADS)[1].split()

    drawing, axes = chart(size=(9.0, 2.8))
    bars(axes, typical, ours="recall_async", form="{:.0f}")
    axes.set(title="From starting Python to its end", xlabel="ms of CPU")
    return Report(
        title="startup: importing, and the command line's help",
        method=f"CPU of new interpreters, user and system, one after the other, {rounds} of each, from start to end: with "
        "nothing to do, with the dependencies imported (aiohttp, aiolimiter, msgspec), with `RecallSession` imported on "
        "top of them, with a part of the package that needs no HTTP, and showing the help of the command line. What "
        "importing `RecallSession` takes over the dependencies is measured within the interpreter that does it.",
        figure=drawing,
        alt="Milliseconds from starting Python to its end, by what is imported",
        tables=[
            Table(
                ("", "median", "fastest", "over Python alone"),
                [
                    (
                        f"**{name}**" if "recall" in name else name,
                        f"{typical[name]:.0f} ms",
                        f"{min(taken[name]):.0f} ms",
                        f"{typical[name] - typical['python alone']:.0f} ms",
                    )
                    for name in PROGRAMS
                ],
            )
        ],
        targets=[
            judged("importing it takes ≤ 40 ms over its dependencies", [over], at_most=40, form="{:.0f} ms"),
            Target("importing types and errors loads no aiohttp", ", ".join(loaded) or "nothing of it", not loaded),
            judged("`recall-async --help` takes ≤ 0.1 s over Python alone", [shown], at_most=100, form="{:.0f} ms"),
        ],
        packages=("click", "httpx", "pydantic", "rich"),
    )
