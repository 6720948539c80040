"""The types that a user's program sees, as a strict type checker reads them from the installed package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_types_of_a_program() -> None:
    """Would show `Any`, or a wrong type, to the type checker of a program that uses the library."""
    command = [sys.executable, "-m", "mypy", "--strict", "tests/typing/program.py"]
    checked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_types_are_shipped() -> None:
    """Would make type checkers pass over the package."""
    assert (ROOT / "recall_async" / "py.typed").is_file()
