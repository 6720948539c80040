"""The programs of docs/redis.md are run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from recall_async.sandbox import RecallSandbox
from tests.redis.server import RedisProcess

PROGRAMS = re.findall(r"^```python\n(.*?)^```", (Path(__file__).parents[2] / "docs/redis.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program_runs(number: int, shared_redis: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader who copies this program gets an error."""
    with RecallSandbox(events=5, calendars=1) as sandbox:
        monkeypatch.setenv("RECALL_API_KEY", sandbox.api_key)
        monkeypatch.setenv("RECALL_BASE_URL", sandbox.url)
        monkeypatch.setenv("REDIS_URL", shared_redis.url)
        exec(compile(PROGRAMS[number], f"redis.md[{number}]", "exec"), {"__name__": "program"})
