"""A server that counts with Django REST Framework's throttle, a strict sliding window, behind a network with delays.

    python -m benchmarks.throttle --limit N --per SECONDS

It prints its address as soon as it listens. A request waits for a random time up to `DELAY` before it is counted, and its
answer for another one. `GET /requests` tells the times of those that were accepted and rejected.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from random import Random

from tests.referee.throttle import throttle

from .processes import serving
from .server import Ok, Requests, answer, serve, too_many

DELAY = 0.2
"""Seconds each way, at the most."""


def strict_server(limit: int, per: float) -> AbstractContextManager[str]:
    """The address of such a server, in a process of its own."""
    return serving("benchmarks.throttle", "--limit", str(limit), "--per", f"{per:g}")


class Counted:
    """What the throttle made of the requests."""

    def __init__(self, limit: int, per: float) -> None:
        from django.conf import settings

        settings.configure(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
        self._throttle = throttle(limit, per)
        self._ok = Ok()

    def count(self, head: bytes) -> bytes:
        """The answer to a request that comes now and begins with `head`."""
        turn = self._throttle()
        if turn.allow_request(None, None):
            return self._ok.to(head)
        return too_many(math.ceil(turn.wait() or 1))

    def requests(self) -> bytes:
        """The answer to who asks what was seen."""
        found = {"accepted": self._throttle.accepted, "rejected": self._throttle.rejected}
        return answer(b"200 OK", json.dumps(found).encode())


class Distant(Requests):
    """A client whose requests and answers take their time."""

    def __init__(self, counted: Counted, delay: Callable[[], float]) -> None:
        super().__init__()
        self._counted = counted
        self._delay = delay

    def requested(self, head: bytes) -> None:
        if head.startswith(b"GET /requests "):
            self.transport.write(self._counted.requests())
        else:
            asyncio.get_running_loop().call_later(self._delay(), self._arrived, head)

    def _arrived(self, head: bytes) -> None:
        asyncio.get_running_loop().call_later(self._delay(), self.transport.write, self._counted.count(head))


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--per", type=float, required=True)
    options = parser.parse_args()
    counted, random = Counted(options.limit, options.per), Random(7)
    await serve(lambda: Distant(counted, lambda: random.uniform(0, DELAY)))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
