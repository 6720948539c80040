"""The programs and settings in docs/sync.md, run against the sandbox."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from recall_async import RecordingPolicy
from recall_async.cli.app import app
from recall_async.sync import decide

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


@pytest.mark.recall_sandbox(events=60, calendars=2)
def test_commands_run(recall_sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A reader who copies these commands gets an error, or bots in the wrong places."""
    monkeypatch.setenv("RECALL_API_KEY", recall_sandbox.api_key)
    monkeypatch.setenv("RECALL_BASE_URL", recall_sandbox.url)
    monkeypatch.chdir(tmp_path)
    Path("policy.toml").write_text(SETTINGS)
    (commands,) = re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S)
    statuses = []
    for command in commands.splitlines():
        program, *arguments = shlex.split(command)
        assert program == "recall-async"
        statuses.append(CliRunner().invoke(app, arguments, prog_name=program).exit_code)
    assert statuses == [10, 0, 0]
    assert recall_sandbox.report()["bots"] > 0


def test_the_file_names_every_setting(tmp_path: Path) -> None:
    """A setting is missing on the page, or the page has one that there is not."""
    path = tmp_path / "policy.toml"
    path.write_text(SETTINGS)
    RecordingPolicy.from_toml(path)
    assert [
        name for name in RecordingPolicy.__dataclass_fields__ if not re.search(rf"^\[?{name}\b", SETTINGS, re.M)
    ] == []


def test_the_table_is_the_codes() -> None:
    """The page decides otherwise than the library."""
    in_code, on_page = (
        [[cell.strip(" -") for cell in line.split("|")[2:5]] for line in text.splitlines() if line.count("|") == 5]
        for text in (decide.__doc__ or "", PAGE)
    )
    assert in_code == on_page
