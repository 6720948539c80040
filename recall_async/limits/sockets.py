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
"""The most requests in flight of one lane, and so its connections: half of the files that the process may open."""
MAX_BULK_IN_FLIGHT = MAX_IN_FLIGHT - MAX_IN_FLIGHT // 8
"""The limit for bulk calls: the remaining connections are for interactive calls."""
