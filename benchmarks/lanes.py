"""What the lanes that only benchmarks have are not asked for: sessions, reports, statistics."""

from __future__ import annotations

from recall_async import Quota
from recall_async.limits.contract import LaneStatistics


class PlainLane:
    """The part of a lane other than the admission of calls."""

    def __init__(self, quota: Quota) -> None:
        self.quota = quota

    def leave(self, quota: Quota | None) -> None: ...

    def statistics(self) -> LaneStatistics:
        return LaneStatistics(self.quota)

    async def flush(self) -> None: ...
