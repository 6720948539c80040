"""The fixture as a project of its own uses it, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = """
import asyncio

import pytest

from recall_async import Quota, RecallSession

LIST = "calendar_events.list"


async def program(sandbox):
    quotas = {LIST: Quota(3, 300.0)}
    async with RecallSession(sandbox.api_key, base_url=sandbox.url, workspace="production", quotas=quotas) as recall:
        for _ in range(2):
            await recall.calendar_events.list_page(deadline=60.0)


@pytest.mark.parametrize("number", range(3))
def test_in_turn(recall_sandbox, number):
    asyncio.run(program(recall_sandbox))


loop = asyncio.new_event_loop()


@pytest.mark.parametrize("number", range(3))
def test_in_a_loop_that_stays_open(recall_sandbox, number):
    loop.run_until_complete(program(recall_sandbox))


@pytest.mark.recall_sandbox(50)
def test_marker(recall_sandbox):
    pass
"""


def test_in_a_project(tmp_path: Path) -> None:
    """A suite would wait a minute for the quota that its earlier tests used up; a marker would be ignored."""
    (tmp_path / "test_program.py").write_text(PROJECT)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert "6 passed, 1 error" in found.stdout, found.stdout
    assert "RecallSandbox.__init__() takes 1 positional argument" in found.stdout
