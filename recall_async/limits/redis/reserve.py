"""The local reserve: slots that a process may use while Redis is unavailable.

They are permanently subtracted from the shared limit, because a process that cannot reach Redis cannot know whether
the others can. A store has one reserve per quota, for all its event loops and threads. Forked processes share it with
their parent in an unnamed file. It is read and written only in outages.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import secrets
import tempfile
import weakref
from collections.abc import Iterator
from threading import Lock

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, which has no fork
    fcntl = None  # type: ignore[assignment]

from ...operations import QUOTA_PERIOD
from ..window import CLOCK_TOLERANCE
from .scripts import Terms

REMEMBERED = QUOTA_PERIOD * (1 + CLOCK_TOLERANCE)
"""The least seconds for which requests count: a quota with a shorter window may be followed by the API's own."""
LOOK_AT_MOST = 1.0
"""The most seconds between two checks of an empty reserve: another thread or process may free a slot."""


class LocalReserve:
    """At most `size` slots of each quota. Times are seconds of the monotonic clock, which all processes share.

    **The invariant.** A slot is in use until one window after the last moment at which the API may count its request:
    its response, or the end of the grace after it was lost. So the proof of window.py holds for the reserve by itself.
    Only the slot of a request that has not ended has a lease, because its process may have died; a request of a
    living process ends before its lease has one window left.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._file: int | None = None
        if size:
            self._file = _nameless_file()
            weakref.finalize(self, os.close, self._file)
        self._lock = Lock()
        _reserves.add(self)

    def take(self, quota: str, now: float, terms: Terms) -> tuple[str, float]:
        """Take a slot. Return its name and `now`, or `""` and a time to try again."""
        per = terms.per / 1e6
        with self._books(quota) as slots:
            for name in [name for name, ended in slots.items() if ended + max(per, REMEMBERED) <= now]:
                del slots[name]
            used = [back for ended in slots.values() if (back := ended + per) > now]
            if len(used) >= self.size:
                return "", min(*used, now + LOOK_AT_MOST)
            name = secrets.token_hex(6)  # not a number, which a fork, or a later process with its id, would use again
            slots[name] = now + terms.lease / 1e6 - per  # when its lease has one window left, if this process dies
            return name, now

    def give_back(self, quota: str, name: str, ended: float) -> None:
        """Free a slot one window after `ended`, the last moment at which the API may count its request: -inf if never."""
        with self._books(quota) as slots:
            if ended == -math.inf:
                slots.pop(name, None)
            else:
                slots[name] = ended

    @contextlib.contextmanager
    def _books(self, quota: str) -> Iterator[dict[str, float]]:
        """Yield the slots of a quota with the time one window after which each is freed, and write the changes."""
        assert self._file is not None
        with self._lock:
            if fcntl is not None:
                fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                os.lseek(self._file, 0, os.SEEK_SET)
                text = os.read(self._file, os.fstat(self._file).st_size)
                books: dict[str, dict[str, float]] = json.loads(text) if text else {}
                slots = books.setdefault(quota, {})
                yield slots
                if not slots:
                    del books[quota]
                text = json.dumps(books).encode()
                os.lseek(self._file, 0, os.SEEK_SET)
                os.write(self._file, text)
                os.ftruncate(self._file, len(text))
            finally:
                if fcntl is not None:
                    fcntl.lockf(self._file, fcntl.LOCK_UN)

    def renew(self) -> None:
        """Replace the lock in a forked process, in which the thread that holds it may not exist."""
        self._lock = Lock()


def _nameless_file() -> int:
    file, path = tempfile.mkstemp(prefix="recall-async-reserve-")
    with contextlib.suppress(OSError):  # Windows cannot remove an open file
        os.unlink(path)
    return file


_reserves: weakref.WeakSet[LocalReserve] = weakref.WeakSet()


def _renew() -> None:
    for reserve in list(_reserves):
        reserve.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
