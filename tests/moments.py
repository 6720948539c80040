"""A hundred moments at which a process is killed, and a hundred at which it is suspended, in runs of some minutes."""

from __future__ import annotations

import signal
from typing import Any

import pytest

MOMENTS = 20
"""Signals in one slow run; there are five of each kind."""


def many_moments(test: Any) -> Any:
    """Run a slow test with each `seed`, and with each `number` of a signal."""
    for mark in (
        pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP]),
        pytest.mark.parametrize("seed", range(100 // MOMENTS)),
        pytest.mark.timeout(900),
        pytest.mark.slow,
    ):
        test = mark(test)
    return test
