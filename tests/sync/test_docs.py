"""The programs and settings in docs/sync.md, run against the sandbox."""

from __future__ import annotations

import asyncio
import re
import runpy
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from recall_async import Plan, RecallSession, RecordingPolicy
from recall_async.cli.app import app
from recall_async.sync import decide

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "sync.md").read_text()
SCHEDULE = "calendar_events.schedule_bot"
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


@pytest.mark.recall_sandbox(events=60, calendars=2)
@pytest.mark.parametrize("page", ["README.md", "docs/bulk.md"])
def test_a_plan_keeps_what_other_pages_scheduled(
    page: str, recall_sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    """Each page has a key scheme of its own, so that the first plan sends every bot anew."""
    monkeypatch.setenv("RECALL_API_KEY", recall_sandbox.api_key)
    monkeypatch.setenv("RECALL_BASE_URL", recall_sandbox.url)
    monkeypatch.chdir(tmp_path)
    programs = [
        source
        for source in re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.M | re.S)
        if "Deduplication.MEETING(" in source and "asyncio.run(main())" in source
    ]
    assert programs
    for program in programs:
        Path("program.py").write_text(program)
        runpy.run_path("program.py", run_name="__main__")

    async def plan() -> Plan:
        async with RecallSession() as recall:
            return await recall.plan(policy=RecordingPolicy())

    made = asyncio.run(plan())
    assert (len(made), made.counts["keep"]) == (0, recall_sandbox.report()["operations"][SCHEDULE]["accepted"])
    assert made.counts["keep"] > 30
