"""A local server that behaves like the API: for the demo, for tests, and for users' own test suites.

It shares no logic with the client, so that it can prove the client wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .embedded import RecallSandbox, serve
    from .faults import Fault

__all__ = ["Fault", "RecallSandbox", "serve"]


def __getattr__(name: str) -> object:
    # pytest imports this package in every project that has the client installed: the server can wait until it is used.
    if name == "Fault":
        from .faults import Fault

        return Fault
    if name in ("RecallSandbox", "serve"):
        from . import embedded

        return getattr(embedded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
