"""Classify the errors of Redis: those of the server, and those of a command.

| Redis responds | meaning, and what follows |
| --- | --- |
| nothing, `LOADING`, `BUSY` | unavailable or not ready: an outage; the message is repeated until Redis responds |
| `READONLY`, `MASTERDOWN` | not the primary, or not yet: the same, on another connection |
| `CLUSTERDOWN`, `TRYAGAIN` | no node of a cluster can run it now: this lane's message is repeated soon (slots.py) |
| `OOM`, `MISCONF`, `NOREPLICAS` | Redis cannot write: the same |
| `NOSCRIPT` | Redis does not have the scripts: they are sent in full (wire.py) |
| `NOAUTH`, `WRONGPASS`, `NOPERM` on connecting | Redis refuses the client: the calls of all lanes fail at once |
| a TLS certificate that is not valid | the same |
| `MOVED`, `ASK` | another node of a cluster has the keys: this lane's message is sent to it (slots.py) |
| `NOPERM`, `WRONGTYPE`, `ERR`, any other | Redis refuses this quota: the calls of this lane fail at once |

An outage concerns the connection, and all lanes wait. A refusal concerns only the lane whose command was refused. For a
store that was given one node of a cluster as if it were a single server, `MOVED` and `ASK` are refusals, and `CLUSTERDOWN`
and `TRYAGAIN` are outages.
"""

from __future__ import annotations

import re
import ssl

from redis.asyncio.sentinel import MasterNotFoundError
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

_OUTAGES = {
    *("LOADING", "BUSY", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "UNBLOCKED"),
    *("OOM", "MISCONF", "NOREPLICAS"),
}
_UNSETTLED = {"READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"}
_OUTAGE_TYPES = (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError, OutOfMemoryError)
_REFUSAL_TYPES = (AuthenticationError, AuthorizationError, NoPermissionError, ResponseError)
_LACKING_PERMISSION = re.compile("(?i)can't run this command|no permissions to ")  # the wordings of Redis and Valkey
_SENTINEL = re.compile(r"(?s)<redis\.asyncio\.client\.Redis\((?:.*?\)> - (?=[A-Z]\w*\()|.*)")
"""How redis-py shows a Sentinel, in some versions with its password, and before an error or cut off."""
_INSIDE_SCRIPT = re.compile(r"@user_script.*-([A-Z]+) ")  # how Redis 6 reports the error of a command in a script


def refuses(error: BaseException) -> bool:
    """True if Redis refuses the command or the client: it had no effect, and repeating it would not help.

    False for an outage, which an unknown error counts as: the message may have taken effect, and is repeated on another
    connection.
    """
    if isinstance(error, _OUTAGE_TYPES) or code(error) in _OUTAGES:
        return False
    return isinstance(error, _REFUSAL_TYPES) or _is_untrusted(error)


def _is_untrusted(error: BaseException) -> bool:
    """True if the TLS certificate is not valid for this client, which redis-py reports as a `ConnectionError`."""
    return isinstance(error.__cause__ or error.__context__, ssl.SSLCertVerificationError)


def unsettled(error: Exception) -> bool:
    """True if the server does not serve the keys now, because a replica takes over or keys are being moved."""
    return code(error) in _UNSETTLED or isinstance(
        error, (ReadOnlyError, MasterDownError, ClusterDownError, TryAgainError)
    )


def code(error: BaseException) -> str:
    """Return Redis' code of an error, if redis-py has kept it."""
    text = str(error)
    if inside := _INSIDE_SCRIPT.search(text):
        return inside[1]
    return text.partition(" ")[0]


def advice(error: Exception) -> str:
    """Return the error message, with what to do if that is not obvious. It shows no password."""
    if isinstance(error, MasterNotFoundError):
        return f"{without_sentinels(error)}: see whether the Sentinels run, know this service, and take the password"
    if isinstance(error, MovedError) or code(error) == "MOVED":
        where = str(error).removeprefix("MOVED ")
        return (
            f"MOVED {where}: this server is one node of a Redis Cluster, and the quota is kept on another. Use a "
            "redis+cluster:// URL, or pass a redis.asyncio.RedisCluster"
        )
    if _is_untrusted(error):
        return f"{str(error).rstrip('. ')}. For a certificate authority of your own, add ?ssl_ca_certs=FILE to the URL"
    if "cluster support disabled" in str(error):
        return f"{error}: this server is not a node of a Redis Cluster. Use a redis:// URL"
    if isinstance(error, NoPermissionError) or _LACKING_PERMISSION.search(str(error)):
        return f"{str(error).rstrip('. ')}. docs/redis.md lists the permissions that the user of Redis needs"
    return str(error) or type(error).__name__


def without_sentinels(error: MasterNotFoundError) -> str:
    """Return the message without how redis-py shows the Sentinels."""
    return _SENTINEL.sub("", str(error)).rstrip(" :")
