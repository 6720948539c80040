"""How many requests may be on their way at once before the process runs out of sockets."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    _SOCKETS = 512
else:
    import resource

    _soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    _SOCKETS = 1024 if _soft == resource.RLIM_INFINITY else max(128, min(_soft, 1024))

MAX_IN_FLIGHT = min(_SOCKETS // 2, 100)
"""Requests of one lane, and so its connections: at most 100, and half of what the process may have open.

A burst of more calls goes over these, in the lane's order, instead of opening a connection and shaking hands for each.
"""
MAX_BULK_IN_FLIGHT = MAX_IN_FLIGHT - MAX_IN_FLIGHT // 8
"""Of these, requests that may be on their way when a bulk call is admitted: the other places are for interactive calls."""
