"""The programs and settings in docs/sync.md, run against the sandbox."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from recall_async import RecordingPolicy

PAGE = (Path(__file__).parent.parent.parent / "docs" / "sync.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
(SETTINGS,) = re.findall(r"^```toml\n(.*?)^```", PAGE, re.M | re.S)


@pytest.mark.recall_sandbox(events=60, calendars=2)
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program_runs(number: int, recall_sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    """A reader who copies this program gets an error."""
    monkeypatch.setenv("RECALL_API_KEY", recall_sandbox.api_key)
    monkeypatch.setenv("RECALL_BASE_URL", recall_sandbox.url)
    monkeypatch.chdir(tmp_path)
    Path("policy.toml").write_text(SETTINGS)
    program = Path("program.py")
    program.write_text(PROGRAMS[number])
    runpy.run_path(str(program), run_name="__main__")
    assert recall_sandbox.report()["operations"]["calendar_events.list"]["accepted"] > 0


def test_the_file_names_every_setting(tmp_path: Path) -> None:
    """A setting is missing on the page, or the page has one that there is not."""
    path = tmp_path / "policy.toml"
    path.write_text(SETTINGS)
    RecordingPolicy.from_toml(path)
    assert [
        name for name in RecordingPolicy.__dataclass_fields__ if not re.search(rf"^\[?{name}\b", SETTINGS, re.M)
    ] == []


def test_the_table_is_the_codes(capsys) -> None:
    """The page decides otherwise than the library."""
    from recall_async.sync import decide

    code = [row.split("|")[1:-1] for row in (decide.__doc__ or "").splitlines() if row.strip().startswith("|")]
    page = [row.split("|")[1:-1] for row in PAGE.splitlines() if row.startswith("|") and row.count("|") == 5]
    strip = [[cell.strip(" -`") for cell in row] for row in code], [[cell.strip(" -`") for cell in row] for row in page]
    assert [row[1:] for row in strip[0]] == [row[1:] for row in strip[1]]
