"""A server that counts with Django REST Framework's throttle, a strict sliding window, behind a network with delays.

    python -m benchmarks.throttle --limit N --per SECONDS --delay SECONDS

It prints its address as soon as it listens. A request waits for a random time up to the delay before it is counted, and
its answer for another one. `GET /requests` tells the times of those that were accepted and rejected.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
from collections.abc import Callable
from contextlib import suppress
from random import Random

from .events import event
from .server import Requests, answer, serve, too_many


class Counted:
    """What the throttle made of the requests."""

    def __init__(self, limit: int, per: float) -> None:
        from django.conf import settings

        settings.configure(CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})

        from rest_framework.throttling import SimpleRateThrottle

        class Throttle(SimpleRateThrottle):
            rate = "as told"

            def parse_rate(self, rate: str) -> tuple[int, float]:
                return limit, per

            def get_cache_key(self, request: object, view: object) -> str:
                return "workspace"

        self._throttle = Throttle
        self._ok = answer(b"200 OK", event())
        self.accepted: list[float] = []
        self.rejected: list[float] = []

    def count(self) -> bytes:
        """The answer to a request that comes now."""
        throttle = self._throttle()
        if throttle.allow_request(None, None):
            self.accepted.append(throttle.now)
            return self._ok
        self.rejected.append(throttle.now)
        return too_many(math.ceil(throttle.wait() or 1))


class Distant(Requests):
    """A client whose requests and answers take their time."""

    def __init__(self, counted: Counted, delay: Callable[[], float]) -> None:
        super().__init__()
        self._counted = counted
        self._delay = delay

    def requested(self, head: bytes) -> None:
        if head.startswith(b"GET /requests "):
            found = {"accepted": self._counted.accepted, "rejected": self._counted.rejected}
            self.transport.write(answer(b"200 OK", json.dumps(found).encode()))
        else:
            asyncio.get_running_loop().call_later(self._delay(), self._arrived)

    def _arrived(self) -> None:
        asyncio.get_running_loop().call_later(self._delay(), self.transport.write, self._counted.count())


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--limit", type=int, required=True)
    parser.add_argument("--per", type=float, required=True)
    parser.add_argument("--delay", type=float, required=True)
    options = parser.parse_args()
    counted, random = Counted(options.limit, options.per), Random(7)
    await serve(lambda: Distant(counted, lambda: random.uniform(0, options.delay)))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
