"""The report on disk: docs/benchmarks.md, put together from what each benchmark left beside it.

A benchmark leaves docs/benchmarks/NAME.json (its section, verdicts and what it ran on) and NAME.svg. The document is made
from all of them, so running one benchmark brings its section and the table of targets up to date, and nothing else.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import msgspec

from .report import Report, Target, targets_table

DEPENDENCIES = ("aiohttp", "aiolimiter", "msgspec")


class Section(msgspec.Struct):
    """One benchmark's part of the document."""

    title: str
    markdown: str
    targets: list[Target]
    losses: list[str]
    machine: str
    packages: dict[str, str]
    seconds: float
    quick: bool


def machine() -> str:
    """What the benchmark runs on, without anything that tells whose it is."""
    names = [
        line.partition(":")[2].strip()
        for line in (Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ())
        if line.startswith("model name")
    ]
    cpu = names[0] if names else platform.machine()
    return (
        f"{cpu}, {os.cpu_count()} cores, {platform.system()} {platform.release().partition('-')[0]}, "
        f"{platform.python_implementation()} {platform.python_version()}"
    )


def section(name: str, report: Report, *, seconds: float, quick: bool) -> Section:
    """What is kept of a report, with what it was measured on."""
    return Section(
        title=report.title,
        markdown=report.markdown(name),
        targets=list(report.targets),
        losses=list(report.losses),
        machine=machine(),
        packages={package: version(package) for package in sorted({*DEPENDENCIES, *report.packages})},
        seconds=round(seconds, 1),
        quick=quick,
    )


def write(directory: Path, name: str, report: Report, kept: Section, order: Sequence[str]) -> None:
    """Leave one benchmark's section and chart in `directory`, and bring its benchmarks.md up to date."""
    folder = directory / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    if report.figure is not None:
        from .charts import save

        save(report.figure, folder / f"{name}.svg")
    (folder / f"{name}.json").write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    sections = {
        known: msgspec.json.decode((folder / f"{known}.json").read_bytes(), type=Section)
        for known in order
        if (folder / f"{known}.json").exists()
    }
    (directory / "benchmarks.md").write_text(document(sections), encoding="utf-8")


def document(sections: Mapping[str, Section]) -> str:
    """The whole report: how it was measured, on what, where we lose, the targets, then the sections."""
    parts = ["# Benchmarks", _measured(sections)]
    if losses := [f"* [`{name}`](#{name}): {loss}" for name, part in sections.items() for loss in part.losses]:
        parts += ["## Where we lose", "\n".join(losses)]
    names = [name for name, part in sections.items() for _ in part.targets]
    targets = [target for part in sections.values() for target in part.targets]
    parts += ["## Targets", targets_table(targets, names).markdown()]
    if missed := [
        f"* [`{name}`](#{name}), {target.text}: {target.reason}"
        for name, target in zip(names, targets, strict=True)
        if not target.reached and target.reason
    ]:
        parts += ["Why those were missed, or may be:", "\n".join(missed)]
    for name, part in sections.items():
        parts += [f'<a id="{name}"></a>\n\n## {part.title}', part.markdown]
    return "\n\n".join(parts) + "\n"


def _measured(sections: Mapping[str, Section]) -> str:
    machines: dict[str, list[str]] = {}
    versions: dict[str, set[str]] = {}
    for name, part in sections.items():
        machines.setdefault(part.machine, []).append(name)
        for package, number in part.packages.items():
            versions.setdefault(package, set()).add(number)
    where = [
        f"* {found}" + (f" ({', '.join(f'`{name}`' for name in names)})" if len(machines) > 1 else "")
        for found, names in machines.items()
    ]
    packages = ", ".join(f"{package} {' and '.join(sorted(found))}" for package, found in sorted(versions.items()))
    minutes = sum(part.seconds for part in sections.values()) / 60
    quick = [f"`{name}`" for name, part in sections.items() if part.quick]
    return "\n\n".join(
        [
            'Written by `python -m benchmarks` (after `pip install -e ".[bench]"`), no figure by hand. Everything runs on '
            "one machine, servers in processes of their own on its loopback interface; no network, no account. What is "
            "compared runs in the same process and run, in rounds in which all have a turn, in changing order; a figure is "
            "the median of the rounds unless a section says otherwise, and a ratio the median of the rounds' ratios. A "
            "target is *on the edge* if it lies within the interval of the figure, in which the median lies with 95 % "
            "confidence (sign test); where several interpreters measure, it is that of their medians. "
            "CPU is the CPU time of the measuring process, user and system. Unless a section says otherwise, garbage "
            "collection stays on, as in a program, and a turn begins with nothing to collect. All of it took "
            f"{minutes:.0f} minutes.",
            "Measured on:",
            "\n".join(where),
            f"with {packages}.",
        ]
        + ([f"**From a quick run, which shows that it runs and nothing more: {', '.join(quick)}.**"] if quick else [])
    )


def show(report: Report, seconds: float) -> None:
    """Print what a person at the terminal wants to see."""
    lines = [f"== {report.title} ({seconds:.1f} s) =="]
    lines += [table.markdown() for table in report.tables]
    lines += [targets_table(report.targets).markdown()] if report.targets else []
    lines += [f"where we lose: {loss}" for loss in report.losses]
    sys.stdout.write("\n\n".join(lines) + "\n\n")
    sys.stdout.flush()
