"""The pytest fixture `recall_sandbox`: a separate sandbox for each test, in a thread, for tests of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .embedded import RecallSandbox


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker that configures a test's sandbox."""
    config.addinivalue_line(
        "markers", "recall_sandbox(**settings): arguments of RecallSandbox for the fixture recall_sandbox"
    )


@pytest.fixture
def recall_sandbox(request: pytest.FixtureRequest) -> Iterator[RecallSandbox]:
    """Run a `RecallSandbox` for one test: `url`, `api_key`, `report()`, `advance()`, `fault(...)` and more.

    `@pytest.mark.recall_sandbox(events=50, quota_scale=20)` passes arguments; the closest marker is used. The requests of
    earlier tests do not count, also for sessions with the same `workspace`. docs/testing.md
    """
    from ..limits.local.store import forget_unused
    from .embedded import RecallSandbox

    marker = request.node.get_closest_marker("recall_sandbox")
    arguments, settings = (marker.args, marker.kwargs) if marker else ((), {})
    forget_unused()
    with RecallSandbox(*arguments, **settings) as sandbox:
        yield sandbox
