"""What every test starts from: an environment that says nothing about Recall.ai."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RECALL_API_KEY", "RECALL_REGION", "RECALL_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
