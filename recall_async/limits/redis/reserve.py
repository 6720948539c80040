"""The local reserve: slots that a process may use on its own while Redis is away.

They are taken off the shared limit for good, and never given back to it: who is cut off from Redis cannot know whether the
others are, too. A store has one reserve for each quota, whatever event loops and threads it serves, and the processes that
are forked from the one that made it share it: it is kept in a file without a name, which they have in common. It is
read and written in outages only.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
import weakref
from collections.abc import Iterator
from threading import Lock

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where no process is forked
    fcntl = None  # type: ignore[assignment]

from .scripts import Terms

LOOK_AT_MOST = 1.0
"""Seconds between two looks at a reserve that is used up: a slot may come back in another thread or process."""


class LocalReserve:
    """At most `size` slots of each quota. Times are seconds of the monotonic clock, which all processes share."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._file: int | None = None
        if size:
            self._file = _nameless_file()
            weakref.finalize(self, os.close, self._file)
        self._lock = Lock()
        _reserves.add(self)

    def take(self, quota: str, now: float, terms: Terms) -> tuple[str, float]:
        """Take a slot. Returns its name and `now`; or `""`, and a time to try again."""
        with self._books(quota) as slots:
            for name in [name for name, back in slots.items() if back <= now]:
                del slots[name]
            if len(slots) >= self.size:
                return "", min(*slots.values(), now + LOOK_AT_MOST, math.inf)
            self._taken += 1
            name = f"{os.getpid()}-{self._taken}"
            slots[name] = now + terms.lease / 1e6  # should this process die
            return name, now

    def give_back(self, quota: str, name: str, at: float) -> None:
        """Have a slot come back at a time, or when its lease is over if that is sooner."""
        with self._books(quota) as slots:
            if name in slots:
                slots[name] = min(slots[name], at)

    @contextlib.contextmanager
    def _books(self, quota: str) -> Iterator[dict[str, float]]:
        """The slots of a quota that are taken, and when each comes back; what is changed is written."""
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
        """Begin anew in a forked process, in which the thread that held the lock may not exist."""
        self._lock = Lock()


def _nameless_file() -> int:
    file, path = tempfile.mkstemp(prefix="recall-async-reserve-")
    with contextlib.suppress(OSError):  # Windows removes no open file
        os.unlink(path)
    return file


_reserves: weakref.WeakSet[LocalReserve] = weakref.WeakSet()


def _renew() -> None:
    for reserve in list(_reserves):
        reserve.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
