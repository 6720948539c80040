"""The number of requests in flight, limited so that the process does not run out of sockets."""

from __future__ import annotations

import sys

if sys.platform == "win32":
    _SOCKETS = 512
else:
    import resource

    _soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    _SOCKETS = 1024 if _soft == resource.RLIM_INFINITY else max(128, min(_soft, 1024))

MAX_IN_FLIGHT = _SOCKETS // 2
"""Requests of one lane, and so its connections, at most: half of what the process may have open."""
MAX_BULK_IN_FLIGHT = MAX_IN_FLIGHT - MAX_IN_FLIGHT // 8
"""The limit for bulk calls: the remaining connections are for interactive calls."""
