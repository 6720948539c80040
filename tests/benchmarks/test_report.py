"""The benchmarks run; what they measure is not looked at here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_quick_run_writes_a_whole_report(tmp_path: Path) -> None:
    """A benchmark that no longer runs, or a report without its sections, verdicts or charts, would go unnoticed."""
    from benchmarks.__main__ import NAMES

    committed = ROOT / "docs" / "benchmarks.md"
    before = committed.read_bytes() if committed.exists() else None
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert result.returncode == 0, result.stderr
    skipped = re.findall(r"^(\S+) was not run: ", result.stderr, re.MULTILINE)

    document = (tmp_path / "benchmarks.md").read_text()
    for name in set(NAMES) - set(skipped):
        section = json.loads((tmp_path / "benchmarks" / f"{name}.json").read_text())
        assert section["targets"]
        assert section["markdown"] in document
        assert (tmp_path / "benchmarks" / f"{name}.svg").read_text().endswith("</svg>\n")
    assert document.index("Measured on:") < document.index("## Targets") < document.index("## decode:")
    assert str(ROOT) not in document
    assert (committed.read_bytes() if committed.exists() else None) == before
