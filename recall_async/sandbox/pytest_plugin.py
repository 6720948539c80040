"""The pytest fixture `recall_sandbox`: a sandbox of its own for each test, in a thread, for tests of any kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .embedded import RecallSandbox


def pytest_configure(config: pytest.Config) -> None:
    """Makes the marker known that sets a test's sandbox up."""
    config.addinivalue_line(
        "markers", "recall_sandbox(**settings): arguments of RecallSandbox for the fixture recall_sandbox"
    )


@pytest.fixture
def recall_sandbox(request: pytest.FixtureRequest) -> Iterator[RecallSandbox]:
    """A running `RecallSandbox`: `url`, `api_key`, `report()`, `reset()`, `fault(...)`.

    `@pytest.mark.recall_sandbox(events=50, quota_scale=20)` sets it up differently; the closest marker decides.
    """
    from .embedded import RecallSandbox

    marker = request.node.get_closest_marker("recall_sandbox")
    with RecallSandbox(**(marker.kwargs if marker else {})) as sandbox:
        yield sandbox
