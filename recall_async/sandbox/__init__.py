"""A local server that behaves like the API: for the demo, for this package's tests, and for users' test suites.

Of the client it uses only the table of operations, so it can find the client's faults.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .embedded import RecallSandbox, serve
    from .faults import Fault

__all__ = ["Fault", "RecallSandbox", "serve"]


def __getattr__(name: str) -> object:
    # pytest imports this package in every project that has the client installed: import the server only when it is
    # used.
    if name == "Fault":
        from .faults import Fault

        return Fault
    if name in ("RecallSandbox", "serve"):
        from . import embedded

        return getattr(embedded, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
