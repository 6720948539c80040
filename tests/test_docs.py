"""The programs that README and docs show are run, against the sandbox."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
OWN_TESTS = {"webhooks.md", "sync.md", "redis.md", "jobs.md", "celery.md"}
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
