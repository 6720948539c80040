"""The types that a user's program sees, as a strict type checker reads them from the installed package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_types_of_a_program() -> None:
    """Would show `Any`, or a wrong type, to the type checker of a program that uses the library."""
    command = [sys.executable, "-m", "mypy", "--strict", "tests/typing/program.py"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_types_are_shipped() -> None:
    """Would make type checkers pass over the package."""
    assert files("recall_async").joinpath("py.typed").is_file()


@pytest.mark.slow
def test_types_are_complete() -> None:
    """Would leave a type checker to guess the type of something public."""
    pyright = shutil.which("pyright", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if pyright is None:
        pytest.skip("pyright is not installed")
    command = [pyright, "--verifytypes", "recall_async", "--ignoreexternal", "--pythonpath", sys.executable]
    checked = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert "Type completeness score: 100%" in checked.stdout, checked.stdout[-3000:]
