"""Fuzz the parsers and the client: `python -m tests.fuzz TARGET SECONDS`, or `python -m tests.fuzz TARGET FILE...`.

With atheris (`pip install -e '.[fuzz]'`; Linux), inputs are guided by the coverage of `recall_async`. Without it, they are
random mutations of the seeds. The first failure prints its traceback and stores its input in `build/fuzz/`. Run that
file again with the second form; after the mend, move it to `tests/fuzz/finds/TARGET/`, where a test runs it.
"""

from __future__ import annotations

import importlib
import logging
import sys
import time
from pathlib import Path
from random import Random

BUILD = Path("build/fuzz")
NAMES = ("answers", "documents", "webhooks", "links", "secrets", "headers", "files")
LONGEST = 4096
"""Bytes of an input."""


def main(arguments: list[str]) -> int:
    """Run one target. Return the exit status."""
    if len(arguments) < 2 or arguments[0] not in NAMES:
        print(
            f"usage: python -m tests.fuzz TARGET SECONDS|FILE...\nTARGET is one of {', '.join(NAMES)}", file=sys.stderr
        )
        return 2
    name, *rest = arguments
    logging.disable()
    if not rest[0].isdecimal():
        target = importlib.import_module(f"tests.fuzz.{name}")
        for path in rest:
            target.check(Path(path).read_bytes())
        print(f"{name}: {len(rest)} files passed")
        return 0
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        import atheris
    except ImportError:
        return mutate(name, float(rest[0]))
    with atheris.instrument_imports(include=["recall_async"]):
        target = importlib.import_module(f"tests.fuzz.{name}")
    corpus = BUILD / name
    corpus.mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={rest[0]}",
        f"-max_len={LONGEST}",
        f"-artifact_prefix={BUILD}/{name}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, "-rss_limit_mb=2048", "-timeout=60", str(corpus)], target.check)
    atheris.Fuzz()
    return 0


def mutate(name: str, seconds: float) -> int:
    """Check random mutations of the seeds."""
    from tests.fuzz.mutation import mutations

    target = importlib.import_module(f"tests.fuzz.{name}")
    runs, end = 0, time.monotonic() + seconds
    for data in mutations(target.seeds(), Random(time.time_ns()), LONGEST):
        if time.monotonic() > end:
            break
        try:
            target.check(data)
        except BaseException:
            (BUILD / f"{name}-crash").write_bytes(data)
            print(f"{name}: failed after {runs} runs; its input is in {BUILD / name}-crash", file=sys.stderr)
            raise
        runs += 1
    print(f"{name}: {runs} runs in {seconds:.0f} s, no failure")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
