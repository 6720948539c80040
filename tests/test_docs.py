"""The programs that README and docs show are run, against the sandbox."""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import logging
import re
from pathlib import Path

import click
import pytest

from recall_async import RecallError, errors
from recall_async.cli.app import app
from recall_async.cli.command import commands
from recall_async.events import CallEnded, PaceChanged, Paused, RetryScheduled, SlotGranted
from recall_async.jobs import JobError, JobStoreUnavailableError, MissingJobError

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
OWN_TESTS = {
    "webhooks.md",
    "sync.md",
    "redis.md",
    "jobs.md",
    "celery.md",
    "fastapi.md",
    "web.md",
    "lambda.md",
    "did-the-bot-join.md",
}
"""Pages whose programs need more than a sandbox, and are run by the tests of their subject."""


def programs() -> list[object]:
    return [
        pytest.param(page, number, id=f"{page.name}-{number}")
        for page in PAGES
        if page.name not in OWN_TESTS
        for number, _ in enumerate(BLOCK.findall(page.read_text()))
    ]


@pytest.mark.recall_sandbox(events=40, calendars=2)
@pytest.mark.parametrize(("page", "number"), programs())
def test_program_runs(
    page: Path, number: int, recall_sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys
) -> None:
    """A reader who copies this program gets an error."""
    monkeypatch.setenv("RECALL_API_KEY", recall_sandbox.api_key)
    monkeypatch.setenv("RECALL_BASE_URL", recall_sandbox.url)
    monkeypatch.chdir(tmp_path)
    source = BLOCK.findall(page.read_text())[number]
    program = compile(source, f"{page.name}[{number}]", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = eval(program, {"__name__": "__main__"})
    if inspect.iscoroutine(result):
        asyncio.run(result)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """A reader who follows a link of this page finds nothing."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_errors_are_complete() -> None:
    """A reader who catches an error does not learn from the page what it means, or is told the wrong thing to do."""
    rows = {}
    for line in (ROOT / "docs/errors.md").read_text().splitlines():
        if line.startswith("| `"):
            name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
            rows[name.strip("`")] = cells
    described = [*vars(errors).values(), JobError, JobStoreUnavailableError, MissingJobError]
    known = {kind.__name__: kind for kind in described if isinstance(kind, type) and issubclass(kind, RecallError)}
    assert rows.keys() == known.keys() - {"RecallError", "APIError"}
    assert {name: "yes" in cells for name, cells in rows.items()} == {name: known[name].may_pass for name in rows}


def test_variables_are_complete() -> None:
    """A variable that the package reads is mentioned nowhere."""
    source = "".join(path.read_text() for path in (ROOT / "recall_async").rglob("*.py"))
    read = set(re.findall(r"\b_?RECALL_[A-Z_]*[A-Z]\b", source)) - set(re.findall(r"\b(\w+)_[bx]ash_source", source))
    page = (ROOT / "docs/environment.md").read_text()
    assert [name for name in read if f"`{name}`" not in page] == []


def test_commands_are_complete() -> None:
    """The page of the command line lacks an option, or has one that is gone: run docs/generate.py."""
    page = (ROOT / "docs/cli.md").read_text()
    shared = page.partition("## Connection options")[2].partition("\n## ")[0]
    for name, command in commands(app):
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        options = {parameter.opts[-1] for parameter in command.params if isinstance(parameter, click.Option)}
        listed = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", section.partition("```\n")[0], re.M)) - {"--help"}
        if "#connection-options" in section:
            listed |= set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", shared, re.M))
        assert listed == options, name


def test_each_command_has_a_screen() -> None:
    """A reader does not see what a command prints, or sees lines that are wider than 80 columns."""
    page = (ROOT / "docs/cli.md").read_text()
    for name, _ in commands(app):
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        words = name.removesuffix(" list")
        assert re.search(rf"^\$ recall-async {words}\b", section, re.M), name
        assert max(map(len, "".join(re.findall(r"^```text\n(.*?)^```", section, re.M | re.S)).splitlines())) <= 80, name


def test_figures_of_the_readme_are_those_of_the_report() -> None:
    """The README claims what the benchmarks do not show any more: run docs/generate.py --figures."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    assert generate.figures() in (ROOT / "README.md").read_text()


def test_the_log_of_a_slow_call_is_what_the_library_logs() -> None:
    """The page shows messages that the library does not log any more: run docs/slow_call.py."""
    call = {"workspace": "acme", "operation": "calendar_events.schedule_bot", "call": 1}
    events = [
        *(SlotGranted(**call, attempt=1, wait=1.0, why=why, taken=1, limit=1) for why in ("quota", "pause", "pace")),
        Paused(**call, seconds=1.0),
        PaceChanged(**call, pace=1.0),
        *(RetryScheduled(**call, attempt=1, reason=reason, after=1.0, new_key=False) for reason in ("429", "503")),
        CallEnded(**call, attempts=5, waited=1.0, duration=2.0, error=None),
    ]
    page = (ROOT / "docs/observability.md").read_text()
    lines = re.sub(r"\n +", " ", page.partition("```text\n")[2].partition("```")[0]).splitlines()

    def form(text: str) -> str:
        return re.sub(r"[\d.]*\d", "0", text)

    logged = {form(f"{logging.getLevelName(event.log_level)} {event}") for event in events}
    assert {form(line.partition(" ")[2]) for line in lines} == logged


def test_the_map_of_the_source_names_files() -> None:
    """A reader looks for a file that was renamed."""
    page = (ROOT / "docs/how-it-works.md").read_text().partition("## The source")[2]
    files = re.findall(r"`(?:recall_async/)?([\w/]+\.py)`", page)
    assert len(files) > 10
    package = Path(errors.__file__).parent  # perhaps an installed one
    assert [name for name in files if not (package / name).exists() and not (ROOT / name).exists()] == []


def test_every_page_is_in_the_index() -> None:
    """A page that nobody can find, and for which the documentation is not built."""
    index = (ROOT / "docs/index.md").read_text()
    trees = "\n".join(re.findall(r"```\{toctree\}\n(.*?)```", index, re.S)).splitlines()
    names = [page.stem for page in PAGES if page.parent == ROOT / "docs" and page.stem != "index"]
    assert [name for name in names if name not in trees or f"({name}.md)" not in index] == []
