"""What every test starts from: an environment that says nothing about Recall.ai."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from recall_async.limits.local import store
from recall_async.limits.loops import PerLoop

# The workers of the suite and the programs that tests start would compile each module anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# On a busy machine everything is slow, which says nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECALL_API_KEY", "RECALL_REGION", "RECALL_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _no_memory_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workspace is named after its server, and the port of an earlier test's server may be given out again."""
    monkeypatch.setattr(store, "_registry", PerLoop(store.Lanes))
    monkeypatch.setattr(store, "_memories", store.Memories())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests that keep the machine busy, and those that would notice, go one after the other."""
    for item in items:
        if item.get_closest_marker("slow") and item.path.parent.name in ("benchmarks", "referee", "redis"):
            item.add_marker(pytest.mark.xdist_group("alone"))
