"""Who shares what: one lane per (event loop, workspace, operation), whichever session asks for it.

The registry belongs to the event loop, because lanes do. It outlives the sessions, so that a session opened after
another was closed knows what that one sent; and what a loop sent that was closed, the next loop inherits. Two loops that
run at the same time, in two threads, cannot share a lane: a process that uses one workspace in both is told so, once,
and needs a store that can be shared.
"""

from __future__ import annotations

import logging
import math

from ..contract import QuotaLane
from ..loops import PerLoop
from ..quota import Quota, base_quota
from .lane import LocalLane

logger = logging.getLogger("recall_async")

Lanes = dict[tuple[str, str], LocalLane]
_registry: PerLoop[Lanes] = PerLoop(dict)
_legacy: Lanes = {}
"""Lanes of closed loops that no other loop has asked for yet."""
_told: set[str] = set()


class LocalQuotaStore:
    """The quota's state in this process, shared by everybody in the running event loop."""

    longest_request = math.inf

    def open(self, workspace: str, operation: str, quota: Quota | None) -> QuotaLane:
        lanes = _registry.get()
        lane = lanes.get((workspace, operation))
        if lane is None:
            lane = lanes[workspace, operation] = LocalLane(operation, quota or base_quota(operation))
            _inherit(lane, workspace, operation)
        lane.join(quota)
        return lane

    async def aclose(self) -> None:
        """Nothing is held open."""


def _inherit(lane: LocalLane, workspace: str, operation: str) -> None:
    for lanes in _registry.bequeathed():
        _legacy.update(lanes)
    if (earlier := _legacy.pop((workspace, operation), None)) is not None:
        lane.inherit(earlier)
    if workspace not in _told and any((workspace, operation) in lanes for lanes in _registry.others()):
        _told.add(workspace)
        logger.warning(
            "workspace %s is used in two event loops of this process at once: each keeps a quota of its own, so together "
            "they can overrun the server's. Use one loop, or share the quota: quota_store=RedisQuotaStore.from_url(...)",
            workspace,
        )
