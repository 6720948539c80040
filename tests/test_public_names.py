"""What can be imported from the package itself, what that costs, and what is said where something is missing."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import recall_async

SOURCE = ast.parse(Path(recall_async.__file__).read_text())
LIGHT = [
    "RecallError", "APIError", "RateLimitedError", "CalendarEvent", "Calendar", "Page", "Attendee", "MeetingURL", "Quota",
    "Priority", "RetryPolicy", "LaneStatistics", "ScheduleBot", "RemoveBot", "Outcome", "WebhookVerifier", "Plan",
    "RecordingPolicy", "Deduplication", "Journal",
]  # fmt: skip


def typed() -> dict[str, str]:
    """Every name that type checkers see, with its module."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(SOURCE)
        if isinstance(node, ast.ImportFrom) and node.level and node.module
        for alias in node.names
    }


def run(program: str) -> str:
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_programs_and_type_checkers_see_the_same_names() -> None:
    """A name would be there for mypy and missing when the program runs, or the other way round, or be another thing."""
    assert set(typed()) == set(dir(recall_async))
    for name, module in typed().items():
        home = import_module(f"recall_async.{module}")
        assert getattr(recall_async, name) is getattr(home, name), name


def test_dir_shows_what_users_name() -> None:
    """Completion in an editor would offer `import_module`."""
    shown = run("import recall_async; print(*dir(recall_async))").split()
    assert [name for name in shown if name.startswith("_")] == ["__version__"]
    assert set(recall_async.__all__) < set(shown)
    assert {"WebhookVerifier", "CalendarSyncer", "RedisQuotaStore", "JobQueue", "RecallSandbox"} <= set(shown)


def test_names_that_do_not_exist() -> None:
    """A typo would end in an error that speaks of something else."""
    with pytest.raises(AttributeError, match="module 'recall_async' has no attribute 'Recall'"):
        recall_async.Recall  # noqa: B018


def test_errors_and_types_need_no_http_client() -> None:
    """A program that only catches errors or describes actions would wait half a second for aiohttp."""
    loaded = run(f"import sys; from recall_async import {', '.join(LIGHT)}; print(*sys.modules)").split()
    assert "recall_async.errors" in loaded
    assert not {"aiohttp", "redis", "click"} & set(loaded)


@pytest.mark.parametrize("name", ["RedisQuotaStore", "JobQueue"])
def test_missing_extras_are_named(name: str) -> None:
    """`No module named 'redis'` would not say what to install."""
    hidden = "import sys; sys.modules['redis'] = None\n"
    said = run(f"{hidden}try: from recall_async import {name}\nexcept ImportError as error: print(error)")
    assert name in said
    assert "pip install 'recall-async[redis]'" in said
    assert run(f"{hidden}from recall_async import *\nprint(RecallSession)")


def test_one_version() -> None:
    """The program would tell another version than the one that is installed."""
    assert recall_async.__version__ == version("recall-async")
