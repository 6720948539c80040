"""Every input that once made a target fail, and some hundred mutations of each target's seeds."""

from __future__ import annotations

import importlib
import subprocess
import sys
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.fuzz.__main__ import LONGEST, NAMES
from tests.fuzz.mutation import mutations

HERE = Path(__file__).parent
FINDS = sorted(path for path in (HERE / "finds").glob("*/*") if path.is_file())
RUNS = {"answers": 60}


def target(name: str) -> Any:
    return importlib.import_module(f"tests.fuzz.{name}")


@pytest.mark.parametrize("path", FINDS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_find_stays_mended(path: Path) -> None:
    """What fuzzing once found is back."""
    target(path.parent.name).check(path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_mutations(name: str) -> None:
    """A target fails soon, or its program does not run at all."""
    module = target(name)
    for data in islice(mutations(module.seeds(), Random(name), LONGEST), RUNS.get(name, 600)):
        module.check(data)


def test_the_program(tmp_path: Path) -> None:
    """The instruction in the contributing guide does not work."""
    find = next(path for path in FINDS if path.parent.name == "links")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.fuzz", *arguments]
        return subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent.parent, timeout=60, check=False)

    passed, misused = run("links", str(find)), run("nothing", "5")
    assert (passed.returncode, passed.stdout) == (0, "links: 1 files passed\n"), passed.stderr
    assert misused.returncode == 2
    assert "documents" in misused.stderr
