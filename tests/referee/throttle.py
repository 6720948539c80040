"""The quota of the servers that are strict: Django REST Framework's throttle, and what it made of the requests."""

from __future__ import annotations

from threading import Lock
from typing import Any, ClassVar


def throttle(limit: int, per: float) -> Any:
    """A `SimpleRateThrottle` that grants `limit` in any `per` seconds and records, as `accepted` and `rejected`, when
    requests came. Django must be configured.
    """
    from rest_framework.throttling import SimpleRateThrottle

    counting = Lock()

    class Throttle(SimpleRateThrottle):
        """One quota for everybody: whoever asks belongs to the one workspace there is."""

        rate = "as told"
        accepted: ClassVar[list[float]] = []
        rejected: ClassVar[list[float]] = []

        def parse_rate(self, rate: str) -> tuple[int, float]:
            return limit, per

        def get_cache_key(self, request: object, view: object) -> str:
            return "workspace"

        def allow_request(self, request: object, view: object) -> bool:
            # The throttle reads its cache and writes it back, which another thread must not do meanwhile.
            with counting:
                allowed: bool = super().allow_request(request, view)
                (self.accepted if allowed else self.rejected).append(self.now)
                return allowed

    return Throttle
