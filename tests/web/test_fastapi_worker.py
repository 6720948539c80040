"""The background worker of docs/fastapi.md, in virtual time."""

from __future__ import annotations

import logging
from typing import Any, Self

import pytest

from recall_async import StopSignal
from recall_async.jobs import JobStoreUnavailableError
from tests.virtual_time import run
from tests.web.conftest import SECRET, program


def test_the_worker_starts_again(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """After an outage of Redis, no process would perform jobs until the app is restarted."""
    monkeypatch.setenv("RECALL_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("RECALL_REDIS_URL", "redis://127.0.0.1:1")
    page: dict[str, Any] = {"__name__": "backend"}
    exec(compile(program("fastapi.md"), "fastapi.md", "exec"), page)
    stop, begun = StopSignal(), []

    class Jobs:
        """A queue whose Redis is away at first."""

        @classmethod
        def from_url(cls, url: str, **settings: Any) -> Self:
            return cls()

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *error: object) -> None:
            pass

        async def work(self, recall: Any, **settings: Any) -> None:
            begun.append(settings)
            if len(begun) < 3:
                raise JobStoreUnavailableError("the Redis of the jobs has not responded for 60 s")
            stop.set()

    page["JobQueue"] = Jobs
    with caplog.at_level(logging.ERROR):
        run(page["work_on_jobs"](None, stop))
    assert begun == [{"forever": True, "stop": stop}] * 3
    assert len(caplog.records) == 2
