"""`python -m benchmarks [NAME...] [--quick] [--out DIRECTORY]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

from .document import section, show, write
from .report import Report, Unavailable

NAMES = (
    "decode",
    "calls",
    "tls",
    "quota",
    "alone",
    "latency",
    "shared",
    "lane",
    "workspaces",
    "bulk",
    "shared-store",
    "startup",
)
"""In the order of the report. The module of `shared-store` is `shared_store`, and so on."""
DOCS = Path(__file__).parent.parent / "docs"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which to run, of {', '.join(NAMES)}; default: all")
    parser.add_argument("--quick", action="store_true", help="see that it runs; writes nothing unless --out says where")
    parser.add_argument("--out", type=Path, metavar="DIRECTORY", help="where benchmarks.md goes instead of docs/")
    options = parser.parse_args()
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    names = options.names or list(NAMES)
    out = options.out or (None if options.quick else DOCS)
    if len(names) == 1:
        return _run(names[0], quick=options.quick, out=out)
    # Each in an interpreter of its own, so that none inherits another's heap, caches or event loops.
    flags = [*(["--quick"] if options.quick else []), *(["--out", str(out)] if out else [])]
    commands = [[sys.executable, "-m", "benchmarks", name, *flags] for name in names]
    failed = [
        name
        for name, command in zip(names, commands, strict=True)
        if subprocess.run(command, cwd=DOCS.parent).returncode
    ]
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


def _run(name: str, *, quick: bool, out: Path | None) -> int:
    module = import_module(f"benchmarks.{name.replace('-', '_')}")
    began = time.perf_counter()
    try:
        report: Report = module.run(quick)
    except Unavailable as reason:
        sys.stderr.write(f"{name} was not run: {reason}\n")
        return 0
    seconds = time.perf_counter() - began
    show(report, seconds)
    if out is not None:
        write(out, name, report, section(name, report, seconds=seconds, quick=quick), NAMES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
