"""What the errors of Redis mean: which belong to the server, and which to what was asked of it.

| Redis says | what it means, and what follows |
| --- | --- |
| nothing, `LOADING`, `BUSY` | it is away or not ready: an outage; what was said is said again until it is heard |
| `READONLY`, `MASTERDOWN`, `CLUSTERDOWN`, `TRYAGAIN` | it is not the primary, or not yet: the same, on another connection |
| `OOM`, `MISCONF`, `NOREPLICAS` | it cannot write: the same |
| `NOSCRIPT` | it forgot the scripts: they are sent in full (wire.py) |
| `NOAUTH`, `WRONGPASS`, `NOPERM` on connecting | it refuses this program: the calls of all lanes fail at once |
| `NOPERM`, `WRONGTYPE`, `MOVED`, `ERR`, any other | it refuses this quota: the calls of this one lane fail at once |

An outage belongs to the connection, and all lanes wait. A refusal belongs to the lane that met it.
"""

from __future__ import annotations

import re
from enum import Enum

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)


class Failure(Enum):
    """What an error means for what was said."""

    OUTAGE = "outage"
    """It may or may not have been done: say it again, on another connection."""
    REFUSAL = "refusal"
    """It was not done, and saying it again is no use."""


_OUTAGES = {
    *("LOADING", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"),
    *("OOM", "MISCONF", "NOREPLICAS"),
}
_OUTAGE_TYPES = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError, OutOfMemoryError)
_REFUSAL_TYPES = (AuthenticationError, AuthorizationError, NoPermissionError, ResponseError)
_INSIDE_SCRIPT = re.compile(r"@user_script.*-([A-Z]+) ")  # how Redis 6 reports what a command of a script met


def meaning(error: Exception) -> Failure:
    """What an error of redis-py, or of the network, means. Whatever is not known to be a refusal is an outage."""
    if isinstance(error, _OUTAGE_TYPES) or code(error) in _OUTAGES:
        return Failure.OUTAGE
    return Failure.REFUSAL if isinstance(error, _REFUSAL_TYPES) else Failure.OUTAGE


def code(error: Exception) -> str:
    """The word with which Redis names an error, where redis-py has kept it."""
    text = str(error)
    if inside := _INSIDE_SCRIPT.search(text):
        return inside[1]
    return text.partition(" ")[0]


def advice(error: Exception) -> str:
    """What Redis said, and what to do where it is not obvious."""
    if isinstance(error, MovedError):
        return (
            f"MOVED {error}: this server is one node of a Redis Cluster, and the quota is kept on another. Choose "
            "the server by the workspace, as docs/redis.md shows"
        )
    return str(error) or type(error).__name__
